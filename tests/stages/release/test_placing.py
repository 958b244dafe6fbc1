"""Where a bundle goes, and which others stay."""

import json
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import MANIFEST, sha256_of
from pipeline.params import cohort_digest
from pipeline.stages.release.placing import UNFINISHED, others_of, problems_of_place, written_whole


@pytest.fixture(autouse=True)
def in_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths.CASES.parent.mkdir(parents=True)
    paths.CASES.write_text("case\n")


def bundle(folder, cases="", **metadata):
    place = paths.bundle(folder)
    (place / METADATA).parent.mkdir(parents=True)
    (place / METADATA).write_text(json.dumps({"name": folder} | metadata))
    (place / MANIFEST).write_text(json.dumps({"data": {"cases": cases}}))
    return place


def names():
    return {folder.name for folder in paths.RELEASED.iterdir()}


def test_bundle_of_another_cohort_is_refused_with_the_cure():
    said = "data/released/mine holds a model of another cohort; choose another release.name, or move that folder"
    assert problems_of_place(bundle("mine", cohort="b"), "a") == [said]


def test_free_place_and_earlier_bundle_of_the_cohort_are_taken():
    for place in (paths.bundle("free"), bundle("mine", cohort="a")):
        assert problems_of_place(place, "a") == []


def test_bundle_without_a_cohort_is_known_by_its_cases():
    assert problems_of_place(bundle("old", cases=sha256_of(paths.CASES)), "a") == []
    assert "a model that does not name its cohort; choose" in problems_of_place(bundle("older", cases="other"), "a")[0]
    paths.CASES.unlink()
    assert problems_of_place(paths.bundle("old"), "a")


def test_bundles_of_the_cohort_under_other_names_are_listed_and_stay():
    mine, former, other = bundle("mine", cohort="a"), bundle("former", cohort="a"), bundle("other", cohort="b")
    (bundle("broken") / METADATA).write_text("{")
    assert others_of(mine, "a") == [former]
    assert names() == {"mine", "former", other.name, "broken"}


def test_cohorts_in_folders_of_one_name_are_told_apart_in_every_clone():
    digest = cohort_digest("data/raw/north/images")
    assert digest != cohort_digest("data/raw/south/images")
    assert digest == cohort_digest("data/raw/north/images/") == cohort_digest(Path("data/raw/north/images").absolute())


def test_bundle_that_fails_leaves_the_one_before():
    place = bundle("mine", cohort="a")
    with pytest.raises(RuntimeError), written_whole(place) as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert names() == {"mine"} and (place / METADATA).exists()


def test_bundle_replaces_the_one_before_whole():
    place = bundle("mine", cohort="a")
    (UNFINISHED / "of a killed run").mkdir(parents=True)
    with written_whole(place) as folder:
        (folder / "new").touch()
    assert names() == {"mine"} and [file.name for file in place.iterdir()] == ["new"]
