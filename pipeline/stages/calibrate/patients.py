"""Aggregation of the images of a patient into one prediction per patient, by a declared rule."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.calibrators.calibrator import identity_for
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec, logits_of

Floats = NDArray[np.float64]
Rule = Literal["mean", "max"]
PATIENTS = "_patients"  # suffix of scopes whose cases are patients


def of_patients(evaluated: EvaluatedCases, rule: Rule, spec: TaskSpec) -> EvaluatedCases:
    """Aggregate evaluated images to evaluated patients: one row per patient, in the order of their pseudonyms.

    The aggregated logits are calibrated by the calibrator of the images: a separate one would be fitted on fewer cases,
    and the released model predicts images. The calibration slope of the patients shows whether it suits them.

    Parameters
    ----------
    evaluated : EvaluatedCases
        The table of cases has `patient`, `calibrator` and `logit_0, logit_1, ...`; the images of a patient share a
        calibrator.
    rule : {"mean", "max"}
        mean: the mean of the images' logits; max: for two classes the logits of the image with the highest prediction
        for the last class, for a multilabel task the highest logit of each label.

    Returns
    -------
    EvaluatedCases
        The table of cases has the number of `images`; columns that differ between a patient's images are empty.

    Raises
    ------
    ValueError
        If images of a patient have contradictory labels (the message names the patients), or if the rule is max for
        grades or for more than two classes.
    """
    classes, task = spec.classes, spec.task
    if rule == "max" and task != "multilabel" and (len(classes) != 2 or task == "ordinal"):
        raise ValueError(
            f"max needs two classes without an order, but there are {len(classes)} ({task}); mean takes any number"
        )
    rows = list(evaluated.cases.reset_index(drop=True).groupby("patient", sort=True).indices.values())
    labels = np.stack([np.fmax.reduce(evaluated.labels[some]) for some in rows])  # fmax and fmin ignore NaN
    lowest = np.stack([np.fmin.reduce(evaluated.labels[some]) for some in rows])
    contradicted = np.any((lowest < labels).reshape(len(rows), -1), axis=1)
    if contradicted.any():
        first = np.array([some[0] for some in rows])
        names = ", ".join(evaluated.patients[first[contradicted]])
        raise ValueError(f"images of one patient have different labels: {names}; give them one label in cohort.csv")
    logits = logits_of(evaluated.cases)
    joined = np.stack([aggregate(logits[some], rule, task == "multilabel") for some in rows])
    cases, calibrated = one_row_each(evaluated.cases, joined), np.empty_like(joined)
    for digest, calibrator in evaluated.calibrators.items():
        theirs = (cases["calibrator"] == digest).to_numpy()
        calibrated[theirs] = calibrator.apply(joined[theirs])
    baselines, parts = (
        {name: np.stack([known[some].mean(axis=0) for some in rows]) for name, known in predictions.items()}
        for predictions in (evaluated.baselines, evaluated.parts)
    )
    return EvaluatedCases(
        cases,
        labels,
        identity_for(labels).apply(joined),
        calibrated,
        calibrators=evaluated.calibrators,
        baselines=baselines,
        parts=parts,
    )


def patients_first(
    scopes: Mapping[str, EvaluatedCases],
    elsewhere: Mapping[str, Mapping[str, EvaluatedCases]],
    rule: Rule,
    spec: TaskSpec,
) -> tuple[dict[str, EvaluatedCases], dict[str, Mapping[str, EvaluatedCases]]]:
    """Insert before each scope of images the scope of its patients ("internal_patients").

    `elsewhere` holds for each scope and fold the development cases of other patients, which are aggregated likewise.
    """
    evaluated, others = dict[str, EvaluatedCases](), dict[str, Mapping[str, EvaluatedCases]]()
    for scope, images in scopes.items():
        evaluated |= {f"{scope}{PATIENTS}": of_patients(images, rule, spec), scope: images}
        there = {fold: of_patients(some, rule, spec) for fold, some in elsewhere[scope].items()}
        others |= {f"{scope}{PATIENTS}": there, scope: elsewhere[scope]}
    return evaluated, others


def can_be_joined(sets: Sequence[EvaluatedCases]) -> bool:
    """Check that a patient has several images in the first set, and that labels never contradict in any set."""
    first = sets[0].patients
    return len(set(first)) < len(first) and all(map(_agree, sets))


def _agree(evaluated: EvaluatedCases) -> bool:
    groups = pd.DataFrame(evaluated.labels.reshape(len(evaluated.cases), -1)).groupby(evaluated.patients)
    lowest, highest = groups.min(), groups.max()  # these ignore NaN
    return bool(((lowest == highest) | lowest.isna()).all(axis=None))


def aggregate(logits: Floats, rule: Rule, multilabel: bool) -> Floats:
    """Aggregate the logits (m, K) of a patient's images to those of the patient (K,)."""
    if rule == "mean":
        return np.asarray(logits.mean(axis=0))
    if multilabel:
        return np.asarray(logits.max(axis=0))
    return np.asarray(logits[(logits[:, 1] - logits[:, 0]).argmax()])


def one_row_each(cases: pd.DataFrame, logits: Floats) -> pd.DataFrame:
    """Build one row per patient: columns that all images share, the number of images, and the logits (patients, K)."""
    logit_columns = [f"logit_{number}" for number in range(logits.shape[1])]
    known = cases.drop(columns=logit_columns)
    groups = known.groupby("patient", sort=True)
    table = groups.agg(_in_common).assign(images=groups.size()).reset_index()
    table[logit_columns] = logits
    return table


def _in_common(column: "pd.Series[Any]") -> Any:
    return column.iloc[0] if column.nunique(dropna=False) == 1 else ""
