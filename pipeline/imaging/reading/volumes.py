"""The one door to scans: whatever the format, a `Scan` comes out, or `Unreadable` with the reason."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.imaging.reading import dicom, images, metaimage, nifti
from pipeline.imaging.reading.scan import STRICT, Finding, Header, Policy, Scan, Unreadable

FORMATS = (nifti, metaimage, images, dicom)
LONGEST_REASON = 400  # characters
READABLE = tuple(ending for reader in FORMATS for ending in reader.ENDINGS)


def is_readable(path: Path) -> bool:
    """Tell by its name, or for DICOM by its preamble, whether a file is of a kind that is read."""
    return path.name.lower().endswith(READABLE) or dicom.is_dicom(path)


def read_header(path: Path, policy: Policy = STRICT) -> Header:
    """Read shape, channels, spacing and depth without reading the voxels.

    Parameters
    ----------
    path : Path
        NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF or DICOM file, or a folder with one DICOM series.
    policy : Policy
        What to do with a scan that is not quite right.

    Raises
    ------
    Unreadable
        If the file is missing, of another kind, broken, or its header makes no sense.
    """
    header: Header = _guarded(path, lambda reader: reader.read_header(path, policy))
    return header


def read_scan(path: Path, policy: Policy = STRICT) -> Scan:
    """Read one scan whole.

    Parameters
    ----------
    path, policy
        As for `read_header`.

    Raises
    ------
    Unreadable
        If it cannot be read to its last byte, all its voxels are equal, or some are not finite.
    """
    scan: Scan = _guarded(path, lambda reader: reader.read_scan(path, policy))
    return _with_sound_voxels(scan, policy)


def _guarded(path: Path, read: Callable[[ModuleType], Any]) -> Any:
    """Call the reader of a file's format; whatever a library raises becomes a reason without the file's name."""
    try:
        return read(_reader_of(path))
    except Unreadable:
        raise
    except MemoryError as error:
        raise Unreadable("too large", "there is not enough memory for it", "cohort.reading.max_voxels") from error
    except Exception as error:  # readers raise what they like on a broken file
        raise Unreadable("unreadable", _without_names(error, path)) from error


def _reader_of(path: Path) -> ModuleType:
    if not path.exists():
        raise Unreadable("missing", "the file is not there")
    if path.is_dir():
        return dicom
    for reader in FORMATS:
        if path.name.lower().endswith(reader.ENDINGS):
            return reader
    if dicom.is_dicom(path):
        return dicom
    raise Unreadable("unknown format", f"the ending is none of {', '.join(READABLE)}, and it is no DICOM file")


def _without_names(error: Exception, path: Path) -> str:
    """Say what a reader said, without file names and quoted values, which may be a patient's."""
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError):  # decoders quote the compression
        text = re.sub(r"""(['"]).*?\1""", "…", text)
    text = re.sub(r"\S*[/\\]\S*", "the file", text)
    for name in (path.name, path.stem):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", text)
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON]


def _with_sound_voxels(scan: Scan, policy: Policy) -> Scan:
    low, high = scan.voxels.min(), scan.voxels.max()  # NaN and infinity come through
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = np.isfinite(scan.voxels)
        detail = f"{int(finite.size - finite.sum())} voxels are NaN or infinite"
        if policy.not_finite == "refuse" or not finite.any():
            raise Unreadable("not finite", detail, "cohort.reading.not_finite")
        low, high = scan.voxels[finite].min(), scan.voxels[finite].max()
        found = Finding("not finite", f"{detail}; set to the lowest value", "repaired", "cohort.reading.not_finite")
        header = replace(scan.header, findings=(*scan.header.findings, found))
        scan = replace(scan, voxels=np.where(finite, scan.voxels, low), header=header)
    if low == high:
        raise Unreadable("constant", f"every voxel is {low:g}")
    return scan
