"""Pixels of every depth and colour; tifffile, cv2 and the array that was written are the truth."""

import io
import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pipeline.imaging.reading.scan import Policy, Unreadable
from pipeline.imaging.reading.volumes import read_header, read_scan

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, (16, 20)).astype(np.uint16)
COLOUR = np.stack([GREY, GREY // 2, 4095 - GREY], -1)


def checks(scan):
    return [one.check for one in scan.header.findings]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(file, pixels, colour_type, exif=b""):
    height, width = pixels.shape[:2]
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + (chunk(b"eXIf", exif) if exif else b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    return file


PNG = {
    "colour": (COLOUR, 2, COLOUR),
    "grey": (GREY, 0, GREY[..., None]),
    "colour with alpha": (
        np.concatenate([COLOUR, COLOUR[..., :1]], -1),
        6,
        np.concatenate([COLOUR, COLOUR[..., :1]], -1),
    ),
}


@pytest.mark.parametrize(("pixels", "colour", "expected"), PNG.values(), ids=PNG)
def test_a_deep_png_is_read_to_its_full_depth(tmp_path, pixels, colour, expected):
    file = png(tmp_path / "a.png", pixels, colour)
    scan = read_scan(file)
    np.testing.assert_array_equal(np.moveaxis(scan.voxels, 0, -1), expected)
    assert read_header(file).bits == scan.header.bits == 16
    assert read_header(file).channels == len(scan.voxels)
    if colour == 2:
        np.testing.assert_array_equal(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[..., ::-1], expected)


def test_deep_grey_with_alpha_is_refused_by_name(tmp_path):
    with pytest.raises(Unreadable, match="grey of 16 bits with alpha"):
        read_scan(png(tmp_path / "a.png", np.stack([GREY, GREY * 0 + 65535], -1), 4))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_colours_are_turned_as_pillow_turns_shallow_ones(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    scan = read_scan(png(tmp_path / "a.png", COLOUR, 2, exif.tobytes().removeprefix(b"Exif\0\0")))
    shallow = Image.fromarray((COLOUR >> 8).astype(np.uint8))
    stream = io.BytesIO()
    shallow.save(stream, "png", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(stream)))
    np.testing.assert_array_equal(np.moveaxis(scan.voxels, 0, -1) >> 8, expected)
    assert scan.header.shape == expected.shape[:2]


TIFF = {
    "grey16": (GREY, {}),
    "int16": (GREY.astype(np.int16) - 2000, {}),
    "int8": ((GREY >> 4).astype(np.uint8).view(np.int8), {}),
    "uint32": (GREY.astype(np.uint32) * 1000 + 2**31, {}),
    "int32": (GREY.astype(np.int32) - 2000, {}),
    "float32": (GREY.astype(np.float32) / 7, {}),
    "colour16": (COLOUR, {"photometric": "rgb"}),
    "colour16 with alpha": (np.concatenate([COLOUR, COLOUR[..., :1]], -1), {"photometric": "rgb", "extrasamples": [2]}),
    "colour16, compressed": (COLOUR, {"photometric": "rgb", "compression": "zlib"}),
    "colour8": ((COLOUR >> 4).astype(np.uint8), {"photometric": "rgb"}),
    "bigtiff": (GREY, {"bigtiff": True}),
}


@pytest.mark.parametrize(("pixels", "how"), TIFF.values(), ids=TIFF)
def test_a_tiff_is_read_as_tifffile_reads_it(tmp_path, pixels, how):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    scan = read_scan(tmp_path / "a.tif")
    truth = tifffile.imread(tmp_path / "a.tif")
    ours = np.moveaxis(scan.voxels, 0, -1) if truth.ndim == 3 else scan.voxels[0]
    np.testing.assert_allclose(ours, truth, rtol=1e-7)
    header = read_header(tmp_path / "a.tif")
    assert header.channels == scan.voxels.shape[0] and (header.bits == 8) == (truth.dtype == np.uint8)


def test_planar_colours_of_8_bits_are_interleaved(tmp_path):
    shallow = (COLOUR >> 4).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(shallow, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(np.moveaxis(read_scan(tmp_path / "a.tif").voxels, 0, -1), shallow)


@pytest.mark.parametrize("bits", [8, 16])
def test_where_zero_is_white_high_values_are_still_bright(tmp_path, bits):
    pixels = (GREY >> 4).astype(np.uint8) if bits == 8 else GREY.astype(f"uint{bits}")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")
    np.testing.assert_allclose(read_scan(tmp_path / "a.tif").voxels[0], 2.0**bits - 1 - pixels)


REFUSED = {
    "deep and planar": (
        np.moveaxis(COLOUR, -1, 0),
        {"photometric": "rgb", "planarconfig": "separate"},
        "3 samples of 16 bits",
    ),
    "CIELAB": ((COLOUR >> 4).astype(np.uint8), {"photometric": "cielab"}, "CIELAB"),
    "deep CIELAB": (COLOUR, {"photometric": "cielab"}, "CIELAB|not supported"),
    "signed with zero as white": (GREY.astype(np.int16), {"photometric": "miniswhite"}, "zero is white|not supported"),
    "half precision": (GREY.astype(np.float16), {}, "not supported"),
    "double precision": (GREY / 7, {}, "not supported"),
    "deep CMYK": (np.concatenate([COLOUR, COLOUR[..., :1]], -1), {"photometric": "separated"}, "CMYK of 16 bits"),
}


@pytest.mark.parametrize(("pixels", "how", "told"), REFUSED.values(), ids=REFUSED)
def test_pixels_that_nothing_reads_in_full_are_refused_by_name(tmp_path, pixels, how, told):
    tifffile.imwrite(tmp_path / "a.tif", pixels, **how)
    with pytest.raises(Unreadable, match=told):
        read_scan(tmp_path / "a.tif")


def test_a_pyramid_is_its_largest_image(tmp_path):
    large = np.kron(GREY, np.ones((8, 8), np.uint16))
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(large)
        writer.write(GREY, subfiletype=1)
    scan = read_scan(tmp_path / "a.tif")
    np.testing.assert_array_equal(scan.voxels[0], large)
    assert checks(scan) == ["frames"]


def test_two_pages_of_full_size_are_still_two_images(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(GREY)
        writer.write(GREY + 1)
    with pytest.raises(Unreadable, match="2 volumes or images"):
        read_scan(tmp_path / "a.tif")
    assert read_scan(tmp_path / "a.tif", Policy(frames="mean")).voxels.mean(dtype=float) == GREY.mean() + 0.5


def test_the_second_image_of_a_phone_is_left_out_and_told(tmp_path):
    first, second = (Image.fromarray((COLOUR >> shift).astype(np.uint8)) for shift in (4, 5))
    first.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[second], quality=95)
    scan = read_scan(tmp_path / "a.jpg")
    assert scan.voxels.shape == (3, 16, 20) and checks(scan) == ["frames"]
    np.testing.assert_array_equal(np.moveaxis(scan.voxels, 0, -1), np.asarray(Image.open(tmp_path / "a.jpg")))


def test_a_warning_of_the_decoder_is_a_finding(tmp_path, monkeypatch):
    Image.fromarray((GREY >> 4).astype(np.uint8)).save(tmp_path / "a.png")
    transpose = ImageOps.exif_transpose

    def warning(image):
        warnings.warn(f"Corrupt data in {tmp_path}", UserWarning, stacklevel=1)
        return transpose(image)

    monkeypatch.setattr(ImageOps, "exif_transpose", warning)
    (finding,) = read_scan(tmp_path / "a.png").header.findings
    assert (finding.check, finding.action) == ("decoder", "warned") and str(tmp_path) not in finding.detail
