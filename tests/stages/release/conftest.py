"""A project whose cohort has calibration cases."""

import pytest

from tests.stages.clinic import cohort


@pytest.fixture
def calibrated(project):
    """Two images in five of the development sites are there to calibrate on."""

    def write(**changes):
        root = project(**{"finetune__strategy": "probe"} | changes)
        if not (root / "marked").exists():
            cohort(root, marked)
            (root / "marked").touch()
        return root

    return write


def marked(table):
    number = table["patient_id"].str.split().str[-1].astype(int)
    some = (table["split"] == "") & number.isin([0, 1, 3, 4, 6, 7])
    return table.assign(split=table["split"].where(~some, "calibration"))
