"""Compose the default description of a model and the default title of its report from facts of the cohort."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.imaging.reading.modalities import NAMES, OF_DICOM

MOST_CLASSES = 4  # named one by one


def title_of(classes: Sequence[str], cohort: str) -> str:
    """Compose the title of a report.

    >>> title_of(["covid", "normal"], "mine")
    'covid or normal: mine'
    """
    return f"{alternatives(classes)}: {cohort}"


def description_of(facts: Mapping[str, Any], cases: pd.DataFrame, cohort: str, modality: str) -> str:
    """Compose one sentence about a model.

    Parameters
    ----------
    facts : mapping
        `task`, `classes` and `patients_known`, as in data/cohort/cohort.json.
    cases : pandas.DataFrame
        Columns `patient`, `shape` ("512x512") and `modality` (the code of DICOM, or "").
    cohort : str
        Name of the cohort.
    modality : str
        As in `preprocess.modality`; "auto" takes that of the cases, if all have the same.

    >>> facts = {"task": "multiclass", "classes": ["covid", "normal"], "patients_known": True}
    >>> cases = pd.DataFrame({"patient": ["p", "q"], "shape": ["9x9", "8x8"], "modality": ["CT", "CT"]})
    >>> description_of(facts, cases, "mine", "auto")
    'Classifies CT images as covid or normal; cohort mine, 2 images of 2 patients.'
    """
    kind, found = kind_of(cases["shape"]), alternatives(facts["classes"])
    unit = facts.get("unit", "")
    known = {OF_DICOM.get(code, "") for code in cases["modality"]} if modality == "auto" else {modality}
    what = f"{NAMES.get(known.pop(), '') if len(known) == 1 else ''} {kind}s".strip()
    does = {
        "multiclass": f"Classifies {what} as {found}",
        "ordinal": f"Grades {what} as {found}",
        "multilabel": f"Detects {found} in {what}",
        "survival": f"Estimates the risk of an event from {what}",
        "regression": f"Estimates a number{f' in {unit}' if unit != '1' else ''} from {what}",
    }[facts["task"]]
    patients = f" of {cases['patient'].nunique()} patients" if facts["patients_known"] else ""
    return f"{does}; cohort {cohort}, {len(cases)} {kind}s{patients}."


def kind_of(shapes: Iterable[str]) -> str:
    """Name what all cases are, from shapes like "512x512": "image" or "volume", or "scan" for both.

    >>> kind_of(["9x9", "8x8"]), kind_of(["9x9x9"]), kind_of(["9x9", "9x9x9"])
    ('image', 'volume', 'scan')
    """
    axes = {shape.count("x") + 1 for shape in shapes}
    return {2: "image", 3: "volume"}.get(axes.pop(), "scan") if len(axes) == 1 else "scan"


def alternatives(classes: Sequence[str]) -> str:
    """Join the names of classes, or count them if they are many.

    >>> alternatives(["a", "b", "c"]), alternatives(list("abcdef"))
    ('a, b or c', 'one of 6 classes')
    """
    if len(classes) > MOST_CLASSES:
        return f"one of {len(classes)} classes"
    return " or ".join(filter(None, [", ".join(classes[:-1]), *classes[-1:]]))
