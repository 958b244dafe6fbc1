"""Import images from one folder per class, or per split and class."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from pipeline.imaging.labels import renamed
from pipeline.imaging.reading.companions import companions_of
from pipeline.imaging.reading.dicom import is_dicom, read_fields
from pipeline.imaging.reading.volumes import is_readable
from pipeline.stages.cohort.importers.found import (
    SPLIT_NAMES,
    BadSource,
    Import,
    is_noise,
    row_of,
    why_no_image,
)
from pipeline.stages.cohort.importers.places import Places
from pipeline.stages.cohort.importers.table import NOT_DICOM, names_stay

IMAGES, MASKS = ("images", "image", "img", "imgs"), ("masks", "mask", "labels", "annotations", "segmentations")


def find_in_class_folders(
    folder: Path, patient_pattern: str | None, rename: Mapping[str, str], root: Path | None = None
) -> Import:
    """Read a folder with one subfolder per class, and make one case of each image.

    DICOM files of one series in one folder form one image.

    Parameters
    ----------
    folder : Path
        Layout `folder/CLASS/…/image`, at any depth below the class. If all subfolders have names of splits ("train",
        "test"), the layout is `folder/SPLIT/CLASS/…/image`, or `folder/SPLIT/images/CLASS/…/image` with the masks in
        a folder beside "images".
    patient_pattern : str or None
        Regular expression; its first group, matched in the path below `folder`, is the patient.
    rename : mapping
        New name of each label to rename.
    root : Path, optional
        Folder that holds all images, see `Places`.

    Raises
    ------
    BadSource
        If `folder` has fewer than two class folders, or the pattern is invalid, has no group or misses an image.
    """
    levels, classes = _layout(folder)
    if len(classes) < 2:
        raise BadSource(f"{folder} holds {len(classes)} class folders{_what_is_there(folder)}; it needs at least two")
    pattern = _compiled(patient_pattern)
    found, places = Import(), Places(folder, root)
    for image in _images(places, levels, found):
        name = image.relative_to(folder)
        label = name.parts[levels - 1]
        split = SPLIT_NAMES[name.parts[0].lower()] if levels > 1 else ""
        patient = _patient_in(str(name), pattern)
        places.take(found, image, row_of(str(name), str(name), renamed(label, rename), patient, split=split))
    found.notes += names_stay(found)
    return found


def _layout(folder: Path) -> tuple[int, set[str]]:
    """Find the number of folders above an image down to its class, and the classes."""
    folders = _folders_in(folder)
    if not folders or not all(child.name.lower() in SPLIT_NAMES for child in folders):
        return 1, {child.name for child in folders}
    below = [grandchild for child in folders for grandchild in _folders_in(child)]
    if below and {one.name.lower() for one in below} <= {*IMAGES, *MASKS}:
        below = [one for of in below if of.name.lower() in IMAGES for one in _folders_in(of)]
        return 3, {one.name for one in below}
    return 2, {one.name for one in below}


def _what_is_there(folder: Path) -> str:
    names = [child.name for child in _folders_in(folder)]
    return f" (below {', '.join(names[:4])})" if names else ""


def _folders_in(folder: Path) -> list[Path]:
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    return [child for child in children if child.is_dir() and not is_noise(Path(child.name))]


def _images(places: Places, depth: int, found: Import) -> list[Path]:
    """List the images at least `depth` folders below `folder`, and record all other files as left out."""
    images, folder = [], places.folder
    for file in places.files():
        name = file.relative_to(folder)
        if is_noise(name) or not is_readable(file):
            found.left_out.append((str(name), why_no_image(file)))
        elif depth == 3 and name.parts[1].lower() in MASKS:
            found.left_out.append((str(name), "a mask, which is no image of its own"))
        elif len(name.parts) <= depth:
            found.left_out.append((str(name), "it lies beside the class folders, not in one"))
        else:
            images.append(file)
    voxels = {file.parent / name for file in images if file.suffix.lower() != ".img" for name in _beside(file)}
    found.left_out = [one for one in found.left_out if folder / one[0] not in voxels]
    return _series_as_one([file for file in images if file not in voxels], folder, found)


def _beside(file: Path) -> list[str]:
    try:
        return companions_of(file)
    except ValueError:  # `Import.take` reports it
        return []


def _series_as_one(images: Iterable[Path], folder: Path, found: Import) -> list[Path]:
    """Replace DICOM files of one series in one folder by the folder; leave out folders that mix series."""
    kept: list[Path] = []
    of_folder: dict[Path, dict[str, list[Path]]] = {}
    for file in images:
        if file.name.lower().endswith(NOT_DICOM) or not is_dicom(file):
            kept.append(file)
        else:
            of_folder.setdefault(file.parent, {}).setdefault(_series_of(file), []).append(file)
    for parent, series in of_folder.items():
        if max(len(files) for files in series.values()) == 1:
            kept += [file for files in series.values() for file in files]
        elif len(series) == 1:
            kept.append(parent)
        else:
            reason = f"its folder mixes {len(series)} DICOM series; `medadapt import dicom --labels` separates them"
            found.left_out += [(str(file.relative_to(folder)), reason) for files in series.values() for file in files]
    return sorted(kept)


def _series_of(file: Path) -> str:
    """Return the series UID, or the path for a file without one, which is then a series of its own."""
    try:
        return str(read_fields(file).get("SeriesInstanceUID", "")) or str(file)
    except Exception:  # pydicom raises any exception on a broken file; the audit reports the fault
        return str(file)


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise BadSource(f"--patient-pattern is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise BadSource("--patient-pattern needs a group in brackets, which is the patient")
    return compiled


def _patient_in(name: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return ""
    match = pattern.search(name)
    if match is None:
        raise BadSource(f"--patient-pattern does not match {name}")
    return match.group(1)
