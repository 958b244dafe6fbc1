"""A circle stays a circle: pixels that are not square are stored in the proportions of the patient."""

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import prepare
from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from tests.imaging.phantoms import data_set, save

GEOMETRY = Geometry("image", 128, 1, 1, spacing=None, fit="pad", intensity="keep")


def ellipse(tall, wide):
    """Draw a circle of radius 40 on pixels of the given height and width."""
    rows, columns = round(128 / tall), round(128 / wide)
    y, x = (np.mgrid[:rows, :columns] + 0.5) * np.array([tall, wide])[:, None, None]
    return (255 * (np.hypot(y - 64, x - 64) < 40)).astype(np.uint8)


def assert_round(file):
    inside = prepare(read_scan(file), GEOMETRY).channels[0] > 127
    height, width = np.ptp(np.flatnonzero(inside.any(1))), np.ptp(np.flatnonzero(inside.any(0)))
    assert abs(height - 79) <= 2 and abs(width - 79) <= 2


def region(tall, wide, units=3):
    one = Dataset()
    one.PhysicalUnitsXDirection = one.PhysicalUnitsYDirection = units
    one.PhysicalDeltaY, one.PhysicalDeltaX = tall / 10, wide / 10
    return one


STATED = {
    "PixelSpacing": lambda tall, wide: {"PixelSpacing": [tall, wide]},
    "ImagerPixelSpacing": lambda tall, wide: {"ImagerPixelSpacing": [tall, wide]},
    "NominalScannedPixelSpacing": lambda tall, wide: {"NominalScannedPixelSpacing": [tall, wide]},
    "PixelAspectRatio": lambda tall, wide: {"PixelAspectRatio": [int(10 * tall), int(10 * wide)]},
    "ultrasound": lambda tall, wide: {"SequenceOfUltrasoundRegions": [region(tall, wide), region(-tall, wide)]},
    "two that agree": lambda tall, wide: {"PixelSpacing": [tall / 2, wide / 2], "ImagerPixelSpacing": [tall, wide]},
}


@pytest.mark.parametrize("stated", STATED.values(), ids=STATED)
@pytest.mark.parametrize(("tall", "wide"), [(1, 1), (2, 1), (1, 2), (1, 1.5)])
def test_a_circle_of_dicom_stays_a_circle(tmp_path, stated, tall, wide):
    assert_round(save(data_set(ellipse(tall, wide), **stated(tall, wide)), tmp_path / "x.dcm"))


@pytest.mark.parametrize("stated", STATED)
def test_proportions_alone_are_no_size_in_millimetres(tmp_path, stated):
    file = save(data_set(ellipse(2, 1), **STATED[stated](2, 1)), tmp_path / "x.dcm")
    assert read_header(file).in_mm == read_scan(file).header.in_mm == (stated != "PixelAspectRatio")


def test_an_image_that_states_no_size_is_not_in_millimetres(tmp_path):
    Image.fromarray(ellipse(1, 1)).save(tmp_path / "a.png", dpi=(300, 300))
    save(data_set(ellipse(1, 1)), tmp_path / "x.dcm")
    text = "ObjectType = Image\nNDims = 2\nDimSize = 4 4\n{}ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    for name, size in (("bare", ""), ("sized", "ElementSpacing = 0.5 0.5\n")):
        (tmp_path / f"{name}.mha").write_bytes(text.format(size).encode() + bytes(range(16)))
    found = {file.name: read_header(file).in_mm for file in sorted(tmp_path.iterdir())}
    assert found == {"a.png": False, "bare.mha": False, "sized.mha": True, "x.dcm": False}


@pytest.mark.parametrize(("tall", "wide"), [(1, 1), (2, 1), (1, 2)])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_a_circle_of_an_image_stays_a_circle(tmp_path, ending, tall, wide):
    file = tmp_path / f"a.{ending}"
    Image.fromarray(ellipse(tall, wide)).save(file, dpi=(200 / wide, 200 / tall))
    assert_round(file)
    assert read_header(file).spacing == pytest.approx((tall, wide), abs=0.02)


def test_proportions_turn_with_the_image(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.rot90(ellipse(2, 1))).save(tmp_path / "a.png", dpi=(100, 200), exif=exif)
    assert_round(tmp_path / "a.png")


CONTRADICTIONS = {
    "spacing and ratio": {"PixelSpacing": [1, 1], "PixelAspectRatio": [2, 1]},
    "spacing and imager": {"PixelSpacing": [1, 2], "ImagerPixelSpacing": [2, 1]},
    "spacing and ultrasound": {"PixelSpacing": [1, 1], "SequenceOfUltrasoundRegions": [region(1, 2)]},
    "zero": {"PixelSpacing": [0, 1]},
    "a thousandfold": {"PixelAspectRatio": [1000, 1]},
}


@pytest.mark.parametrize("stated", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_proportions_that_contradict_each_other_are_refused(tmp_path, stated):
    with pytest.raises(Unreadable, match="proportions"):
        read_header(save(data_set(ellipse(1, 1), **stated), tmp_path / "x.dcm"))


@pytest.mark.parametrize("dpi", [(72, 72), (72, 1), (300, 299)])
def test_a_resolution_that_says_nothing_of_proportions_changes_none(tmp_path, dpi):
    Image.fromarray(ellipse(1, 1)).save(tmp_path / "a.png", dpi=dpi)
    assert read_header(tmp_path / "a.png").spacing == (1, 1)
