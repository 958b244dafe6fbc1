"""Read the text headers of NRRD and MetaImage: what a file states, before SimpleITK fills in the rest."""

import re
from pathlib import Path

from pipeline.imaging.reading.scan import Finding, Policy, Unreadable

HEADER_BYTES = 1 << 16
LINE = re.compile(r"^\s*([A-Za-z][\w ]*?)\s*(?::=?|=)\s*(.*?)\s*$")
DIRECTIONS = {"space directions", "transformmatrix", "rotation", "orientation"}
SIZES = {"space directions", "spacings", "elementspacing", "elementsize"}


def header_fields(path: Path) -> dict[str, str]:
    """Read the fields of the header, with names in small letters; a NRRD header ends at an empty line."""
    with path.open("rb") as file:
        text = file.read(HEADER_BYTES).decode("latin-1")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            break
        if found := LINE.match(line):
            fields[found[1].lower()] = found[2]
        if "elementdatafile" in fields:
            break
    return fields


def states_size(path: Path) -> bool:
    """Tell whether the header states the size of a voxel or pixel."""
    return bool(SIZES & _stated(path))


def _stated(path: Path) -> set[str]:
    fields = header_fields(path).items()
    return {name for name, value in fields if value and not set(value.lower().split()) <= {"none", "nan"}}


def geometry_not_stated(path: Path, policy: Policy) -> tuple[Finding, ...]:
    """Report that a volume states no orientation, or no voxel size.

    Raises
    ------
    Unreadable
        If the policy assumes none.
    """
    fields, stated = header_fields(path), _stated(path)
    lacking = [what for names, what in ((DIRECTIONS, "orientation"), (SIZES, "voxel size")) if not names & stated]
    if "space directions" in stated and "space" not in stated and fields.get("dimension") == "3":  # not of what
        lacking.insert(0, "anatomical space")
    if not lacking:
        return ()
    detail = f"the file states no {' and no '.join(lacking)}"
    if policy.unknown_orientation == "refuse":
        raise Unreadable("orientation", detail, "cohort.reading.unknown_orientation")
    done = "axes were assumed to point to the left, back and top, and voxels to have 1 mm, where nothing is stated"
    return (Finding("orientation", f"{detail}; {done}", "repaired", "cohort.reading.unknown_orientation"),)
