"""Reads one scan into memory, with its geometry; the only file that opens NIfTI and picture files."""

import gzip
import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

NIFTI = (".nii", ".nii.gz")
PICTURE = (".png", ".jpg", ".jpeg")
READABLE = NIFTI + PICTURE


class Unreadable(Exception):
    """A file that is not a scan this project reads; the message says why."""


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its voxels are read.

    Attributes
    ----------
    shape : tuple of int
        Volume: voxels from left to right, back to front, feet to head. Picture: (rows, columns).
    channels : int
        1, 3 or 4 for a picture, 1 for a volume.
    spacing : tuple of float
        Millimetres a voxel along the same axes; ones for a picture.
    bits : int
        Bits a sample.
    """

    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...]
    bits: int


@dataclass(frozen=True)
class Scan:
    """One scan.

    Attributes
    ----------
    voxels : (C, X, Y, Z) float32 for a volume, (C, rows, columns) for a picture
        Scaled as the header says (`scl_slope`, `scl_inter`).
    affine : (4, 4) float64
        Voxel index to RAS+ millimetres; the identity for a picture.
    """

    voxels: NDArray[np.float32]
    affine: NDArray[np.float64]


def is_volume(path: Path) -> bool:
    """Tell a NIfTI volume from a picture by the ending of its name."""
    return path.name.lower().endswith(NIFTI)


def read_header(path: Path) -> Header:
    """Read shape, channels, spacing and bit depth without reading the voxels.

    Raises
    ------
    Unreadable
        If the file is neither NIfTI, PNG nor JPEG, or its header makes no sense.
    """
    _check_ending(path)
    try:
        if is_volume(path):
            return _nifti_header(_open_nifti(path))
        with Image.open(path) as picture:
            bits = 16 if picture.mode.startswith("I") else 8
            channels = {"L": 1, "RGB": 3, "RGBA": 4}.get(picture.mode, len(picture.getbands()))
            return Header((picture.height, picture.width), channels, (1.0, 1.0), bits)
    except Unreadable:
        raise
    except Exception as error:  # readers raise what they like on a broken file
        raise Unreadable(_without_names(error, path)) from error


def read_scan(path: Path) -> Scan:
    """Read a NIfTI volume or a PNG or JPEG picture; pictures keep their rows and columns.

    Raises
    ------
    Unreadable
        If the file is broken, truncated, of a kind that is not read, or not 2D (picture) or 3D (volume).
    """
    _check_ending(path)
    try:
        return _read_nifti(path) if is_volume(path) else _read_picture(path)
    except Unreadable:
        raise
    except Exception as error:  # readers raise what they like on a broken file
        raise Unreadable(_without_names(error, path)) from error


def _without_names(error: Exception, path: Path) -> str:
    """Say what a reader said, without the file's name, which may be a patient's."""
    text = f"{type(error).__name__}: {error}"
    for name in (str(path.resolve()), str(path), path.name):
        text = text.replace(name, "the file")
    return text


def _check_ending(path: Path) -> None:
    if not path.name.lower().endswith(READABLE):
        raise Unreadable(f"the ending is none of {', '.join(READABLE)}")


def _open_nifti(path: Path) -> nib.nifti1.Nifti1Image:
    image = nib.load(path)
    if not isinstance(image, nib.nifti1.Nifti1Image):
        raise Unreadable("not a NIfTI file")
    return image


def _nifti_header(image: nib.nifti1.Nifti1Image) -> Header:
    affine, shape = image.affine, image.shape
    if len(shape) < 3 or any(size > 1 for size in shape[3:]):
        raise Unreadable(f"expected one 3D volume, found the shape {shape}")
    if affine is None or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise Unreadable("the affine is singular or not finite")
    stored_axis = np.argsort(nib.io_orientation(affine)[:, 0])
    zooms = nib.affines.voxel_sizes(affine)
    return Header(
        shape=tuple(int(shape[axis]) for axis in stored_axis),
        channels=1,
        spacing=tuple(float(zooms[axis]) for axis in stored_axis),
        bits=image.get_data_dtype().itemsize * 8,
    )


def _read_nifti(path: Path) -> Scan:
    if path.name.lower().endswith(".gz"):
        _read_to_the_end(path)
    image = _open_nifti(path)
    _nifti_header(image)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a scaling that overflows is a broken header
        voxels = np.asarray(image.dataobj, dtype=np.float32).reshape(image.shape[:3])
    return Scan(voxels[np.newaxis], np.asarray(image.affine, dtype=np.float64))


def _read_to_the_end(path: Path) -> None:
    """Make gzip check its CRC: nibabel stops before the trailer and would return flipped bits in silence."""
    with gzip.open(path) as stream:
        while stream.read(1 << 22):
            pass


def _read_picture(path: Path) -> Scan:
    with Image.open(path) as opened:
        picture: Image.Image = opened
        picture.load()
        if picture.mode in ("P", "CMYK", "YCbCr", "1"):
            picture = picture.convert("RGB" if picture.mode != "1" else "L")
        pixels = np.asarray(picture, dtype=np.float32)
    stacked = pixels[np.newaxis] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return Scan(np.ascontiguousarray(stacked), np.eye(4))
