import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.__main__ import main
from pipeline.stages.cohort.importers.datalist import find_in_datalist
from pipeline.stages.cohort.importers.found import BadSource, write_import
from pipeline.stages.cohort.importers.masks import attach_masks
from pipeline.stages.cohort.importers.table import find_in_csv

COLUMNS = {"image": "image", "label": "label", "patient": None, "site": None, "split": None}


def image_of(file, value=7):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(file)
    return file


def volume(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.arange(27, dtype=np.uint8).reshape(3, 3, 3), np.eye(4)), file)


def table(folder, **columns):
    folder.mkdir(exist_ok=True)
    pd.DataFrame(columns).to_csv(folder / "list.csv", index=False)
    return folder / "list.csv"


def written(found, into):
    assert write_import(found, into, link=False) == []
    return pd.read_csv(into / "cohort.csv", keep_default_na=False).set_index("case_id")


def test_a_column_of_a_table_names_masks(tmp_path):
    for name in ("a.png", "b.png", "masks/a.png"):
        image_of(tmp_path / "source" / name)
    file = table(tmp_path / "source", image=["a.png", "b.png"], label=["x", "y"], lesion=["masks/a.png", ""])
    rows = written(find_in_csv(file, COLUMNS | {"mask": "lesion"}, {}), tmp_path / "cohort")
    assert rows["mask"].to_dict() == {"a.png": "images/masks/a.png", "b.png": ""}
    assert (tmp_path / "cohort/images/masks/a.png").read_bytes() == (tmp_path / "source/masks/a.png").read_bytes()


def test_an_image_whose_mask_is_absent_or_elsewhere_is_not_taken(tmp_path):
    image_of(tmp_path / "source" / "a.png")
    file = table(tmp_path / "source", image=["a.png"], label=["x"], mask=["gone.png"])
    assert find_in_csv(file, COLUMNS | {"mask": "mask"}, {}).left_out == [("a.png", "its mask: the file is not there")]
    image_of(tmp_path / "other.png")
    file = table(tmp_path / "source", image=["a.png"], label=["x"], mask=["../other.png"])
    with pytest.raises(BadSource, match="lies outside"):
        find_in_csv(file, COLUMNS | {"mask": "mask"}, {})


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("imagesTr/case_001_0000.nii.gz", "case_001.nii.gz"),  # nnU-Net
        ("sub-1_ses-2_T1w.nii.gz", "sub-1/ses-2/anat/sub-1_ses-2_space-orig_desc-lesion_mask.nii.gz"),  # BIDS
        ("sub-1_T1w.nii.gz", "sub-1_label-tumour_dseg.nii.gz"),
        ("scan.nii.gz", "scan_mask.nii.gz"),
        ("scan.nii.gz", "scan.nii"),
    ],
)
def test_masks_of_a_folder_are_found_by_the_names_of_their_images(tmp_path, image, mask):
    volume(tmp_path / "source" / image)
    volume(tmp_path / "masks" / mask)
    volume(tmp_path / "masks" / "stranger.nii.gz")
    file = table(tmp_path / "source", image=[image], label=["x"])
    words = ["import", "csv", str(file), "--masks", str(tmp_path / "masks"), "--into", str(tmp_path / "cohort")]
    assert main(words) == 0
    row = pd.read_csv(tmp_path / "cohort/cohort.csv").iloc[0]
    assert row["mask"] == f"images/masks/{mask}" and (tmp_path / "cohort" / row["mask"]).is_file()


def test_masks_without_images_are_told_and_none_at_all_is_refused(tmp_path):
    image_of(tmp_path / "source" / "a.png")
    image_of(tmp_path / "masks" / "b.png")
    found = find_in_csv(table(tmp_path / "source", image=["a.png"], label=["x"]), COLUMNS, {})
    with pytest.raises(BadSource, match=r"has the name of an image, e\.g\. a\.nii\.gz; rename them"):
        attach_masks(found, tmp_path / "masks")
    image_of(tmp_path / "masks" / "a_mask.png")
    attach_masks(found, tmp_path / "masks")
    assert found.notes[-1] == "1 of 1 images have a mask"
    assert [reason for _, reason in found.left_out] == ["a mask of no image that was taken"]
    image_of(tmp_path / "masks" / "more" / "a.png")
    with pytest.raises(BadSource, match="are masks of the same name; keep one"):
        attach_masks(found, tmp_path / "masks")
    with pytest.raises(BadSource, match="is no folder of masks"):
        attach_masks(found, tmp_path / "nowhere")


def test_two_derivatives_of_one_subject_are_refused(tmp_path):
    image_of(tmp_path / "source" / "sub-1_T1w.png")
    for name in ("sub-1_desc-brain_mask.png", "sub-1_space-T1w_label-lesion_mask.png"):
        image_of(tmp_path / "masks" / name)
    found = find_in_csv(table(tmp_path / "source", image=["sub-1_T1w.png"], label=["x"]), COLUMNS, {})
    with pytest.raises(BadSource, match="are masks of the same image; name a folder with one"):
        attach_masks(found, tmp_path / "masks")


def test_a_datalist_names_masks_or_segmentations_as_labels(tmp_path):
    for name in ("a.png", "b.png", "c.png", "labelsTr/a.png", "labelsTr/b.png"):
        image_of(tmp_path / "source" / name)
    entries = [
        {"image": "./a.png", "label": "./labelsTr/a.png"},
        {"image": "b.png", "label": "ill", "mask": "labelsTr/b.png"},
        {"image": "c.png", "label": "well"},
    ]
    file = tmp_path / "source" / "dataset.json"
    file.write_text(json.dumps({"training": entries}))
    found = find_in_datalist(file, False, {}, segmentations=True)
    rows = written(found, tmp_path / "cohort")
    assert rows["mask"].to_dict() == {"a.png": "images/labelsTr/a.png", "b.png": "images/labelsTr/b.png", "c.png": ""}
    assert rows["label"].to_dict() == {"a.png": "", "b.png": "ill", "c.png": "well"}
    refused = find_in_datalist(file, False, {}).left_out
    assert [name for name, _ in refused] == ["./a.png"] and "its label is a segmentation" in refused[0][1]
