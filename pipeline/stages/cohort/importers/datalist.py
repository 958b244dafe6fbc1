"""Import the JSON datalists of MONAI and of the Medical Segmentation Decathlon."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.imaging.labels import renamed
from pipeline.imaging.reading.volumes import READABLE
from pipeline.imaging.tables.cohort_table import MASK
from pipeline.imaging.tables.text_table import NOT_GIVEN
from pipeline.stages.cohort.importers.columns import keep_columns
from pipeline.stages.cohort.importers.found import SPLIT_NAMES, BadCase, BadSource, Import, row_of
from pipeline.stages.cohort.importers.places import Places
from pipeline.stages.cohort.importers.table import names_stay, take_with_mask

PATIENT_KEYS = ("patient", "patient_id", "subject")


def find_in_datalist(
    file: Path,
    unlabelled: bool,
    rename: Mapping[str, str],
    root: Path | None = None,
    *,
    keep: Sequence[str] = (),
    segmentations: bool = False,
) -> Import:
    """Read the lists "training", "validation" and "test" of a JSON file, and make one case of each entry.

    An entry is a path relative to the file's folder, or `{"image": path, "label": …}`, optionally with "mask",
    "patient", "patient_id" or "subject", "site" and further columns. With `segmentations`, a label that is a path is
    the mask of the image, which then has no class. A label is a class index, the name of a class, or a one-hot
    list; the key "labels" names the classes. Entries without a label get the split "unlabelled".

    Parameters
    ----------
    file : Path
        JSON file, e.g. dataset.json.
    unlabelled : bool
        Import all images without a class, including images with a segmentation as label.
    segmentations : bool
        Whether labels may be masks; such an image has no class until someone writes one into cohort.csv.
    rename : mapping
        New name of each label to rename.
    root : Path, optional
        Folder that holds all images, see `Places`.
    keep : sequence of str
        Further columns to keep, see `keep_columns`.

    Raises
    ------
    BadSource
        If the file is missing, is not JSON, or holds none of the three lists, an image lies outside, or a column to
        keep could identify a patient.
    """
    content = _json(file)
    names = _class_names(content.get("labels"))
    found, places, further = Import(), Places(file.parent, root), dict[str, dict[str, str]]()
    for key, entries in _lists(content, file, found).items():
        for number, entry in enumerate(entries):
            fields = {"image": entry} if isinstance(entry, str) else entry
            if not isinstance(fields, dict) or not isinstance(fields.get("image"), str):
                found.left_out.append((f"{key}[{number}]", "it does not name one image"))
                continue
            mask = _mask_of(fields, segmentations)
            if mask is not None:
                fields = {name: value for name, value in fields.items() if name != MASK and not _is_path(value, mask)}
            try:
                label = "" if unlabelled else _label(fields.get("label"), names)
            except BadCase as reason:
                found.left_out.append((fields["image"], str(reason)))
                continue
            split = SPLIT_NAMES[key.lower()] if label else "unlabelled"
            path, place = places.locate(os.path.normpath(fields["image"]))
            patient = next(filter(None, (_text(fields.get(name)) for name in PATIENT_KEYS)), "")
            site = _text(fields.get("site"))
            row = row_of(place, place, renamed(label, rename), patient, site=site, split=split)
            further[place] = {key: _text(value) for key, value in fields.items() if _is_further(key, value)}
            take_with_mask(found, places, (path, row), mask)
    keep_columns(found, further, keep)
    found.notes += names_stay(found)
    return found


def _mask_of(fields: Mapping[str, Any], segmentations: bool) -> str | None:
    """Take the path of the mask from an entry: its "mask", or a label that is a path; None if it has neither."""
    label = fields.get("label")
    if segmentations and isinstance(label, str) and label.lower().endswith(READABLE):
        return os.path.normpath(label)
    mask = fields.get(MASK)
    return os.path.normpath(mask) if isinstance(mask, str) and mask.lower().endswith(READABLE) else None


def _is_path(value: Any, mask: str) -> bool:
    return isinstance(value, str) and os.path.normpath(value) == mask


def _text(value: Any) -> str:
    """Write a value as text; null, NaN and blanks are not given. A whole number has no decimals."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip()
    return "" if text.lower() in NOT_GIVEN else text


def _is_further(key: str, value: Any) -> bool:
    return key not in ("image", "label", "site", *PATIENT_KEYS) and isinstance(value, str | int | float | None)


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise BadSource(f"{file} is not there; name the JSON file, e.g. dataset.json")
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadSource(f"{file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadSource(f"{file} is not a datalist; it needs lists called training, validation or test")
    return content


def _lists(content: dict[str, Any], file: Path, found: Import) -> dict[str, list[Any]]:
    """Find the lists of images, and leave out lists without the name of a split."""
    lists = {key: entries for key, entries in content.items() if isinstance(entries, list) and key != "labels"}
    known = {key: entries for key, entries in lists.items() if SPLIT_NAMES.get(key.lower())}
    if not known:
        raise BadSource(f"{file} holds none of the lists training, validation, test; it has {', '.join(content)}")
    for key in lists.keys() - known.keys():
        found.left_out.append((f"{key} ({len(lists[key])} entries)", "the list is none of training, validation, test"))
    return known


def _class_names(labels: Any) -> dict[int, str]:
    """Read the class names by index from `{"0": "healthy"}`, `{"healthy": 0}` or `["healthy"]`."""
    pairs = enumerate(labels) if isinstance(labels, list) else labels.items() if isinstance(labels, dict) else ()
    names: dict[int, str] = {}
    for one, other in pairs:
        if str(one).isdecimal():
            names[int(one)] = str(other)
        elif str(other).isdecimal():
            names[int(other)] = str(one)
    return names


def _label(value: Any, names: Mapping[int, str]) -> str:
    if not isinstance(value, list | dict) and _text(value) == "":
        return ""
    value = value.strip() if isinstance(value, str) else value
    if isinstance(value, str) and value.lower().endswith(READABLE):
        raise BadCase("its label is a segmentation, which is no class; --unlabelled takes the images without class")
    if isinstance(value, list):
        value = _index_of(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and not value.isdecimal():
        return value
    if not isinstance(value, str | int):
        raise BadCase("its label is no class index, class name or one-hot list")
    index = int(value)
    if names and index not in names:
        raise BadCase(f"its label {index} is not among the file's labels")
    return names.get(index, str(index))


def _index_of(values: list[Any]) -> Any:
    """Return the class index of a one-hot list, or the only value of a list of length one."""
    if len(values) == 1:
        return values[0]
    if not all(value in (0, 1) for value in values) or values.count(1) != 1:
        raise BadCase("its label is a list that is not one-hot")
    return values.index(1)
