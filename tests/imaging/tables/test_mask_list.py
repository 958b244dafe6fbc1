import pytest

from pipeline.imaging.tables.mask_list import masks_by_name, masks_for
from pipeline.imaging.tables.text_table import BadTable


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a_mask.nii", "a_seg.png", "a.seg.nrrd", "more/a-mask.PNG"])
def test_a_mask_has_the_name_of_its_scan_whatever_its_ending(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    for file in (name, "readme.txt", ".hidden", "other.nii.gz"):
        (tmp_path / file).touch()
    assert masks_for(["study/a.nii.gz", "b.nii.gz"], tmp_path) == {"study/a.nii.gz": tmp_path / name}


def test_two_masks_of_a_name_and_a_file_in_place_of_a_folder_are_refused(tmp_path):
    for file in ("a.nii", "a_mask.png"):
        (tmp_path / file).touch()
    with pytest.raises(BadTable, match="masks of the same name; keep one"):
        masks_by_name(tmp_path)
    with pytest.raises(BadTable, match="is no folder of masks"):
        masks_by_name(tmp_path / "a.nii")


def test_a_mask_with_the_name_of_two_scans_is_refused(tmp_path):
    (tmp_path / "t1.nii.gz").touch()
    with pytest.raises(BadTable, match=r"t1\.nii\.gz has the name of several scans; give a list"):
        masks_for(["p1/t1.nii.gz", "p2/t1.nii.gz"], tmp_path)
