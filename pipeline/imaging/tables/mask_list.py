"""Find the masks of scans in a folder by their names."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.imaging.reading.volumes import READABLE
from pipeline.imaging.tables.scan_list import DOCUMENTS
from pipeline.imaging.tables.text_table import BadTable

OF_SLICER = (".seg.nrrd", ".seg.nii.gz", ".seg.nii")
ENDINGS = sorted((*READABLE, *OF_SLICER), key=len, reverse=True)
MARKS = ("_mask", "_seg", "_segmentation", "_label", "-mask", "-seg")  # that a mask's name has behind its scan's


def stem_of(file: str | Path) -> str:
    """Name a file without folder and ending.

    >>> stem_of("inbox/sub-1_T1w.nii.gz")
    'sub-1_T1w'
    """
    name = Path(file).name
    ending = next((ending for ending in ENDINGS if name.lower().endswith(ending)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def masks_by_name(folder: Path) -> dict[str, Path]:
    """List the masks of a folder, searched recursively, by the name of their scan: without ending and without `MARKS`.

    Raises
    ------
    BadTable
        If the folder is none, or holds two masks of a name.
    """
    if not folder.is_dir():
        raise BadTable(f"{folder} is no folder of masks; name one, with masks of the names of their scans")
    found: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.name.startswith(".") or file.name.lower().endswith(DOCUMENTS):
            continue
        stem = stem_of(file)
        mark = next((mark for mark in MARKS if stem.lower().endswith(mark)), "")
        name = stem[: len(stem) - len(mark)]
        if name in found:
            raise BadTable(f"{found[name]} and {file} are masks of the same name; keep one")
        found[name] = file
    return found


def masks_for(scans: Sequence[str], folder: Path) -> dict[str, Path]:
    """Find the mask of each scan by name; a scan whose name no mask has is left out.

    Raises
    ------
    BadTable
        As `masks_by_name`, or if a mask has the name of several scans.
    """
    masks = masks_by_name(folder)
    stems = [stem_of(scan) for scan in scans]
    if twice := next((stem for stem in stems if stem in masks and stems.count(stem) > 1), None):
        raise BadTable(
            f"{masks[twice]} has the name of several scans; give a list of scans (.csv) with the column mask"
        )
    return {scan: masks[stem_of(scan)] for scan in scans if stem_of(scan) in masks}
