import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.scan_list import documents_in, list_scans
from pipeline.imaging.tables.text_table import BadTable
from tests.conftest import save_nifti
from tests.imaging.phantoms import data_set, save, save_series


@pytest.fixture
def folder(tmp_path, asymmetric):
    """Write scans of several formats with companion files, other files, and hidden files."""
    root = tmp_path / "inbox"
    save_nifti(root / "b.nii.gz", asymmetric)
    save_series(root / "deep" / "series", asymmetric.astype(np.int16))
    (root / "two.mhd").write_text("ObjectType = Image\nElementDataFile = two.raw\n")
    (root / "two.raw").write_bytes(b"0")
    (root / "letter.txt").write_text("Dear colleague")
    (root / ".DS_Store").write_text("x")
    return root


def test_a_folder_gives_every_file_below_it_readable_or_not(folder):
    found = list_scans(folder, "volume")
    assert [scan.name for scan in found] == ["b.nii.gz", "deep/series", "two.mhd"]
    assert documents_in(folder) == ["letter.txt"]
    assert read_scan(found[0].file).voxels.shape == read_scan(found[1].file).voxels.shape


def test_a_dicom_series_is_one_volume_or_many_images(folder):
    series = folder / "deep" / "series"
    assert [(scan.name, scan.file) for scan in list_scans(series, "volume")] == [("series", series)]
    assert len(list_scans(series, "image")) == 10
    save(data_set(np.zeros((4, 4), dtype=np.uint16)), series.parent / "lone")  # a file without an ending
    assert list_scans(series.parent, "image")[0].name == "lone"


def test_a_file_is_itself_whether_it_can_be_read_or_not(folder):
    for name in ("b.nii.gz", "letter.txt", "nowhere.nii"):
        assert [scan.file for scan in list_scans(folder / name, "volume")] == [folder / name]


@pytest.mark.parametrize("image", ["image", "scan"])
def test_a_table_gives_paths_relative_to_itself_and_known_columns(tmp_path, image):
    rows = {image: ["x/a.png", "b.png"], "case_id": ["1", "2"], "site": ["north", ""], "label": ["ill", "well"]}
    pd.DataFrame(rows).to_csv(tmp_path / "list.csv", index=False)
    first, second = list_scans(tmp_path / "list.csv", "image")
    assert first.file == tmp_path / "x" / "a.png" and first.name == "x/a.png"
    assert first.known == {"case": "1", "site": "north", "label": "ill"} and second.known["site"] == ""


def test_a_folder_with_a_cohort_table_is_that_table(tmp_path):
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "other.png")
    pd.DataFrame({"image": ["a.png"], "patient_id": ["p"]}).to_csv(tmp_path / "cohort.csv", index=False)
    assert [(scan.name, scan.known) for scan in list_scans(tmp_path, "image")] == [("a.png", {"patient": "p"})]


@pytest.mark.parametrize(
    ("content", "told"),
    [("file\na.png\n", "lacks a column image or scan"), ("image\n", "has no rows"), (None, "does not exist")],
)
def test_a_table_without_images_is_refused_with_what_it_needs(tmp_path, content, told):
    if content is not None:
        (tmp_path / "list.csv").write_text(content)
    with pytest.raises(BadTable, match=told):
        list_scans(tmp_path / "list.csv", "image")


def test_an_empty_folder_and_a_table_that_is_no_text_are_refused(tmp_path):
    with pytest.raises(BadTable, match="is empty"):
        list_scans(tmp_path, "volume")
    (tmp_path / "README").write_text("x")
    with pytest.raises(BadTable, match="holds no image, only other files such as README"):
        list_scans(tmp_path, "volume")
    (tmp_path / "list.csv").write_bytes(b"image\n\xff\xfe\x00")
    with pytest.raises(BadTable, match="UTF-8"):
        list_scans(tmp_path / "list.csv", "volume")
