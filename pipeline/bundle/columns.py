"""The clinical columns of a bundle: the fusion in configs/columns.json, its checks, and the values of a new scan."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.plain import read_plain
from pipeline.metrics.fusion import Fusion, fusion_from

Config = dict[str, Any]
Value = str | float | None

COLUMNS = Path("configs/columns.json")
CLOSE = 1e-9  # largest difference of a fused logit from the one that was written at the release
FORMULAS = {
    "softmax": "ln(p_k / p_0) = intercept_k + sum_j image_weights_kj (logit_j - logit_0) + "
    "sum_f column_weights_kf x_f, for each class k and j but the first, class 0",
    "sigmoid": "ln(p_k / (1 - p_k)) = intercept_k + sum_j image_weights_kj logit_j + sum_f column_weights_kf x_f, "
    "for each label k",
    "identity": "value = intercept + image_weight output + sum_f column_weights_f x_f, with the output of the network; "
    "the value is the released number or log hazard",
}


class BadInputs(ValueError):
    """Values of columns that a model cannot use; the message names the column and the cure."""


def columns_config(fusion: Fusion, n_classes: int) -> Config:
    """Write configs/columns.json: the fusion, its formula, and examples by which it can be checked."""
    values = fusion.as_json() | {"formula": FORMULAS[fusion.activation], "x": features_in_words()}
    texts = _examples_of(fusion)
    logits = np.stack([np.linspace(-1, 1 + number / 10, n_classes) for number in range(len(texts))])
    fused = fusion.fuse(logits, {name: [one[name] for one in texts] for name in fusion.names})
    return values | {"examples": {"columns": texts, "logits": logits.tolist(), "fused_logits": fused.tolist()}}


def features_in_words() -> str:
    """Say how values become the features x of the formula."""
    return (
        "the features in their order: a number within `limits` (nearer ones are moved to them), an ordered category's "
        "place from 0, or 1 for `column = category`; a missing number or place is `fill`, and `column is missing` is 1"
    )


def columns_metadata(fusion: Fusion) -> Config:
    """Say in configs/metadata.json which columns the model takes, and what the network's files give without them."""
    return {
        "file": str(COLUMNS),
        "names": fusion.names,
        "formula": FORMULAS[fusion.activation],
        "network": "the network, its exports and MONAI's `run` are the image part: their logits enter the formula, and "
        "their probabilities are those of the image alone, by `calibration`",
    }


def fusion_in(folder: Path, metadata: Mapping[str, Any], n_classes: int) -> Fusion | None:
    """Read the fusion of a bundle; None if the model takes no columns.

    Raises
    ------
    BrokenBundle
        If the metadata name columns that the bundle lacks, or the file does not fit.
    """
    if not (folder / COLUMNS).exists() and "columns" not in metadata:
        return None
    try:
        fusion = fusion_from(read_plain(folder / COLUMNS))
        exclusive = fusion.activation == "softmax"
        if len(fusion.intercepts) != n_classes - exclusive or metadata["columns"]["names"] != fusion.names:
            raise ValueError("it is of other classes or columns than the metadata")
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        raise BrokenBundle(f"{folder / COLUMNS} was not written by medadapt: {error}") from error
    return fusion


def check_examples(folder: Path) -> str:
    """Fuse the examples of configs/columns.json again; raise BrokenBundle if a logit differs."""
    values = read_plain(folder / COLUMNS)
    fusion, examples = fusion_from(values), values["examples"]
    texts = {name: [one[name] for one in examples["columns"]] for name in fusion.names}
    found = fusion.fuse(np.array(examples["logits"]), texts)
    apart = float(np.abs(found - np.array(examples["fused_logits"])).max())
    if not apart <= CLOSE:
        raise BrokenBundle(f"{COLUMNS}: a fused logit differs by {apart:.3g}; {CLOSE:g} is allowed")
    told = f"{len(examples['columns'])} examples are fused as at the release, within {CLOSE:g}"
    return f"the model takes {', '.join(fusion.names)}; {told}"


def texts_of(fusion: Fusion, inputs: Mapping[str, Value] | None) -> dict[str, str]:
    """Write the values of a new scan's columns as texts, "" if missing, and check them.

    Raises
    ------
    BadInputs
        If no columns are given, a column is not named, or a value cannot be used.
    """
    if inputs is None or (absent := [name for name in fusion.names if name not in inputs]):
        which = ", ".join(fusion.names if inputs is None else absent)
        raise BadInputs(f"the model takes the columns {', '.join(fusion.names)} besides the scan; give {which}")
    texts = {name: text_of(inputs[name]) for name in fusion.names}
    if flaws := fusion.flaws_of(texts):
        raise BadInputs("; ".join(flaws))
    return texts


def text_of(value: Value) -> str:
    """Write a value as tables hold it; None and NaN are missing."""
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "" if missing else str(value).strip()


def typical_inputs(fusion: Fusion | None) -> dict[str, str] | None:
    """Give the columns of a typical case, for scans that have none; None for a model without columns."""
    return {one.column.name: one.typical for one in fusion.columns} if fusion else None


def _examples_of(fusion: Fusion) -> list[dict[str, str]]:
    """List a typical case, and for each column its ends or categories, and a missing value where it is allowed."""
    typical = typical_inputs(fusion) or {}
    changed = []
    for one in fusion.columns:
        ends = [repr(end) for end in one.limits] if one.column.kind == "numeric" else list(one.column.categories)
        changed += [typical | {one.column.name: text} for text in [*ends, *([""] if one.missing else [])]]
    return [typical, *changed]
