"""Masks in the preparation of a cohort: which cases lack one, and the grid that boxes around masks need."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.preparation.region import MaskUse
from pipeline.imaging.reading.scan import Finding, Header
from pipeline.imaging.tables.cohort_table import MASK
from pipeline.schema import Params, Preprocess

BOX = "mask_box"


def refuse_missing_masks(cases: pd.DataFrame, params: Params) -> None:
    """Refuse a cohort of which cases lack a mask, if the network is to see masks of all.

    Raises
    ------
    UserError
        If no case has a mask, or some have none and `preprocess.mask_missing` is "refuse".
    """
    asked = params.preprocess.mask
    if asked == "none":
        return
    if MASK not in cases:
        raise UserError(
            f"preprocess.mask is {asked}, but no case has a mask; write the paths of masks into a column '{MASK}' of "
            "cohort.csv, or set preprocess.mask to none"
        )
    without = cases[cases[BOX] == ""]
    if len(without) and params.preprocess.mask_missing == "refuse":
        empty = int((without[MASK] != "").sum())
        example = without["case"].iloc[0]
        raise UserError(
            f"preprocess.mask is {asked}, but {len(without)} of {len(cases)} cases have no mask ({empty} of these an "
            f"empty one), e.g. {example} (`medadapt whois {example}` names the file); add masks to cohort.csv, or set "
            "preprocess.mask_missing to whole, which takes these scans as a whole"
        )


def with_masks(steps: Preprocessor, cases: pd.DataFrame, params: Params) -> Preprocessor:
    """Add what the network sees of masks, if cases have masks."""
    if MASK not in cases:
        return steps
    settings = params.preprocess
    use = MaskUse(settings.mask, settings.mask_margin_mm, settings.mask_missing, params.cohort.mask_labels)
    return replace(steps, mask=use)


def boxes_of(cases: pd.DataFrame, headers: list[Header], config: Preprocess) -> list[Header]:
    """Put the box around its mask and the margin in the place of each scan's shape, if scans are cropped to them."""
    if config.mask not in ("crop", "both") or BOX not in cases:
        return headers
    return [
        replace(header, shape=_with_margin(text, header, config.mask_margin_mm)) if text else header
        for text, header in zip(cases[BOX].astype(str), headers, strict=True)
    ]


def _with_margin(text: str, header: Header, margin: float) -> tuple[int, ...]:
    box = map(int, text.split("x"))
    return tuple(
        min(size + 2 * round(margin / millimetres), whole)
        for size, millimetres, whole in zip(box, header.spacing, header.shape, strict=True)
    )


def lost_mask(channels: NDArray[np.uint8], geometry: Geometry) -> Finding | None:
    """Tell that a mask is too small for the stored grid, so that its channel is empty."""
    if not geometry.mask_channel or channels[geometry.mask_places].any():
        return None
    return Finding(
        "mask lost", "the mask is smaller than a pixel of the network's input", "warned", "preprocess.image_size"
    )
