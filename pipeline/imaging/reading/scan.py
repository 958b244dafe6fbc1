"""What a reader returns: a scan with its geometry, or the reason for refusing it."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Action = Literal["refused", "excluded", "repaired", "warned"]

SINGULAR = 1e-9  # cubic millimetres per voxel
PIECE = 1 << 20  # values scaled in double precision at a time


@dataclass(frozen=True)
class Finding:
    """Describe a fault of a scan and what was done about it.

    Attributes
    ----------
    check : str
        Short name of the check, e.g. "truncated".
    detail : str
        What is wrong; never contains the file name, which may identify a patient.
    action : {"refused", "excluded", "repaired", "warned"}
        "excluded" marks a sound case that the settings leave out.
    parameter : str
        Key of params.yaml that decides what is done, or "" if only the file itself can be corrected.
    """

    check: str
    detail: str
    action: Action = "refused"
    parameter: str = ""

    def __str__(self) -> str:
        change = f" (params.yaml: {self.parameter} decides)" if self.parameter else ""
        return f"{self.check}: {self.detail}{change}"


class Unreadable(Exception):
    """Signal that a file cannot be used as a scan; `finding` gives the reason."""

    def __init__(self, check: str, detail: str, parameter: str = "") -> None:
        super().__init__(f"{check}: {detail}")
        self.finding = Finding(check, detail, "refused", parameter)


@dataclass(frozen=True)
class Policy:
    """Choose how faulty scans are handled; the defaults refuse every fault that cannot be repaired safely.

    Attributes
    ----------
    frames : {"refuse", "first", "mean"}
        What to use of a file with several volumes (4D) or several images.
    affine_conflict : {"refuse", "sform", "qform"}
        Which affine to use of a NIfTI file whose sform and qform differ.
    unknown_orientation : {"refuse", "assume"}
        What to do with a volume whose file states no orientation or no sound voxel size. "assume" uses the fallback of
        its format (of NIfTI, axes to the left, front and top); left and right may then be exchanged.
    missing_slices : {"refuse", "interpolate"}
        What to do with a DICOM series with gaps.
    not_finite : {"refuse", "darken"}
        What to do with NaN and infinite voxels; "darken" sets them to the lowest finite value.
    max_voxels : int
        Largest declared size; a larger scan is refused before memory is allocated.
    spacing_mm : (float, float)
        Smallest and largest plausible voxel size in millimetres.
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
    """Hold what a file declares, before its voxels are read.

    Attributes
    ----------
    shape : tuple of int
        Volume: voxels from left to right, back to front, feet to head. Image: (rows, columns).
    channels : int
        1, 3 or 4 for an image, 1 or 3 for a volume.
    spacing : tuple of float
        Millimetres per voxel along the same axes; of an image without, the proportions of its pixels.
    bits : int
        Bits per sample.
    modality : str
        DICOM's code ("CT", "MR", "DX", ...), or "" if the format has none.
    findings : tuple of Finding
        Repairs and warnings.
    in_mm : bool
        Whether the spacing is in millimetres; False for an image that states no size of its pixels.
    """

    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    bits: int
    modality: str = ""
    findings: tuple[Finding, ...] = ()
    in_mm: bool = True

    @property
    def is_volume(self) -> bool:
        """Tell whether the scan is a volume, not an image."""
        return len(self.shape) == 3


@dataclass(frozen=True)
class Scan:
    """Hold the voxels, geometry and header of one scan.

    Attributes
    ----------
    voxels : (C, X, Y, Z) for a volume, (C, rows, columns) for an image
        In the scan's own units (Hounsfield units for CT): integers are uint8, int16 or int32, all else is float32.
        Axes as stored.
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres; the identity for an image.
    header : Header
    background : float or None
        Value of the voxels outside the imaged area (padding), lower than any other; None if none are known.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    header: Header
    background: float | None = None


def volume_header(
    shape: tuple[int, ...],
    affine: NDArray[np.float64],
    bits: int,
    policy: Policy,
    *,
    channels: int = 1,
    modality: str = "",
    findings: tuple[Finding, ...] = (),
) -> Header:
    """Describe a volume in RAS order; refuse an implausible geometry.

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
    import nibabel as nib  # here, because the schema imports this module, and with it every command

    if not np.isfinite(affine).all():
        raise Unreadable("affine", "the affine is not finite: it has NaN or infinite entries")
    if abs(np.linalg.det(affine[:3, :3])) < SINGULAR:
        raise Unreadable("affine", "the affine is singular, so that voxels have no volume")
    refuse_size(shape, policy)
    zooms = nib.affines.voxel_sizes(affine)
    low, high = policy.spacing_mm
    if not all(low <= zoom <= high for zoom in zooms):
        sizes = " x ".join(f"{zoom:.4g}" for zoom in zooms)
        raise Unreadable(
            "spacing",
            f"a voxel size of {sizes} mm is not plausible ({low:g} to {high:g} mm are)",
            "cohort.reading.spacing_mm",
        )
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
    """Refuse a declared size of zero or above `policy.max_voxels`, before memory is allocated."""
    if any(size < 1 for size in shape):
        raise Unreadable("empty", f"the declared shape is {shape}")
    if np.prod(shape, dtype=float) > policy.max_voxels:
        voxels = " x ".join(map(str, shape))
        raise Unreadable(
            "too large",
            f"{voxels} voxels are declared; at most {policy.max_voxels} are allowed",
            "cohort.reading.max_voxels",
        )


def pick_frame(frames: NDArray[Any], policy: Policy) -> tuple[NDArray[Any], Finding]:
    """Select the first of several volumes or images, or average them, as the policy says.

    Parameters
    ----------
    frames : (..., T)
        T volumes or images, T > 1.
    """
    count = frames.shape[-1]
    refuse_frames(count, policy)
    finding = Finding("frames", f"{count} frames; the {policy.frames} was used", "repaired", "cohort.reading.frames")
    if policy.frames == "first":
        return frames[..., 0], finding
    return frames.mean(axis=-1, dtype=np.float32), finding


def refuse_frames(count: int, policy: Policy) -> None:
    """Refuse several frames unless the policy selects one."""
    if count > 1 and policy.frames == "refuse":
        raise Unreadable("frames", f"the file holds {count} volumes or images instead of one", "cohort.reading.frames")


def compact(values: NDArray[Any]) -> NDArray[Any]:
    """Convert integers to the smallest of uint8, int16 and int32 that holds them, all else to float32."""
    if values.dtype in (np.uint8, np.int16, np.int32) and values.dtype.isnative:
        return values
    if values.dtype.kind in "iub":
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        for kind in (np.uint8, np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                return values.astype(kind)
    with np.errstate(over="ignore"):  # what becomes infinite is refused or darkened as such
        return values.astype(np.float32)


def rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Compute slope * stored + intercept in double precision, piece by piece.

    Returns
    -------
    array of the shape of `stored`
        int16 or int32 if the slope is 1 and the intercept an integer, else float32.
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
