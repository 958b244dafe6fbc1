"""The images of `campaign.py` that are made to break a reader, and the memory that reading them takes."""

import contextlib
import gzip
import io
import os
import resource
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.data import get_testdata_file

from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.reading.volumes import read_scan


def images(folder: Path) -> Iterator[tuple[str, str]]:
    """Read hostile images, and measure by how much the reader's memory grows."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    hostile(folder)
    grown = {file.name: growth(file) for file in sorted(folder.iterdir()) if file.suffix != ".raw"}
    worst = max(grown, key=grown.__getitem__)
    yield f"most memory in MiB, of {len(grown)} hostile images ({worst})", f"{grown[worst]:.0f}"


def hostile(folder: Path) -> None:
    png(folder / "bomb.png", 60_000, 40_000)
    Image.new("L", (9, 9)).save(folder / "postscript.png", format="EPS")
    Image.new("L", (8, 8)).save(folder / "pages.tif", save_all=True, append_images=[Image.new("1", (30_000, 30_000))])
    header = bytearray(348)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 30_000, 30_000, 30_000, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)
    struct.pack_into("<4f", header, 76, 1, 1, 1, 1)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<h", header, 252, 1)
    struct.pack_into("<4s", header, 344, b"n+1")
    (folder / "huge.nii").write_bytes(header + bytes(100))
    with zipfile.ZipFile(folder / "zip.png", "w") as archive:
        archive.writestr("a", bytes(10**7))
    meta = "ObjectType = Image\nNDims = 3\nDimSize = {}\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    (folder / "elsewhere.mhd").write_text(meta.format("10 10 10", "../../../../../../etc/passwd"))
    (folder / "huge.mha").write_text(meta.format("60000 60000 60000", "LOCAL"))
    (folder / "nrrd.nrrd").write_text("NRRD0004\ntype: uchar\ndimension: 3\nsizes: 90000 90000 9000\nencoding: raw\n\n")
    (folder / "long.mhd").write_bytes(b"Comment = " + b"a" * 10**7)
    packed(folder)
    dicom(folder / "huge.dcm", Rows=65_535, Columns=65_535)
    dicom(folder / "frames.dcm", NumberOfFrames=2_000_000_000)


def packed(folder: Path) -> None:
    """Write small files that unpack to much, or declare much."""
    sound = nib.Nifti1Image(np.eye(64, dtype=np.uint8)[..., np.newaxis], np.eye(4)).to_bytes()
    (folder / "tail.nii.gz").write_bytes(gzip.compress(sound + bytes(3 * 10**8), 1))
    (folder / "zeros.nii.gz").write_bytes(gzip.compress(bytes(3 * 10**8), 1))
    stream = io.BytesIO()
    text = PngInfo()
    text.add_text("Comment", " " * 10**8, zip=True)
    Image.new("L", (64, 64)).save(stream, "png", pnginfo=text)
    (folder / "text.png").write_bytes(stream.getvalue())
    stream = io.BytesIO()
    Image.new("L", (64, 64)).save(stream, "jpeg")
    at = (content := bytearray(stream.getvalue())).index(b"\xff\xc0") + 5
    struct.pack_into(">HH", content, at, 65_500, 65_500)
    (folder / "huge.jpg").write_bytes(content)
    fields = {256: 100_000, 257: 100_000, 258: 8, 259: 1, 262: 1, 273: 8, 278: 100_000, 279: 10**8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    (folder / "huge.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4))


def dicom(file: Path, **declared: int) -> None:
    fields = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    for name, value in declared.items():
        setattr(fields, name, value)
    fields.save_as(file)


def png(file: Path, width: int, height: int) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, row = zlib.compressobj(9), bytes(width + 1)
    pixels = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))


def growth(file: Path) -> float:
    """Read a file in a fork; return by how many MiB its peak of memory exceeds that of reading nothing."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with contextlib.suppress(Unreadable):
            read_scan(file)
            print(f"{file.name} was read", file=sys.stderr)
        os.write(writer, str((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return float(os.read(reader, 100))
