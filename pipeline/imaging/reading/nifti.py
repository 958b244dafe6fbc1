"""Read NIfTI-1 and NIfTI-2 (.nii, .nii.gz, .hdr with .img), completely or not at all.

nibabel reads the header. The voxels are read here, because nibabel stops before the checksum of a gzip stream (it
returned flipped bits without an error in 100 of 120 trials) and allocates whatever a header declares.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip
from numpy.typing import NDArray

from pipeline.imaging.reading.nifti_affine import affine_of
from pipeline.imaging.reading.scan import (
    Finding,
    Header,
    Policy,
    Scan,
    Unreadable,
    compact,
    pick_frame,
    refuse_frames,
    refuse_size,
    rescaled,
    volume_header,
)

nib.imageglobals.logger.setLevel("CRITICAL")  # its messages become findings

ENDINGS = (".nii", ".nii.gz", ".hdr", ".img")

MAX_BEYOND = 1 << 20  # bytes allowed after the voxels
MAX_RATIO = 500  # a file compressed further is empty or a decompression bomb
SUSPICIOUS = 1 << 26  # bytes; the ratio of smaller scans is not checked
FIRST_BYTE = {"n+1": 352, "n+2": 544}  # of the voxels behind the header in one file, at the least
COLOUR = {3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}


@dataclass(frozen=True)
class _Parsed:
    """Hold a parsed header, the file of its voxels, and the byte at which they begin."""

    fields: Any
    voxels_in: Path
    affine: NDArray[np.float64]
    findings: tuple[Finding, ...]
    offset: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Give the declared shape with at least three axes."""
        declared = tuple(int(size) for size in self.fields.get_data_shape())
        return declared + (1,) * (3 - len(declared))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Give the stored data type."""
        stored: np.dtype[Any] = self.fields.get_data_dtype()
        return stored

    @property
    def channels(self) -> int:
        """Count the channels: 3 for the colour types (alpha is dropped), else 1."""
        return 3 if self.dtype.names else 1

    def header(self, policy: Policy) -> Header:
        """Check the geometry and describe the scan."""
        frames = int(np.prod(self.shape[3:], dtype=float))
        refuse_frames(frames, policy)
        refuse_size(self.shape, policy)
        bits = self.dtype.itemsize * 8 if not self.dtype.names else 8
        return volume_header(self.shape[:3], self.affine, bits, policy, channels=self.channels, findings=self.findings)


def read_header(path: Path, policy: Policy) -> Header:
    """Read and check the header without the voxels."""
    return _parse(path, policy).header(policy)


def read_scan(path: Path, policy: Policy) -> Scan:
    """Read header and voxels to the last byte of the file."""
    parsed = _parse(path, policy)
    header = parsed.header(policy)
    values = _scaled(_stored_values(parsed), parsed)
    findings = header.findings
    if values.shape[-1] > 1:
        values, finding = pick_frame(values, policy)
        findings += (finding,)
    else:
        values = values[..., 0]
    return Scan(values, parsed.affine, replace(header, findings=findings))


def _parse(path: Path, policy: Policy) -> _Parsed:
    holds_header, holds_voxels = _pair(path)
    with _opened(holds_header) as stream:
        begin = stream.read(348)
        stream.seek(0)
        size = begin[:4]
        kind = nib.Nifti1Header if size in (b"\x5c\x01\0\0", b"\0\0\x01\x5c") else nib.Nifti2Header
        magic = begin[344:347] if kind is nib.Nifti1Header else begin[4:7]
        if magic not in ((b"n+1", b"n+2") if holds_header == holds_voxels else (b"ni1", b"ni2")):
            raise Unreadable(
                "not NIfTI",
                "the file has no NIfTI header (Analyze files are not supported: they do not state which side is left)",
            )
        stated = kind.from_fileobj(stream, check=False)
    offset, moved = _offset(stated, magic.decode())
    stated["vox_offset"] = offset
    fields = kind(stated.binaryblock, stated.endianness)  # as nibabel repairs it
    affine, findings = affine_of(fields, stated, policy)
    return _Parsed(fields, holds_voxels, affine, findings=(*findings, *moved), offset=offset)


def _offset(fields: Any, magic: str) -> tuple[int, tuple[Finding, ...]]:
    """Find the first byte of the voxels, which the standard forbids to lie inside the header."""
    stated, least = float(fields["vox_offset"]), FIRST_BYTE.get(magic, 0)
    if not np.isfinite(stated) or stated < 0:
        raise Unreadable("voxel offset", "the header does not say where the voxels begin (vox_offset)")
    if stated >= least:
        return int(stated), ()
    detail = f"the voxels would begin inside the header (vox_offset {stated:g}); they were read from byte {least}"
    return least, (Finding("voxel offset", detail, "repaired"),)


def _pair(path: Path) -> tuple[Path, Path]:
    if path.suffix.lower() not in (".hdr", ".img"):
        return path, path
    upper = path.suffix.isupper()
    files = tuple(path.with_suffix(ending.upper() if upper else ending) for ending in (".hdr", ".img"))
    for file in files:
        if not file.is_file():
            raise Unreadable("missing", f"its companion {file.suffix} file does not exist")
    return files[0], files[1]


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return igzip.open(path) if packed else path.open("rb")


def _stored_values(parsed: _Parsed) -> NDArray[Any]:
    """Read the stored voxels, (X, Y, Z, frames), and the file to its end, so that gzip verifies its checksum."""
    shape = (*parsed.shape[:3], int(np.prod(parsed.shape[3:])))
    expected = int(np.prod(shape, dtype=float)) * parsed.dtype.itemsize
    on_disk = parsed.voxels_in.stat().st_size
    if expected > max(SUSPICIOUS, MAX_RATIO * on_disk):
        raise Unreadable(
            "declared size", f"the header declares {expected} bytes of voxels, but the file has {on_disk} bytes"
        )
    buffer = np.empty(expected, dtype=np.uint8)
    with _opened(parsed.voxels_in) as stream:
        stream.seek(parsed.offset)
        got = _fill(stream, buffer)
        beyond = len(stream.read(MAX_BEYOND + 1))
    if got < expected:
        raise Unreadable("truncated", f"the file ends after {got} of {expected} bytes of voxels")
    if beyond > MAX_BEYOND:
        raise Unreadable("declared size", f"more than {MAX_BEYOND} bytes follow the last declared voxel")
    return buffer.view(parsed.dtype).reshape(shape, order="F")


def _fill(stream: BinaryIO, buffer: NDArray[np.uint8]) -> int:
    view, done = memoryview(buffer.data), 0
    while done < len(view):
        count = stream.readinto(view[done : done + (1 << 22)])  # type: ignore[attr-defined]
        if not count:
            break
        done += count
    return done


def _scaled(stored: NDArray[Any], parsed: _Parsed) -> NDArray[Any]:
    """Convert stored values to the scan's own units, channels first: (C, X, Y, Z, frames)."""
    if parsed.dtype.names:
        colours = COLOUR[len(parsed.dtype.names)][:3]
        return np.stack([stored[name] for name in colours])
    if parsed.dtype.kind == "c":
        raise Unreadable("complex", "the voxels are complex numbers; store their magnitude instead")
    slope, intercept = parsed.fields.get_slope_inter()
    if slope in (None, 1.0) and intercept in (None, 0.0):
        return compact(stored)[np.newaxis]
    return rescaled(stored, slope, intercept)[np.newaxis]
