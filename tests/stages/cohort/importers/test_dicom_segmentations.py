from functools import partial

import nibabel as nib
import numpy as np
import pydicom
import pytest

from pipeline.imaging.masks.matching import on_scan
from pipeline.imaging.masks.reading import read_mask
from pipeline.imaging.reading.scan import STRICT
from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.imaging.tables.pseudonyms import PUBLIC_SALT, pseudonym
from pipeline.stages.cohort.importers.dicom_tree import Choices, find_in_dicom_tree
from pipeline.stages.cohort.importers.found import describe, write_import
from tests.imaging.phantoms import OF_A_PATIENT, save_series, segments

SHAPE = (10, 8, 6)  # of a volume in RAS+


def series(folder, patient, uid):
    """Write a series; the voxels that its segmentation marks are above 600."""
    volume = np.random.default_rng(int(uid[-1])).integers(1, 500, SHAPE).astype(np.int16)
    volume[3:7, 2:5, 1:4] += 1000
    more = OF_A_PATIENT | {"PatientID": patient, "StudyInstanceUID": f"{uid}.9", "SeriesInstanceUID": uid}
    return save_series(folder, volume, "LPS", (1.0, 1.5, 2.0), **more)


def slices_of(folder):
    """Read the slices of a series, from the feet to the head."""
    files = [pydicom.dcmread(file) for file in folder.iterdir()]
    return sorted(files, key=lambda one: one.ImagePositionPatient[2])


def marked(slices):
    return np.stack([one.pixel_array > 600 for one in slices]).astype(np.uint8)


def segment(folder, file, count=1, *, only=slice(None)):
    """Write a segmentation of a series, or of some of its slices only."""
    slices = slices_of(folder)[only]
    made = segments(slices, marked(slices), count=count, name="lesion of Doe")
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(file)
    return made


def found_in(folder, **choices):
    return find_in_dicom_tree(folder, Choices(**choices), partial(pseudonym, PUBLIC_SALT))


@pytest.fixture
def tree(tmp_path):
    """Three series of two patients, with segmentations of the second and of some slices of the third."""
    for patient, uid in (("P1", "1.2.71"), ("P1", "1.2.72"), ("P2", "1.2.73")):
        series(tmp_path / "export" / patient / uid, patient, uid)
    segment(tmp_path / "export/P1/1.2.72", tmp_path / "export/one.dcm")
    segment(tmp_path / "export/P2/1.2.73", tmp_path / "export/P2/other.dcm", only=slice(1, 4))
    return tmp_path / "export"


@pytest.mark.parametrize("link", [False, True])
def test_a_segmentation_becomes_the_mask_of_its_series(tree, tmp_path, link):
    found = found_in(tree, link=link)
    assert found.left_out == [] and "2 of 3 images have a mask" in found.notes
    assert "labels of the masks: 1 is lesion of Doe 1 in 2" in found.notes
    assert write_import(found, tmp_path / "raw", link) == []
    table = read_cohort_table(tmp_path / "raw").set_index("case_id")
    assert [bool(mask) for mask in table.loc[["1.2.71", "1.2.72", "1.2.73"], "mask"]] == [False, True, True]
    for uid in ("1.2.72", "1.2.73"):
        scan = read_scan(tmp_path / "raw" / table.loc[uid, "image"])
        mask = read_mask(tmp_path / "raw" / table.loc[uid, "mask"], STRICT)
        assert np.array_equal(on_scan(mask, scan), scan.voxels[0] > 600)


def test_a_copied_mask_holds_nothing_of_the_header(tree, tmp_path):
    write_import(found_in(tree), tmp_path / "raw", False)
    copies = sorted((tmp_path / "raw").rglob("*.nii.gz"))
    assert len(copies) == 2
    assert not any(b"Doe" in nib.load(file).header.binaryblock or "P1" in str(file) for file in copies)


def test_a_series_with_several_segmentations_gets_none_and_all_are_named(tree):
    segment(tree / "P1/1.2.72", tree / "two.dcm")
    found = found_in(tree)
    reason = "series 1.2.72 has several segmentations (one.dcm, two.dcm) and so gets no mask: keep one in the folder"
    assert found.left_out == [("one.dcm", reason), ("two.dcm", reason)]
    assert {case.row["case_id"]: bool(case.row["mask"]) for case in found.cases} == {
        **{"1.2.71": False, "1.2.72": False, "1.2.73": True}
    }
    assert reason in describe(found)


def test_a_segmentation_of_no_series_of_the_tree_is_left_out(tree, tmp_path):
    stranger = series(tmp_path / "elsewhere", "P3", "1.2.79")
    segment(stranger, tree / "stranger.dcm")
    (tree / "copy.dcm").write_bytes((tree / "one.dcm").read_bytes())
    assert sorted(found_in(tree).left_out) == [
        ("one.dcm", "another file holds the same segmentation"),
        ("stranger.dcm", "a segmentation of no series that was taken"),
    ]


def test_a_segmentation_is_no_scan_whatever_modality_it_states(tree):
    for name in ("one.dcm", "P2/other.dcm"):
        fields = pydicom.dcmread(tree / name)
        fields.Modality = "CT"
        fields.save_as(tree / name)
    found = found_in(tree)
    assert [case.row["case_id"] for case in found.cases] == ["1.2.71", "1.2.72", "1.2.73"]
    assert sum(bool(case.row["mask"]) for case in found.cases) == 2


def test_a_segmentation_that_names_images_alone_finds_their_series(tree):
    fields = pydicom.dcmread(tree / "one.dcm")
    del fields.ReferencedSeriesSequence
    fields.save_as(tree / "one.dcm")
    assert [bool(case.row["mask"]) for case in found_in(tree).cases] == [False, True, True]


def test_overlapping_segments_are_linked_and_not_copied(tree):
    slices = slices_of(tree / "P1/1.2.71")
    both = np.stack([marked(slices), marked(slices) & (np.arange(SHAPE[0]) > 4)], axis=-1)
    segments(slices, both).save_as(tree / "both.dcm")
    found = found_in(tree)
    assert found.left_out == [
        ("both.dcm", "a segmentation whose segments overlap, which a copy cannot hold: use --link")
    ]
    assert all(case.row["mask"] for case in found_in(tree, link=True).cases)


def test_a_damaged_segmentation_is_left_out_and_its_series_taken(tree):
    fields = pydicom.dcmread(tree / "one.dcm")
    fields.PixelData = fields.PixelData[:4]
    fields.save_as(tree / "one.dcm")
    found = found_in(tree)
    assert len(found.cases) == 3 and [name for name, _ in found.left_out] == ["one.dcm"]
    assert "a segmentation that cannot be read" in found.left_out[0][1]


def test_a_tree_without_segmentations_gets_no_column(tmp_path):
    series(tmp_path / "export", "P1", "1.2.71")
    assert "mask" not in found_in(tmp_path / "export").cases[0].row
