"""Paths, names, folders and values as archives and people bring them."""

import json
import os
import shutil

import pytest

from pipeline.imaging.tables.scan_list import list_scans
from pipeline.imaging.tables.text_table import NOT_GIVEN
from pipeline.stages.cohort.importers.class_folders import find_in_class_folders
from pipeline.stages.cohort.importers.datalist import find_in_datalist
from pipeline.stages.cohort.importers.found import BadSource, describe, split_of, write_import
from pipeline.stages.cohort.importers.table import find_in_csv
from tests.stages.cohort.importers.conftest import write_image

COLUMNS = {"image": "image", "label": "label", "patient": None, "site": None, "split": None}


def of_csv(folder, *names):
    (folder / "t.csv").write_text("image,label\n" + "".join(f"{name},a\n" for name in names))
    return find_in_csv(folder / "t.csv", COLUMNS, {})


@pytest.mark.parametrize("form", ["{0}/a/1.png", "../{1}/a/1.png", "a/../a/1.png", "./a/1.png", "{0}/../{1}/a/1.png"])
def test_a_path_into_the_folder_lies_in_it_however_it_is_written(tmp_path, form):
    write_image(tmp_path / "source" / "a" / "1.png")
    found = of_csv(tmp_path / "source", form.format(tmp_path / "source", "source"))
    assert write_import(found, tmp_path / "raw", link=False) == []
    assert (tmp_path / "raw" / "images" / "a" / "1.png").is_file()


@pytest.mark.parametrize("form", ["{0}/b.png", "../b.png", "{0}/source", "."])
def test_a_path_out_of_the_folder_lies_outside(tmp_path, form):
    write_image(tmp_path / "b.png")
    (tmp_path / "source").mkdir()
    with pytest.raises(BadSource, match="lies outside"):
        of_csv(tmp_path / "source", form.format(tmp_path))


def test_absolute_paths_of_a_datalist_are_taken(tmp_path):
    image = write_image(tmp_path / "s" / "a.png")
    (tmp_path / "s" / "d.json").write_text(json.dumps({"training": [{"image": str(image), "label": 1}]}))
    found = find_in_datalist(tmp_path / "s" / "d.json", False, {})
    assert found.cases[0].row["image"] == "a.png"


SPLITS = ["validate", "Valid", "TEST", "train", "tst", "holdout", "dev", "eval"]


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize("below", ["", "images/"])
def test_folders_called_like_splits_are_splits(tmp_path, name, below):
    for label in ("cat", "dog"):
        write_image(tmp_path / name / below / label / "1.png")
        write_image(tmp_path / "training" / below / label / "1.png")
        if below:
            write_image(tmp_path / name / "masks" / label / "1.png")
    found = find_in_class_folders(tmp_path, None, {})
    assert {case.row["label"] for case in found.cases} == {"cat", "dog"} and len(found.cases) == 4
    assert {case.row["split"] for case in found.cases} == {"development", split_of(name, tmp_path)}
    assert len(found.left_out) == (2 if below else 0)


def test_splits_without_classes_are_refused_by_name(tmp_path):
    for split in ("train", "test"):
        for kind in ("images", "masks"):
            write_image(tmp_path / split / kind / "1.png")
    with pytest.raises(BadSource, match=r"holds 0 class folders \(below test, train\)"):
        find_in_class_folders(tmp_path, None, {})


def test_a_name_that_is_not_utf8_is_left_out_and_printed(tmp_path):
    for label in ("a", "b"):
        write_image(tmp_path / "s" / label / "x.png")
    odd = os.fsencode(tmp_path / "s" / "a") + b"/K\xf6ln.png"
    shutil.copy(tmp_path / "s" / "a" / "x.png", odd)
    found = find_in_class_folders(tmp_path / "s", None, {})
    assert len(found.cases) == 2 and "K\\xf6ln.png: its name is not UTF-8" in describe(found)
    describe(found).encode()
    assert write_import(found, tmp_path / "raw", link=False) == []
    names = [scan.name for scan in list_scans(tmp_path / "s", "image")]
    assert "a/K\\xf6ln.png" in names and len(names) == 3


@pytest.mark.parametrize("nothing", [None, float("nan"), "", "  ", *NOT_GIVEN])
@pytest.mark.parametrize("key", ["patient", "patient_id", "subject", "site", "label", "age"])
def test_null_nan_and_blanks_of_a_datalist_are_not_given(tmp_path, key, nothing):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    entries = [{"image": "a.png", "label": "x", key: nothing}, {"image": "b.png", "label": "y", "age": 4.0}]
    (tmp_path / "d.json").write_text(json.dumps({"training": entries}))
    first, second = (case.row for case in find_in_datalist(tmp_path / "d.json", False, {}).cases)
    given = {"patient": "patient_id", "subject": "patient_id"}.get(key, key)
    assert first.get(given, "") == "" and second["patient_id"] == second["site"] == ""


def test_an_empty_patient_does_not_hide_another_key(tmp_path):
    write_image(tmp_path / "a.png")
    entry = {"image": "a.png", "label": "x", "patient": None, "subject": 7.0}
    (tmp_path / "d.json").write_text(json.dumps({"training": [entry]}))
    assert find_in_datalist(tmp_path / "d.json", False, {}).cases[0].row["patient_id"] == "7"
