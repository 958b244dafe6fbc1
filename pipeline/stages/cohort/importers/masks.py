"""Add masks to imported cases: from a folder, by the names of their images."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.imaging.tables.cohort_table import MASK
from pipeline.imaging.tables.mask_list import masks_by_name, stem_of
from pipeline.imaging.tables.text_table import BadTable
from pipeline.stages.cohort.importers.found import BadCase, BadSource, Import, parts_of

CHANNEL = re.compile(r"_\d{4}$")  # nnU-Net numbers the channels of a case: imagesTr/a_0000.nii.gz, labelsTr/a.nii.gz
OF_DERIVATIVES = ("desc", "label", "space", "res", "hemi")  # BIDS entities that a mask has and its image lacks
PLACE = Path("masks")


def attach_masks(found: Import, folder: Path) -> None:
    """Add the masks of a folder to the cases of an import, and note how many have one.

    A mask belongs to the image whose name it has, whatever its ending: as it is or with `_mask` or `_seg` behind it; of
    nnU-Net without the number of the channel; of BIDS derivatives without the entities desc, label, space and res, and
    without the suffix.

    Raises
    ------
    BadSource
        If the folder is none, holds two masks of a name, or a mask of no image's name only.
    """
    try:
        named = masks_by_name(folder)
    except BadTable as error:
        raise BadSource(f"--masks: {error}") from error
    masks: dict[str, Path] = {}
    for name, file in named.items():
        image = _key(name)
        if image in masks:
            raise BadSource(f"--masks: {masks[image]} and {file} are masks of the same image; name a folder with one")
        masks[image] = file
    used: list[str] = []
    for number, case in enumerate(found.cases):
        key = next((key for key in _keys(case.row["image"]) if key in masks), None)
        if key is None:
            found.cases[number] = replace(case, row={**case.row, MASK: ""})
            continue
        used.append(key)
        place = PLACE / os.path.relpath(masks[key], folder)
        try:
            parts = parts_of(masks[key], place)
        except BadCase as reason:
            raise BadSource(f"--masks: {masks[key]}: {reason}") from reason
        found.cases[number] = replace(case, row={**case.row, MASK: str(place)}, parts={**case.parts, **parts})
    if not used:
        raise BadSource(f"--masks: no mask in {folder} has the name of an image, e.g. {_example(found)}; rename them")
    found.notes.append(f"{len(used)} of {len(found.cases)} images have a mask")
    strangers = [str(file) for key, file in masks.items() if key not in used]
    found.left_out += [(name, "a mask of no image that was taken") for name in strangers]


def _example(found: Import) -> str:
    return f"{stem_of(found.cases[0].row['image'])}.nii.gz" if found.cases else "scan.nii.gz"


def _keys(image: str) -> Sequence[str]:
    stem = stem_of(image)
    return [stem, CHANNEL.sub("", stem), _key(stem)]


def _key(stem: str) -> str:
    """Name what a mask and its image have in common; only names of BIDS are taken apart.

    >>> _key("sub-1_ses-2_space-T1w_desc-lesion_mask"), _key("sub-1_ses-2_T1w"), _key("scan_7")
    ('sub-1_ses-2', 'sub-1_ses-2', 'scan_7')
    """
    if not stem.startswith("sub-"):
        return stem
    entities = [part for part in stem.split("_") if "-" in part]
    return "_".join(part for part in entities if part.split("-")[0] not in OF_DERIVATIVES)
