"""A project with a site to adapt to."""

import pandas as pd
import pytest


@pytest.fixture
def sites(project):
    """A cohort of which every other patient of the outer site is there without a label."""

    def write(**changes):
        short = dict(adapt__epochs=1, adapt__batch_size=8, adapt__strength=0.5)
        root = project(**(short | changes))
        table = pd.read_csv(root / "data/raw/clinic/cohort.csv", keep_default_na=False)
        number = table["patient_id"].str.split().str[-1].astype(int)
        unlabelled = (table["site"] == "outside") & (number % 2 == 0)
        table.loc[unlabelled, ["label", "split"]] = ["", "unlabelled"]
        table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
        return root

    return write
