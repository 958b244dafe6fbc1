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
MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
COLOUR = {3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}


@dataclass(frozen=True)
class _Parsed:
    """Hold a parsed header and the file of its voxels."""

    fields: Any
    voxels_in: Path
    affine: NDArray[np.float64]
    findings: tuple[Finding, ...]

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
        fields = kind.from_fileobj(stream)
    affine, findings = _affine(fields, policy)
    return _Parsed(fields, holds_voxels, affine, findings)


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


def _affine(fields: Any, policy: Policy) -> tuple[NDArray[np.float64], tuple[Finding, ...]]:
    """Choose between sform and qform, in millimetres, and report findings."""
    shape = (*fields.get_data_shape(), 1, 1, 1)[:3]
    sform, s_code = fields.get_sform(), int(fields["sform_code"])
    q_code = int(fields["qform_code"])
    try:
        qform = fields.get_qform()
    except nib.spatialimages.HeaderDataError:
        if s_code == 0:
            raise
        qform = None
    scale = np.diag([MILLIMETRES.get(fields.get_xyzt_units()[0], 1.0)] * 3 + [1.0])
    if s_code == 0 and q_code == 0:
        if policy.unknown_orientation == "refuse":
            raise Unreadable(
                "orientation",
                "the file has no affine, so that left and right are unknown",
                "cohort.reading.unknown_orientation",
            )
        assumed = Finding(
            "orientation",
            "the file has no affine; its axes were assumed to point to the left, front and top",
            "repaired",
            "cohort.reading.unknown_orientation",
        )
        return scale @ fields.get_base_affine(), (assumed,)
    if s_code and q_code:
        return _choose_affine(scale @ sform, None if qform is None else scale @ qform, shape, policy)
    return scale @ (sform if s_code else qform), ()


def _choose_affine(
    sform: NDArray[np.float64], qform: NDArray[np.float64] | None, shape: tuple[int, ...], policy: Policy
) -> tuple[NDArray[np.float64], tuple[Finding, ...]]:
    """Choose sform or qform if both are set, by comparing orientation and voxel sizes, not the origin."""
    if qform is not None and not (np.isfinite(sform).all() and np.isfinite(qform).all()):
        return sform, ()
    if qform is None or not _same_grid(sform, qform):
        detail = "sform and qform differ in orientation or voxel size"
        if policy.affine_conflict == "refuse":
            raise Unreadable("affine conflict", detail, "cohort.reading.affine_conflict")
        if policy.affine_conflict == "qform" and qform is None:
            raise Unreadable(
                "affine conflict",
                "the qform is not a rotation, so that it cannot be used",
                "cohort.reading.affine_conflict",
            )
        detail += f"; the {policy.affine_conflict} was used"
        taken = Finding("affine conflict", detail, "repaired", "cohort.reading.affine_conflict")
        chosen = sform if policy.affine_conflict == "sform" or qform is None else qform
        return chosen, (taken,)
    corners = np.array([[i, j, k, 1] for i in (0, shape[0]) for j in (0, shape[1]) for k in (0, shape[2])]).T
    apart = np.linalg.norm(((sform - qform) @ corners)[:3], axis=0).max()
    if apart > nib.affines.voxel_sizes(sform).min():
        detail = f"sform and qform are up to {apart:.3g} mm apart; the sform was used"
        return sform, (Finding("affine conflict", detail, "warned"),)
    return sform, ()


def _same_grid(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    if min(abs(np.linalg.det(one[:3, :3])), abs(np.linalg.det(other[:3, :3]))) == 0:
        return False
    sizes = np.allclose(nib.affines.voxel_sizes(one), nib.affines.voxel_sizes(other), rtol=0.01)
    return sizes and nib.aff2axcodes(one) == nib.aff2axcodes(other)


def _stored_values(parsed: _Parsed) -> NDArray[Any]:
    """Read the stored voxels, (X, Y, Z, frames), and the file to its end, so that gzip verifies its checksum."""
    shape = (*parsed.shape[:3], int(np.prod(parsed.shape[3:])))
    expected = int(np.prod(shape, dtype=float)) * parsed.dtype.itemsize
    offset = int(parsed.fields.get_data_offset())
    on_disk = parsed.voxels_in.stat().st_size
    if expected > max(SUSPICIOUS, MAX_RATIO * on_disk):
        raise Unreadable(
            "declared size", f"the header declares {expected} bytes of voxels, but the file has {on_disk} bytes"
        )
    buffer = np.empty(expected, dtype=np.uint8)
    with _opened(parsed.voxels_in) as stream:
        stream.seek(offset)
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
