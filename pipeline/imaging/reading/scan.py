"""What a reader gives back: a scan with its geometry, or the reason why it is refused."""

from dataclasses import dataclass
from typing import Any, Literal

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

Action = Literal["refused", "repaired", "warned"]

SINGULAR = 1e-9  # cubic millimetres a voxel
PIECE = 1 << 20  # values that are scaled in double precision at a time


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a scan, and what was done about it.

    Attributes
    ----------
    check : str
        Short name of the check, e.g. "truncated".
    detail : str
        What is wrong; never the name of the file, which may be a patient's.
    action : {"refused", "repaired", "warned"}
    parameter : str
        The key of params.yaml that decides about it, or "" where nothing can be done but mend the file.
    """

    check: str
    detail: str
    action: Action = "refused"
    parameter: str = ""

    def __str__(self) -> str:
        change = f" ({self.parameter} decides)" if self.parameter else ""
        return f"{self.check}: {self.detail}{change}"


class Unreadable(Exception):
    """A file that is not a scan this project takes; `finding` says why."""

    def __init__(self, check: str, detail: str, parameter: str = "") -> None:
        super().__init__(f"{check}: {detail}")
        self.finding = Finding(check, detail, "refused", parameter)


@dataclass(frozen=True)
class Policy:
    """What is done with a scan that is not quite right; every default refuses what cannot be mended safely.

    Attributes
    ----------
    frames : {"refuse", "first", "mean"}
        Of a file with several volumes (4D) or several images.
    affine_conflict : {"refuse", "sform", "qform"}
        Of a NIfTI file whose two affines differ.
    unknown_orientation : {"refuse", "assume"}
        Of a NIfTI file without any affine; "assume" takes NIfTI's fallback, in which the voxels run
        left, front, top by their sizes alone. Left and right may then be exchanged.
    missing_slices : {"refuse", "interpolate"}
        Of a DICOM series with gaps.
    not_finite : {"refuse", "darken"}
        Of NaN and infinite voxels; "darken" gives them the lowest finite value.
    max_voxels : int
        Declared size above which a scan is refused before any memory is taken.
    spacing_mm : (float, float)
        Voxel sizes that are plausible.
    """

    frames: Literal["refuse", "first", "mean"] = "refuse"
    affine_conflict: Literal["refuse", "sform", "qform"] = "refuse"
    unknown_orientation: Literal["refuse", "assume"] = "refuse"
    missing_slices: Literal["refuse", "interpolate"] = "refuse"
    not_finite: Literal["refuse", "darken"] = "refuse"
    max_voxels: int = 2**28
    spacing_mm: tuple[float, float] = (0.01, 50.0)


STRICT = Policy()


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its voxels are read.

    Attributes
    ----------
    shape : tuple of int
        Volume: voxels from left to right, back to front, feet to head. Image: (rows, columns).
    channels : int
        1, 3 or 4 for a image, 1 or 3 for a volume.
    spacing : tuple of float
        Millimetres a voxel along the same axes; ones for a image that states none.
    bits : int
        Bits a sample.
    modality : str
        As DICOM names it ("CT", "MR", "DX", ...), or "" where the format does not say.
    findings : tuple of Finding
        What was repaired, and what is merely odd.
    """

    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    bits: int
    modality: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def is_volume(self) -> bool:
        """Tell a volume from a image."""
        return len(self.shape) == 3


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes
    ----------
    voxels : (C, X, Y, Z) for a volume, (C, rows, columns) for a image
        In the scan's own units (Hounsfield units for CT): whole numbers stay whole (uint8, int16, int32),
        all else is float32. Axes as stored.
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres; the identity for a image.
    header : Header
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    header: Header


def volume_header(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    bits: int,
    policy: Policy,
    channels: int = 1,
    modality: str = "",
    findings: tuple[Finding, ...] = (),
) -> Header:
    """Describe a volume in RAS order, and refuse a geometry that makes no sense or no room.

    Parameters
    ----------
    shape : (X, Y, Z)
        As stored.
    affine : (4, 4)
        Voxel index to RAS+ millimetres.

    Raises
    ------
    Unreadable
        If the affine is not finite or singular, the voxel size implausible, or the volume empty or too large.
    """
    if not np.isfinite(affine).all():
        raise Unreadable("affine", "the affine is not finite")
    if abs(np.linalg.det(affine[:3, :3])) < SINGULAR:
        raise Unreadable("affine", "the affine is singular")
    refuse_size(shape, policy)
    zooms = nib.affines.voxel_sizes(affine)
    low, high = policy.spacing_mm
    if not all(low <= zoom <= high for zoom in zooms):
        sizes = " x ".join(f"{zoom:.4g}" for zoom in zooms)
        raise Unreadable("spacing", f"a voxel of {sizes} mm is not plausible", "cohort.reading.spacing_mm")
    stored_axis = np.argsort(nib.io_orientation(affine)[:, 0])
    return Header(
        shape=tuple(int(shape[axis]) for axis in stored_axis),
        channels=channels,
        spacing=tuple(float(zooms[axis]) for axis in stored_axis),
        bits=bits,
        modality=modality,
        findings=findings,
    )


def refuse_size(shape: tuple[int, ...], policy: Policy) -> None:
    """Refuse what is declared empty or larger than `policy.max_voxels`, before any memory is taken."""
    if any(size < 1 for size in shape):
        raise Unreadable("empty", f"the declared shape is {shape}")
    if np.prod(shape, dtype=float) > policy.max_voxels:
        voxels = " x ".join(map(str, shape))
        raise Unreadable("too large", f"{voxels} voxels are declared, more than allowed", "cohort.reading.max_voxels")


def pick_frame(frames: NDArray[Any], policy: Policy) -> tuple[NDArray[Any], Finding]:
    """Take one volume or image of several, as the policy says.

    Parameters
    ----------
    frames : (..., T)
        T volumes or images, T > 1.
    """
    count = frames.shape[-1]
    refuse_frames(count, policy)
    finding = Finding("frames", f"{count} frames; took the {policy.frames}", "repaired", "cohort.reading.frames")
    if policy.frames == "first":
        return frames[..., 0], finding
    return frames.mean(axis=-1, dtype=np.float32), finding


def refuse_frames(count: int, policy: Policy) -> None:
    """Refuse several frames unless the policy says which to take."""
    if count > 1 and policy.frames == "refuse":
        raise Unreadable("frames", f"it holds {count} volumes or images, not one", "cohort.reading.frames")


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Keep whole numbers in the smallest of uint8, int16 and int32 that holds them; all else becomes float32."""
    if values.dtype in (np.uint8, np.int16, np.int32) and values.dtype.isnative:
        return values
    if values.dtype.kind in "iub":
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        for kind in (np.uint8, np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return values.astype(kind)
    return values.astype(np.float32)


def rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Compute slope * stored + intercept in double precision, a piece at a time; whole numbers stay whole.

    Returns
    -------
    array of the shape of `stored`
        int16 or int32 where the slope is 1 and the intercept whole, else float32.
    """
    if slope == 1 and float(intercept).is_integer() and stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
        low, high = (int(edge) + int(intercept) for edge in (stored.min(), stored.max()))
        narrow = min(low, intercept) >= -(2**15) and max(high, intercept) < 2**15
        whole: NDArray[Any] = stored.astype(np.int16 if narrow else np.int32)
        whole += int(intercept)
        return whole
    flat = stored.reshape(-1, order="F")
    values = np.empty(flat.size, dtype=np.float32)
    for start in range(0, flat.size, PIECE):
        values[start : start + PIECE] = flat[start : start + PIECE] * float(slope) + float(intercept)
    return values.reshape(stored.shape, order="F")
