"""Stored values become the scan's own units; GDCM (in SimpleITK) and closed forms are the truth."""

import numpy as np
import pytest
import SimpleITK
from pydicom import DataElement, config
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import CTImageStorage, JPEG2000Lossless, RLELossless

from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.reading.volumes import read_scan
from tests.imaging.phantoms import data_set, save, save_series

PIXELS = np.arange(7, 7 + 20 * 24, dtype=np.uint16).reshape(20, 24)


def by_gdcm(file):
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))[0]


def findings(scan):
    return [one.check for one in scan.header.findings]


@pytest.mark.parametrize(
    "rescaling",
    [
        {"RescaleIntercept": "-1024"},
        {"RescaleSlope": "", "RescaleIntercept": ""},
        {"RescaleSlope": "", "RescaleIntercept": "-1024"},
        {"RescaleSlope": "2", "RescaleIntercept": ""},
        {"RescaleSlope": "2"},
        {},
    ],
    ids=str,
)
def test_half_a_rescaling_is_applied_as_gdcm_applies_it(tmp_path, rescaling):
    file = save(data_set(PIXELS, Modality="CT", SOPClassUID=CTImageStorage, **rescaling), tmp_path / "x.dcm")
    scan = read_scan(file)
    slope, intercept = (float(rescaling.get(name) or usual) for name, usual in
                        (("RescaleSlope", 1), ("RescaleIntercept", 0)))  # fmt: skip
    np.testing.assert_array_equal(scan.voxels[0], PIXELS * slope + intercept)
    if rescaling.get("RescaleIntercept") or not any(rescaling.values()):  # GDCM ignores a slope without an intercept
        np.testing.assert_array_equal(scan.voxels[0], by_gdcm(file))
    assert ("rescaling" in findings(scan)) == (not any(rescaling.values()))


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_modality_lut_of_any_depth_is_looked_up(tmp_path, depth, as_bytes):
    entries = ((np.arange(100) * 37) % 2**depth).astype("<u2")
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [100, 50, depth], "US"
    table.add_new("LUTData", "OW" if as_bytes else "US", entries.tobytes() if as_bytes else entries.tolist())
    scan = read_scan(save(data_set(PIXELS, ModalityLUTSequence=[table]), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels[0], entries[np.clip(PIXELS.astype(int) - 50, 0, 99)])


def test_a_modality_lut_of_packed_bytes_is_looked_up(tmp_path):
    entries = np.arange(100, 0, -1).astype(np.uint8)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [100, 7, 8], "US"
    table.add_new("LUTData", "OW", entries.tobytes())
    scan = read_scan(save(data_set(PIXELS, ModalityLUTSequence=[table]), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels[0], entries[np.clip(PIXELS.astype(int) - 7, 0, 99)])


def test_a_modality_lut_of_signed_pixels_begins_below_zero(tmp_path):
    signed, table = np.arange(-30, 30, dtype=np.int16).reshape(6, 10), Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [60, -30, 16], "US"
    table.add_new("LUTData", "OW", np.arange(100, 160).astype("<u2").tobytes())
    scan = read_scan(save(data_set(signed, ModalityLUTSequence=[table]), tmp_path / "x.dcm"))
    np.testing.assert_array_equal(scan.voxels[0], signed + 130)


def test_jpeg2000_with_a_contradicting_sign_is_read_as_gdcm_reads_it(tmp_path):
    values = np.random.default_rng(0).integers(-1000, 1000, (64, 64))
    stored = (values & 0x1FFF).astype(np.uint16)  # two's complement of 13 bits
    fields = data_set(stored, BitsStored=13, HighBit=12)
    fields.compress(JPEG2000Lossless)
    fields.PixelRepresentation = 1
    file = save(fields, tmp_path / "x.dcm")
    np.testing.assert_array_equal(read_scan(file).voxels[0], values)
    np.testing.assert_array_equal(by_gdcm(file), values)


@pytest.mark.parametrize(("lowest", "remarks"), [(-1000, 0), (-600, 0), (7, 1), (-400, 1)])
def test_a_ct_volume_without_air_is_remarked_on(tmp_path, lowest, remarks):
    voxels = (np.arange(480).reshape(12, 10, 4) + 1000).astype(np.int16)
    more = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": lowest - 1000}
    scan = read_scan(save_series(tmp_path / "s", voxels, **more))
    assert findings(scan).count("rescaling") == remarks and scan.voxels.min() == lowest


BYTES = np.arange(60, dtype=np.uint8).reshape(6, 10)


@pytest.mark.parametrize(
    ("pixels", "more", "is_grey"),
    [
        (BYTES, {}, True),
        (BYTES, {"RescaleSlope": 1, "RescaleIntercept": 0}, True),
        (BYTES, {"RescaleSlope": 1, "RescaleIntercept": -128}, False),
        (BYTES, {"RescaleSlope": 16, "RescaleIntercept": 0}, False),
        (BYTES.astype(np.int8), {}, False),
    ],
)
def test_only_plain_bytes_count_as_grey_levels(tmp_path, pixels, more, is_grey):
    """Else `preprocess.intensity: auto` would keep values as grey levels that they are not."""
    scan = read_scan(save(data_set(pixels, **more), tmp_path / "x.dcm"))
    assert (scan.header.bits == 8) == is_grey


def with_no_frames(fields):
    fields.NumberOfFrames = 0


def of_rle_with_bytes_too_many(fields):
    fields.compress(RLELossless)
    [frame] = generate_frames(fields.PixelData, number_of_frames=1)
    fields.PixelData = encapsulate([frame, frame], has_bot=False)


@pytest.mark.parametrize("fault", [with_no_frames, of_rle_with_bytes_too_many])
def test_what_the_decoder_warns_of_is_a_finding_and_the_pixels_are_right(tmp_path, fault):
    fields = data_set(PIXELS, PatientComments="Jane's")
    fault(fields)
    scan = read_scan(save(fields, tmp_path / "x.dcm"))
    [found] = [one for one in scan.header.findings if one.check == "decoder"]
    assert found.action == "warned" and np.array_equal(scan.voxels[0], PIXELS)


def test_what_pydicom_warns_of_outside_the_pixels_is_not_repeated(tmp_path, recwarn):
    fields = data_set(PIXELS)
    with config.disable_value_validation():
        fields.StudyDate = "Jane Doe"
        fields.PatientAge = "Jane Doe"
        file = save(fields, tmp_path / "x.dcm")
    assert not read_scan(file).header.findings and not recwarn


@pytest.mark.parametrize("keyword", ["NumberOfFrames", "InstanceNumber", "RescaleSlope", "PixelSpacing", "EchoTime"])
def test_a_text_where_a_number_belongs_is_named_and_not_repeated(tmp_path, keyword, recwarn):
    with config.disable_value_validation():
        fields = data_set(PIXELS)
        value = ["Doe", "Jane"] if keyword == "PixelSpacing" else "Jane"
        fields[keyword] = DataElement(keyword, "LO", value)
        file = save(fields, tmp_path / "x.dcm")
    with pytest.raises(Unreadable, match=f"header: {keyword} is not a number; correct") as refused:
        read_scan(file)
    assert "Jane" not in str(refused.value) and not recwarn
