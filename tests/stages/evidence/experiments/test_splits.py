import pandas as pd
import pytest

from pipeline import paths
from pipeline.paths import Role
from pipeline.stages.evidence.experiments.splits import Split, on_test_set, sites_left_out

ROLES = {
    "a": ("north", Role.TRAIN),
    "b": ("north", Role.VALIDATION),
    "c": ("south st.", Role.TRAIN),
    "d": ("south st.", Role.UNLABELLED),
    "e": ("north", Role.UNLABELLED),
    "f": ("harbour", Role.TEST),
    "g": ("harbour", Role.UNLABELLED),
    "h": ("north", Role.CALIBRATION),
}


@pytest.fixture
def assigned(tmp_path, monkeypatch):
    """Write who does what in the final model."""
    monkeypatch.chdir(tmp_path)

    def write(roles):
        rows = [(case, f"patient of {case}", site, "ill", role.value) for case, (site, role) in roles.items()]
        paths.write_table(
            pd.DataFrame(rows, columns=["case", "patient", "site", "label", "role"]), paths.split("final")
        )

    write(ROLES)
    return write


def roles(split):
    return dict(zip(split.cases["case"], split.cases["role"], strict=True))


def test_site_left_out_takes_all_its_images_and_test_cases_stay_unused(assigned):
    north, south = sites_left_out()
    assert (north.name, south.name) == ("without-north", "without-south-st-")
    assert list(north.evaluated["case"]) == ["a", "b"] and list(south.evaluated["case"]) == ["c"]
    for split, here in ((north, "north"), (south, "south st.")):
        seen = split.cases[split.cases["role"].isin([Role.TRAIN, Role.VALIDATION, Role.UNLABELLED])]
        assert here not in set(seen["site"])
        assert roles(split)["f"] == Role.EXCLUDED
    assert roles(north)["g"] == Role.UNLABELLED and roles(north)["e"] == roles(north)["h"] == Role.EXCLUDED


def test_a_single_site_cannot_be_left_out(assigned):
    assigned({case: known for case, known in ROLES.items() if known[0] != "south st."})
    assert sites_left_out() == []


def test_test_cases_are_evaluated_by_what_learned_from_all_others(assigned):
    split = on_test_set()
    assert (
        split.name == "final"
        and list(split.evaluated["case"]) == ["f"]
        and list(split.labelled["case"]) == ["a", "b", "c"]
    )
    assigned({case: known for case, known in ROLES.items() if known[1] != Role.TEST})
    assert on_test_set() is None


def test_fewer_labels_leave_evaluated_and_unlabelled_cases_what_they_were(assigned):
    split = Split("final", paths.read_table(paths.split("final")))
    some = split.only(["a", "c"], validation=["c"])
    assert roles(some) == roles(split) | {"b": Role.EXCLUDED, "c": Role.VALIDATION}
