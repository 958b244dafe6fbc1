"""Read scans of every format: the result is a `Scan`, or `Unreadable` with the reason."""

import codecs
import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.reading import dicom, images, metaimage, nifti
from pipeline.imaging.reading.padding import ENDLESS, recognised
from pipeline.imaging.reading.scan import STRICT, Finding, Header, Policy, Scan, Unreadable

FORMATS = (nifti, metaimage, images, dicom)
FORMAT_NAMES = "NIfTI, DICOM, NRRD, MetaImage, PNG, JPEG or TIFF"
LONGEST_REASON = 400  # characters
LEVELS = 256  # fewest values that a scan of large numbers must be able to take
WHOLE = 2.0**23  # beyond, float32 rounds to integers or coarser
FLAT = 1e-30  # no scan measures a smaller range, nor can float32 scale it
READABLE = tuple(ending for reader in FORMATS for ending in reader.ENDINGS)


def is_readable(path: Path) -> bool:
    """Tell from its name, or for DICOM from its preamble, whether a file has a supported format."""
    return path.name.lower().endswith(READABLE) or dicom.is_dicom(path)


def read_header(path: Path, policy: Policy = STRICT) -> Header:
    """Read shape, channels, spacing and bit depth without the voxels.

    Parameters
    ----------
    path : Path
        NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF or DICOM file, or a folder with one DICOM series.
    policy : Policy
        How faulty scans are handled.

    Raises
    ------
    Unreadable
        If the file is missing, broken, of an unknown format, or its header is not plausible.
    """
    header: Header = _guarded(path, lambda reader: reader.read_header(path, policy))
    return header


def read_scan(path: Path, policy: Policy = STRICT) -> Scan:
    """Read a scan with its voxels.

    Parameters
    ----------
    path, policy
        As for `read_header`.

    Raises
    ------
    Unreadable
        If the file cannot be read to its last byte, all voxels are equal, or some are not finite.
    """
    scan: Scan = _guarded(path, lambda reader: reader.read_scan(path, policy))
    return _with_sound_voxels(scan, policy)


def read_stored(path: Path, policy: Policy = STRICT) -> Scan:
    """Read voxels as they are stored, equal ones and zeros too, as of a mask; raise Unreadable as `read_scan` does."""
    scan: Scan = _guarded(path, lambda reader: reader.read_scan(path, policy))
    return scan


def read_with(path: Path, read: Callable[[], Any]) -> Any:
    """Call a reader of a further format; raise Unreadable as `read_scan` does."""
    return _guarded(path, lambda _: read())


def _guarded(path: Path, read: Callable[[ModuleType], Any]) -> Any:
    """Call the reader of the file's format; turn any error of a library into a reason without the file's name."""
    try:
        return read(_reader_of(path))
    except Unreadable:
        raise
    except PermissionError as error:
        raise Unreadable(
            "permission", "it cannot be read (permission denied); ask its owner for read access"
        ) from error
    except MemoryError as error:
        raise Unreadable("too large", "the scan does not fit into memory", "cohort.reading.max_voxels") from error
    except Exception as error:  # libraries raise errors of any type on a broken file
        raise Unreadable("unreadable", _without_names(error, path)) from error


def _reader_of(path: Path) -> ModuleType:
    if not path.exists():
        raise Unreadable("missing", "the file does not exist")
    if path.is_dir():
        return dicom
    if path.stat().st_size == 0:
        raise Unreadable("empty file", "the file is empty")
    for reader in FORMATS:
        if path.name.lower().endswith(reader.ENDINGS):
            return reader
    if dicom.is_dicom(path):
        return dicom
    if _is_text(path):
        raise Unreadable("unknown format", f"it is a text file, not an image; give {FORMAT_NAMES}")
    raise Unreadable("unknown format", f"it is not DICOM, and its ending is not one of {', '.join(READABLE)}")


def _is_text(path: Path) -> bool:
    with path.open("rb") as file, contextlib.suppress(UnicodeDecodeError):
        begin = codecs.getincrementaldecoder("utf-8")().decode(file.read(1024))
        return "\0" not in begin
    return False


def _without_names(error: Exception, path: Path) -> str:
    """Repeat a library's message without file names and quoted values, which may identify a patient."""
    text = " ".join(str(error).split())
    if not isinstance(error, RuntimeError):  # decoders put the compression in quotes
        text = re.sub(r"""(['"]).*?\1""", "…", text)
    text = re.sub(r"\S*[/\\]\S*", "the file", text)
    for name in (path.name, path.stem):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "the file", text)
    return f"{type(error).__name__}: {text}"[:LONGEST_REASON]


def _with_sound_voxels(scan: Scan, policy: Policy) -> Scan:
    """Repair or refuse voxels that are not finite; refuse a scan without contrast; darken its padding."""
    low, high = scan.voxels.min(), scan.voxels.max()  # NaN and infinity propagate
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = np.isfinite(scan.voxels)
        detail = f"{int(finite.size - finite.sum())} voxels are NaN or infinite"
        if policy.not_finite == "refuse" or not finite.any():
            raise Unreadable("not finite", detail, "cohort.reading.not_finite")
        low, high = scan.voxels[finite].min(), scan.voxels[finite].max()
        found = Finding(
            "not finite", f"{detail}; they were set to the lowest finite value", "repaired", "cohort.reading.not_finite"
        )
        header = replace(scan.header, findings=(*scan.header.findings, found))
        scan = replace(scan, voxels=np.where(finite, scan.voxels, low), header=header)
    scan = recognised(scan, low, high)
    inside = scan.voxels
    if scan.background is not None:
        inside = inside[inside != scan.background]
        low, high = inside.min(), inside.max()
    _refuse_without_contrast(inside, low, high)
    return scan


def _refuse_without_contrast(inside: NDArray[Any], low: Any, high: Any) -> None:
    span, largest = float(high) - float(low), max(abs(float(low)), abs(float(high)))
    if largest > ENDLESS or 0 < span < FLAT:
        detail = f"the values from {low:.4g} to {high:.4g} are none that a scan measures; correct or export it again"
        raise Unreadable("range", detail)
    narrow = inside.dtype.kind == "f" and span < LEVELS * np.spacing(np.float32(largest))
    if narrow and (largest > WHOLE or (low < high and (inside % 1 != 0).any())):
        detail = (
            f"the values lie so close together at {high:.4g} that numbers of 32 bits hold fewer than {LEVELS} of them; "
            "subtract their lowest value"
        )
        raise Unreadable("precision", detail)
    if low == high:
        raise Unreadable("constant", f"every voxel has the value {low:g}")
