from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from tests.conftest import shared
from tests.imaging.phantoms import ENCODERS, ORIENTATIONS, compress, data_set, save, save_enhanced, save_series


def canonical(scan):
    return nib.as_closest_canonical(nib.Nifti1Image(scan.voxels[0].astype(np.float32), scan.affine))


@pytest.fixture
def head(asymmetric):
    return asymmetric.astype(np.int16)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_series_of_any_orientation_is_read_into_the_same_space(tmp_path, head, orientation):
    read = canonical(read_scan(save_series(tmp_path / "s", head, orientation, (1.0, 2.0, 3.0))))
    np.testing.assert_array_equal(read.get_fdata(), head)
    np.testing.assert_allclose(read.affine, np.diag([1, 2, 3, 1]), atol=1e-9)


def test_simpleitk_places_every_voxel_of_a_series_where_we_do(tmp_path, head):
    folder = save_series(tmp_path / "s", head, "PSR", (1.0, 2.0, 3.0))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    scan = read_scan(folder)
    for index in [(0, 0, 0), (3, 5, 7), (9, 1, 4)]:
        place = theirs.TransformIndexToPhysicalPoint(index)
        ours = np.linalg.inv(scan.affine) @ [-place[0], -place[1], place[2], 1]
        assert theirs[index] == scan.voxels[(0, *np.round(ours[:3]).astype(int))]


def test_the_siemens_mosaics_equal_the_nifti_made_from_them():
    zoo = shared("reader_zoo") / "dicom_siemens_epi"
    for series, reference in (("mr_0003", "AP_3"), ("mr_0004", "PA_4"), ("mr_0005", "RL_5"), ("mr_0006", "LR_6")):
        truth = nib.as_closest_canonical(nib.load(zoo / "Ref" / f"EPI_PE={reference}.nii"))
        for frames, expected in (("first", truth.get_fdata()[..., 0]), ("mean", truth.get_fdata().mean(-1))):
            ours = canonical(read_scan(zoo / series, Policy(frames=frames)))
            np.testing.assert_array_equal(ours.get_fdata(), expected)
            np.testing.assert_allclose(ours.affine, truth.affine, atol=1e-6)


def test_a_real_series_of_32_files_is_one_volume():
    scan = read_scan(shared("reader_zoo") / "dicom_series_hcrop")
    assert scan.header.shape == (35, 51, 32) and scan.header.modality == "MR"
    assert scan.voxels.dtype == np.int16


def test_two_series_in_one_folder_are_refused_with_the_cure(tmp_path, head):
    save_series(tmp_path / "s", head)
    save(data_set(head[:, :, 5].T.copy(), SeriesInstanceUID="9.9"), tmp_path / "s" / "other.dcm")
    with pytest.raises(Unreadable, match="2 series.*import dicom"):
        read_scan(tmp_path / "s")


def test_other_files_and_duplicates_of_an_image_do_not_change_a_series(tmp_path, head):
    folder = save_series(tmp_path / "s", head)
    (folder / "notes.txt").write_text("x")
    (folder / "copy.dcm").write_bytes((folder / "IM0003").read_bytes())
    report = data_set(head[:, :, 0].T.copy(), Modality="SR")
    for name in ("Rows", "Columns", "PixelData"):
        delattr(report, name)
    save(report, folder / "report.dcm")
    np.testing.assert_array_equal(canonical(read_scan(folder)).get_fdata(), head)


def drop_slice(folder, place):
    for file in folder.iterdir():
        if pydicom.dcmread(file).ImagePositionPatient[2] == place:
            file.unlink()


def test_a_missing_slice_is_refused_or_interpolated_as_the_policy_says(tmp_path, head):
    folder = save_series(tmp_path / "s", head)
    drop_slice(folder, 4.0)
    with pytest.raises(Unreadable, match="1 slices are missing") as refused:
        read_header(folder)
    assert refused.value.finding.parameter == "cohort.reading.missing_slices"
    scan = read_scan(folder, Policy(missing_slices="interpolate"))
    expected = head.astype(np.float32)
    expected[:, :, 4] = (expected[:, :, 3] + expected[:, :, 5]) / 2
    np.testing.assert_allclose(canonical(scan).get_fdata(), expected)
    assert scan.header.findings[0].action == "repaired"


def test_hounsfield_units_come_from_slope_and_intercept(tmp_path, head):
    folder = save_series(tmp_path / "s", head.astype(np.uint16), RescaleSlope=2, RescaleIntercept=-1024, Modality="CT")
    scan = read_scan(folder)
    np.testing.assert_array_equal(canonical(scan).get_fdata(), head * 2.0 - 1024)
    assert scan.header.modality == "CT"


def test_slices_that_are_scaled_one_by_one_are_each_scaled_by_their_own(tmp_path, head):
    folder = save_series(tmp_path / "s", head)
    for file in folder.iterdir():
        fields = pydicom.dcmread(file)
        fields.RescaleSlope, fields.RescaleIntercept = 1 + float(fields.ImagePositionPatient[2]), 0
        fields.save_as(file)
    expected = head * (1 + np.arange(head.shape[2]))
    np.testing.assert_allclose(canonical(read_scan(folder)).get_fdata(), expected)


def test_an_enhanced_multi_frame_file_is_a_volume(tmp_path, head):
    file = save_enhanced(tmp_path / "e.dcm", head.astype(np.uint16), (1.0, 2.0, 3.0), slope=0.5, intercept=-3)
    read = canonical(read_scan(file))
    np.testing.assert_allclose(read.get_fdata(), head * 0.5 - 3)
    np.testing.assert_allclose(read.affine, np.diag([1, 2, 3, 1]))


def test_a_gantry_tilt_is_kept_in_the_affine_and_reported(tmp_path, head):
    folder = save_series(tmp_path / "s", head)
    for file in folder.iterdir():
        fields = pydicom.dcmread(file)
        x, y, z = map(float, fields.ImagePositionPatient)
        fields.ImagePositionPatient = [x, y + 0.3 * z, z]
        fields.save_as(file)
    scan = read_scan(folder)
    assert "16.7 degrees" in scan.header.findings[0].detail
    assert abs(np.dot(scan.affine[:3, 1], scan.affine[:3, 2])) > 0.2


def test_an_image_without_frames_keeps_rows_columns_and_units(tmp_path):
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4)
    scan = read_scan(save(data_set(pixels, Modality="DX", ImagerPixelSpacing=[0.2, 0.1]), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels[0], pixels)
    assert scan.header.shape == (3, 4) and scan.header.spacing == (0.2, 0.1)


def test_bright_stays_bright_in_monochrome1(tmp_path):
    pixels = np.array([[0, 4095]], dtype=np.uint16)
    file = save(
        data_set(pixels, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11), tmp_path / "x.dcm"
    )
    np.testing.assert_array_equal(read_scan(file).voxels[0], [[4095, 0]])


def test_a_palette_is_looked_up(tmp_path):
    fields = data_set(np.array([[0, 1], [2, 1]], dtype=np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for colour, table in (("Red", (10, 20, 30)), ("Green", (40, 50, 60)), ("Blue", (70, 80, 90))):
        setattr(fields, f"{colour}PaletteColorLookupTableDescriptor", [4, 0, 8])
        setattr(fields, f"{colour}PaletteColorLookupTableData", bytes([*table, 0]))
    scan = read_scan(save(fields, tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels[:, 0, 1], [20, 50, 80])
    assert scan.header.channels == 3


def test_colour_pixels_become_three_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 5, 3), dtype=np.uint8)
    scan = read_scan(save(data_set(pixels, Modality="US"), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels, np.moveaxis(pixels, -1, 0))


@pytest.mark.parametrize("syntax", [*ENCODERS, pydicom.uid.RLELossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_every_lossless_compression_gives_the_pixels_back(tmp_path, syntax, kind):
    rows, columns = np.mgrid[:32, :40]
    pixels = (rows * 5 + columns + (1000 if kind == np.uint16 else 0)).astype(kind)
    file = save(compress(data_set(pixels), syntax), tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_scan(file).voxels[0], pixels)


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_dcmtk.dcm", "JPEGLSNearLossless_16.dcm", "JPEG2000.dcm"])
def test_lossy_compressions_are_read_as_pydicom_decodes_them(name):
    file = get_testdata_file(name, download=False)
    theirs = pydicom.pixels.pixel_array(file)
    theirs = np.moveaxis(theirs, -1, 0) if theirs.ndim == 3 else theirs[np.newaxis]
    fields = pydicom.dcmread(file)
    scaled = theirs * float(fields.get("RescaleSlope", 1)) + float(fields.get("RescaleIntercept", 0))
    np.testing.assert_array_equal(read_scan(Path(file)).voxels, scaled)


def test_a_deflated_file_is_inflated(tmp_path):
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8)
    fields = data_set(pixels)
    fields.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    np.testing.assert_array_equal(read_scan(save(fields, tmp_path / "x.dcm")).voxels[0], pixels)


def test_files_without_a_preamble_are_read_by_their_ending(tmp_path, head):
    folder = save_series(tmp_path / "s", head)
    for file in list(folder.iterdir()):
        file.with_suffix(".dcm").write_bytes(file.read_bytes()[132:])
        file.unlink()
    np.testing.assert_array_equal(canonical(read_scan(folder)).get_fdata(), head)


def test_a_compression_without_a_free_decoder_is_refused_with_its_name():
    with pytest.raises(Unreadable, match="JPEG Extended.*12-bit"):
        read_scan(Path(get_testdata_file("JPGExtended.dcm", download=False)))


def test_several_frames_are_refused_or_reduced_as_the_policy_says(tmp_path):
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    fields = data_set(frames[0], Modality="US")
    fields.PixelData, fields.NumberOfFrames = frames.tobytes(), 2
    file = save(fields, tmp_path / "frames.dcm")
    with pytest.raises(Unreadable, match="2 volumes or images"):
        read_scan(file)
    np.testing.assert_array_equal(read_scan(file, Policy(frames="first")).voxels[0], frames[0])
    np.testing.assert_allclose(read_scan(file, Policy(frames="mean")).voxels[0], frames.mean(0))


def test_repeated_positions_are_frames_in_time(tmp_path, head):
    for time in (0, 1):
        save_series(tmp_path / "s" / str(time), head + 100 * time, AcquisitionNumber=time)
    for file in (tmp_path / "s" / "1").iterdir():
        file.rename(tmp_path / "s" / "0" / f"later_{file.name}")
    folder = tmp_path / "s" / "0"
    np.testing.assert_array_equal(canonical(read_scan(folder, Policy(frames="first"))).get_fdata(), head)
    (folder / "later_IM0002").unlink()
    with pytest.raises(Unreadable, match="imaged 2 times and some 1"):
        read_scan(folder, Policy(frames="first"))


def test_text_in_the_pixels_is_flagged_where_dicom_says_so(tmp_path):
    fields = data_set(np.eye(4, dtype=np.uint8), BurnedInAnnotation="YES")
    finding = read_scan(save(fields, tmp_path / "x.dcm")).header.findings[0]
    assert (finding.check, finding.action) == ("burned-in text", "warned")


def test_a_truncated_image_and_a_huge_declaration_are_refused(tmp_path):
    file = save(data_set(np.eye(64, dtype=np.uint16)), tmp_path / "x.dcm")
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(Unreadable, match="truncated: its pixels are cut off"):
        read_scan(file)
    huge = save(data_set(np.eye(4, dtype=np.uint16), Rows=60000, Columns=60000), tmp_path / "y.dcm")
    with pytest.raises(Unreadable, match="too large"):
        read_scan(huge)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "PixelSpacing", "RescaleSlope", "Rows", "BitsStored"])
def test_a_value_that_makes_no_sense_is_not_repeated_in_the_reason(tmp_path, head, keyword):
    folder = save_series(tmp_path / "Doe_Jane", head, RescaleSlope=1, RescaleIntercept=0)
    for file in list(folder.iterdir()):
        fields = pydicom.dcmread(file)
        fields[keyword] = pydicom.DataElement(pydicom.tag.Tag(keyword), "LO", "DOEJANE")
        fields.save_as(folder / f"Doe_{file.name}")
        file.unlink()
    with pytest.raises(Unreadable) as refused:
        read_scan(folder)
    assert "DOE" not in str(refused.value).upper()


def test_no_reason_against_a_dicom_file_names_a_person(tmp_path):
    file = tmp_path / "Doe_Jane.dcm"
    file.write_bytes(b"\0" * 128 + b"DICM" + b"Doe^Jane" * 20)
    with pytest.raises(Unreadable) as refused:
        read_scan(file)
    assert "Doe" not in str(refused.value)
