"""Looks at every file before any compute, and says what is wrong with it instead of failing later."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.imaging.volumes import Header, Scan, Unreadable, is_volume, read_header, read_scan

MAX_VOXELS = 1024**3
SPACING_MM = (0.01, 50.0)


@dataclass(frozen=True)
class Finding:
    """What the audit found in one file.

    Attributes
    ----------
    check : str
        Short name of the check that failed, e.g. "unreadable".
    detail : str
        What is wrong, without the file's name.
    """

    check: str
    detail: str


@dataclass(frozen=True)
class Audited:
    """A file's header (None where it cannot be read) and the reason to refuse it (None where it is sound)."""

    header: Header | None
    finding: Finding | None


def audit_file(path: Path) -> Audited:
    """Read a file whole and check it: present, readable to its last byte, finite, not constant, sane geometry."""
    if not path.is_file():
        return Audited(None, Finding("missing", "the file is not there"))
    try:
        header = read_header(path)
        if np.prod(header.shape, dtype=float) > MAX_VOXELS:
            return Audited(header, Finding("too large", f"{header.shape} voxels are declared"))
        scan = read_scan(path)
    except Unreadable as error:
        return Audited(None, Finding("unreadable", str(error)))
    return Audited(header, _first_finding(header, scan, is_volume(path)))


def _first_finding(header: Header, scan: Scan, volume: bool) -> Finding | None:
    if not np.isfinite(scan.voxels).all():
        return Finding("not finite", f"{int((~np.isfinite(scan.voxels)).sum())} voxels are NaN or infinite")
    if scan.voxels.min() == scan.voxels.max():
        return Finding("constant", f"every voxel is {scan.voxels.flat[0]:g}")
    if volume and not all(SPACING_MM[0] <= spacing <= SPACING_MM[1] for spacing in header.spacing):
        return Finding("spacing", f"{header.spacing} mm is not plausible")
    return None
