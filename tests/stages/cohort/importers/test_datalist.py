import json

import pytest

from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.stages.cohort.importers.datalist import find_in_datalist
from pipeline.stages.cohort.importers.found import BadSource, write_import
from tests.stages.cohort.importers.conftest import write_image

NAMES = {"0": "well", "1": "ill"}


def datalist(folder, labels=None, **lists):
    for entries in lists.values():
        for entry in entries:
            image = entry if isinstance(entry, str) else entry["image"]
            write_image(folder / image)
    (folder / "dataset.json").write_text(json.dumps({"name": "x", "labels": labels or NAMES, "numTest": 1} | lists))
    return folder / "dataset.json"


def label_of(folder, label, labels=None, unlabelled=False):
    """The one label read, or the reason why not."""
    found = find_in_datalist(datalist(folder, labels, training=[{"image": "a.png", "label": label}]), unlabelled, {})
    return found.cases[0].row["label"] if found.cases else found.left_out[0][1]


def test_lists_become_a_cohort_and_what_has_no_label_is_unlabelled(tmp_path):
    file = datalist(
        tmp_path / "source",
        training=[{"image": "./deep/a.png", "label": 0, "patient_id": 7, "site": "N", "fold": 2}],
        validation=[{"image": "b.png", "label": 1, "subject": "s8"}],
        test=["c.png", {"image": "d.png", "label": 1}],
    )
    found = find_in_datalist(file, False, {"ill": "diseased"})
    write_import(found, tmp_path / "raw", link=True)
    cohort = read_cohort_table(tmp_path / "raw")
    assert cohort["case_id"].tolist() == ["deep/a.png", "b.png", "c.png", "d.png"]
    assert cohort["label"].tolist() == ["well", "diseased", "", "diseased"]
    assert cohort["split"].tolist() == ["development", "development", "unlabelled", "test"]
    assert cohort["patient_id"].tolist() == ["7", "s8", "c.png", "d.png"] and cohort["site"][0] == "N"
    assert [case.row.get("fold") for case in found.cases] == ["2", "", "", ""]


@pytest.mark.parametrize("labels", [{"0": "well", "1": "ill"}, {"well": 0, "ill": 1}, ["well", "ill"]])
@pytest.mark.parametrize("label", [1, "1", 1.0, True, [1], [0, 1], [0.0, 1.0], "ill"])
def test_a_class_is_read_however_it_is_written(tmp_path, label, labels):
    assert label_of(tmp_path, label, labels) == "ill"


def test_without_names_an_index_stays_an_index(tmp_path):
    file = datalist(tmp_path, training=[{"image": "a.png", "label": [0, 0, 1]}])
    file.write_text(file.read_text().replace('"labels"', '"not_labels"'))
    assert find_in_datalist(file, False, {}).cases[0].row["label"] == "2"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (5, "5 is not among the file's labels"),
        ([1, 1], "not one-hot"),
        ([], "not one-hot"),
        ([0.2, 0.8], "not one-hot"),
        ({"x": 1}, "no class index"),
        (0.5, "no class index"),
        ("labelsTr/a.nii.gz", "a segmentation, which is no class; --unlabelled takes"),
    ],
)
def test_a_label_that_is_no_class_leaves_the_image_out_with_the_reason(tmp_path, label, reason):
    assert reason in label_of(tmp_path, label)


def test_images_with_segmentations_are_taken_without_class_if_asked(tmp_path):
    file = datalist(tmp_path, training=[{"image": "a.png", "label": "labelsTr/a.nii.gz"}])
    (row,) = [case.row for case in find_in_datalist(file, True, {}).cases]
    assert (row["label"], row["split"]) == ("", "unlabelled")


def test_entries_and_lists_that_are_not_understood_are_reported(tmp_path):
    file = datalist(tmp_path, training=[{"image": "a.png", "label": 1}], extras=["b.png"])
    content = json.loads(file.read_text())
    content["training"] += [{"image": ["t1.nii", "t2.nii"], "label": 1}, 7, {"image": "gone.png", "label": 1}]
    file.write_text(json.dumps(content))
    assert dict(find_in_datalist(file, False, {}).left_out) == {
        "extras (1 entries)": "the list is none of training, validation, test",
        "training[1]": "it does not name one image",
        "training[2]": "it does not name one image",
        "gone.png": "the file is not there",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a datalist; it needs lists"),
        ('{"labels": {"a": 0}, "file_ending": ".nii"}', "none of the lists .*; it has labels, file_ending"),
    ],
)
def test_a_file_that_is_no_datalist_is_refused_by_name(tmp_path, text, said):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(BadSource, match=rf"dataset\.json.*{said}"):
        find_in_datalist(tmp_path / "dataset.json", False, {})
    with pytest.raises(BadSource, match="is not there; name the JSON file"):
        find_in_datalist(tmp_path, False, {})
