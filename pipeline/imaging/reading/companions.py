"""Images stored in two files: find the file that holds the voxels."""

import re
from pathlib import Path

DATA_FILE = {
    ".mhd": re.compile(r"^ElementDataFile\s*=\s*(.+?)\s*$", re.MULTILINE),
    ".nhdr": re.compile(r"^data ?file:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE),
}
HEADER_BYTES = 1 << 16
NAMED = re.compile(
    rb"^[ \t]*(?:ElementDataFile[ \t]*[=:]|data ?file[ \t]*:)[ \t]*([^\r\n]*)", re.MULTILINE | re.IGNORECASE
)
LISTED = re.compile(r"LIST\b")


def lies_elsewhere(image: Path) -> bool:
    """Check whether a NRRD or MetaImage header names voxels outside of its folder, once links are followed.

    A header that does not end within 64 KiB counts as such, as nobody can tell.
    """
    with image.open("rb") as file:
        head = file.read(HEADER_BYTES)
    nrrd = head.startswith(b"NRRD")
    if nrrd:
        head, end, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
        detached = NAMED.search(head)
        if not end and len(head) >= HEADER_BYTES:
            return True
        if not detached:
            return False
    found = NAMED.search(head)
    if found is None:
        return True
    named = found[1].decode("latin-1").strip()
    if not nrrd and named.upper() == "LOCAL":
        return False
    names = head[found.end() :].decode("latin-1").split("\n") if LISTED.match(named) else [named]
    folders = (image.parent.resolve(), image.resolve().parent)
    places = [(image.parent / name.strip()).resolve() for name in names if name.strip()]
    return not all(any(place.is_relative_to(folder) for folder in folders) for place in places)


def companions_of(image: Path) -> list[str]:
    """List the other files that an image needs, relative to its folder.

    Raises
    ------
    ValueError
        If a file is missing, or the voxels are spread over several files.
    """
    ending = image.suffix.lower()
    if ending in (".hdr", ".img"):
        other = ".img" if ending == ".hdr" else ".hdr"
        names = [image.stem + (other.upper() if image.suffix.isupper() else other)]
    elif ending in DATA_FILE:
        names = _named_in_header(image, DATA_FILE[ending])
    else:
        names = []
    for name in names:
        if not (image.parent / name).is_file():
            raise ValueError(f"the companion file {name} does not exist")
    return names


def _named_in_header(image: Path, pattern: re.Pattern[str]) -> list[str]:
    with image.open("rb") as file:
        found = pattern.search(file.read(HEADER_BYTES).decode("latin-1"))
    if found is None or found[1] == "LOCAL":
        return []
    if found[1].startswith("LIST") or "%" in found[1]:
        raise ValueError("the voxels are spread over several files; store them in one")
    return [str(Path(found[1]))]
