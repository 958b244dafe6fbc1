import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan
from tests.conftest import shared


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 1), ("1", 1), ("RGB", 3), ("RGBA", 4), ("P", 3)])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_an_image_of_any_mode_keeps_its_rows_and_columns(tmp_path, mode, channels, ending):
    pixels = np.zeros((5, 9), dtype=np.uint8)
    pixels[0, 8] = 255  # top right
    Image.fromarray(pixels).convert(mode).save(tmp_path / f"a.{ending}")
    voxels = read_scan(tmp_path / f"a.{ending}").voxels
    assert voxels.shape == (channels, 5, 9)
    assert voxels[0, 0, 8] == 255 and voxels[0].sum() == 255
    header = read_header(tmp_path / f"a.{ending}")
    assert (header.channels, header.shape, header.bits) == (channels, (5, 9), 8)


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 6), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert("CMYK").save(tmp_path / "a.jpg")
    assert read_scan(tmp_path / "a.jpg").voxels.shape == (3, 6, 8)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_16_bit_image_keeps_its_values(tmp_path, ending):
    Image.fromarray(np.array([[0, 40000]], dtype=np.uint16)).save(tmp_path / f"a.{ending}")
    assert read_scan(tmp_path / f"a.{ending}").voxels.max() == 40000
    assert read_header(tmp_path / f"a.{ending}").bits == 16


def test_a_floating_point_tiff_keeps_its_values(tmp_path):
    Image.fromarray(np.array([[0.25, -3.5]], dtype=np.float32)).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(read_scan(tmp_path / "a.tiff").voxels[0], [[0.25, -3.5]])


def test_the_way_up_that_a_camera_noted_is_applied(tmp_path):
    pixels = np.zeros((40, 80), dtype=np.uint8)
    pixels[:10, 70:] = 255
    exif = Image.Exif()
    exif[274] = 6  # rotated by a quarter clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=100)
    scan = read_scan(tmp_path / "a.jpg")
    assert scan.header.shape == (80, 40) == scan.voxels.shape[1:]
    assert scan.voxels[0, 75, 35] > 200 and scan.voxels[0, 5, 35] < 50


def test_several_pages_are_refused_or_reduced_as_asked(tmp_path):
    pages = [Image.fromarray(np.full((4, 4), value, dtype=np.uint8) + np.eye(4, dtype=np.uint8)) for value in (10, 30)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(Unreadable, match="2 volumes or images"):
        read_scan(tmp_path / "a.tif")
    assert read_scan(tmp_path / "a.tif", Policy(frames="first")).voxels.max() == 11
    assert read_scan(tmp_path / "a.tif", Policy(frames="mean")).voxels.max() == 21


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_a_truncated_image_is_refused(tmp_path, ending):
    file = tmp_path / f"a.{ending}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(Unreadable):
        read_scan(file)


def test_a_flipped_bit_in_a_png_is_noticed_or_changes_no_pixel(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24), dtype=np.uint8)).save(file)
    sound, clean = file.read_bytes(), read_scan(file).voxels
    rng = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(sound)
        broken[rng.integers(len(broken))] ^= 1 << int(rng.integers(8))
        file.write_bytes(broken)
        try:
            voxels = read_scan(file).voxels
        except Unreadable:
            continue
        np.testing.assert_array_equal(voxels, clean)


def no_pixels(_):
    raise AssertionError("a decoder was asked for pixels")


def test_a_huge_image_is_refused_before_it_takes_memory(tmp_path, monkeypatch):
    Image.new("1", (30_000, 30_000)).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", no_pixels)
    for read in (read_scan, read_header):
        with pytest.raises(Unreadable, match="too large"):
            read(tmp_path / "a.png")


def test_each_page_of_a_tiff_declares_its_own_size(tmp_path):
    small, large = Image.new("L", (8, 8)), Image.new("L", (100, 100))
    small.save(tmp_path / "a.tif", save_all=True, append_images=[large])
    with pytest.raises(Unreadable, match="too large: 100 x 100"):
        read_scan(tmp_path / "a.tif", Policy(frames="first", max_voxels=1000))


@pytest.mark.parametrize("kind", ["EPS", "GIF", "BMP", "PPM"])
def test_another_format_under_the_name_of_an_image_is_not_opened(tmp_path, monkeypatch, kind):
    Image.new("L", (8, 8)).save(tmp_path / "a.png", format=kind)
    monkeypatch.setattr(ImageFile.ImageFile, "load", no_pixels)
    with pytest.raises(Unreadable, match="not supported"):
        read_scan(tmp_path / "a.png")


def test_real_images_are_read_as_pillow_shows_them():
    files = sorted((shared("covid_ct") / "Images").rglob("*.*g"))[::40]
    for file in files:
        with Image.open(file) as image:
            shown = np.asarray(image.convert("RGB"))
        ours = read_scan(file).voxels
        np.testing.assert_array_equal(np.broadcast_to(ours[:3], (3, *ours.shape[1:])), np.moveaxis(shown, -1, 0))
