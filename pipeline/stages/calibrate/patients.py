"""Several images of one patient, put together by a declared rule into one prediction of the patient."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.calibrators.calibrator import identity_for
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec, logits_of

Floats = NDArray[np.float64]
Rule = Literal["mean", "max"]
PATIENTS = "_patients"  # ends the names of scopes in which a patient is one case


def of_patients(evaluated: EvaluatedCases, rule: Rule, spec: TaskSpec) -> EvaluatedCases:
    """Evaluate patients instead of images: one row each, in the order of their pseudonyms.

    They are calibrated, after the images were put together, by the map of their images: one of its own would be
    fitted on fewer cases, and the model that is released predictions images. Whether it suits patients too, their slope
    tells.

    Parameters
    ----------
    evaluated : EvaluatedCases
        Its cases have `patient`, `calibrator` and `logit_0, logit_1, ...`; a patient's images share a calibrator.
    rule : {"mean", "max"}
        mean: the mean of the images' logits; max: of two classes the image of the highest prediction for the last one,
        of a multilabel task for each label the image of the highest prediction for it.

    Returns
    -------
    EvaluatedCases
        Its cases have the number of `images`; what differs between the images of a patient is empty there.

    Raises
    ------
    ValueError
        If images of a patient bear labels that contradict each other (the message names the patients), or if the rule
        is max and there are more than two classes, or grades.
    """
    classes, task = spec.classes, spec.task
    if rule == "max" and task != "multilabel" and (len(classes) != 2 or task == "ordinal"):
        raise ValueError(
            f"none of {len(classes)} classes ({task}) is the one to look for; mean takes any number of them"
        )
    rows = list(evaluated.cases.reset_index(drop=True).groupby("patient", sort=True).indices.values())
    labels = np.stack([np.fmax.reduce(evaluated.labels[some]) for some in rows])  # fmax and fmin pass over NaN
    lowest = np.stack([np.fmin.reduce(evaluated.labels[some]) for some in rows])
    contradicted = np.any((lowest < labels).reshape(len(rows), -1), axis=1)
    if contradicted.any():
        first = np.array([some[0] for some in rows])
        names = ", ".join(evaluated.patients[first[contradicted]])
        raise ValueError(f"images of one patient bear different labels: {names}; give them one label in cohort.csv")
    logits = logits_of(evaluated.cases)
    joined = np.stack([put_together(logits[some], rule, task == "multilabel") for some in rows])
    cases, calibrated = one_row_each(evaluated.cases, joined), np.empty_like(joined)
    for digest, calibrator in evaluated.calibrators.items():
        theirs = (cases["calibrator"] == digest).to_numpy()
        calibrated[theirs] = calibrator.apply(joined[theirs])
    baselines = {
        name: np.stack([known[some].mean(axis=0) for some in rows]) for name, known in evaluated.baselines.items()
    }
    return EvaluatedCases(
        cases,
        labels,
        identity_for(labels).apply(joined),
        calibrated,
        calibrators=evaluated.calibrators,
        baselines=baselines,
    )


def patients_first(
    scopes: Mapping[str, EvaluatedCases],
    elsewhere: Mapping[str, Mapping[str, EvaluatedCases]],
    rule: Rule,
    spec: TaskSpec,
) -> tuple[dict[str, EvaluatedCases], dict[str, Mapping[str, EvaluatedCases]]]:
    """Put before each scope the same one by patients ("internal_patients"), and so the cases of its thresholds.

    `elsewhere` is, of each scope and fold, the development cases of other patients.
    """
    evaluated, others = dict[str, EvaluatedCases](), dict[str, Mapping[str, EvaluatedCases]]()
    for scope, images in scopes.items():
        evaluated |= {f"{scope}{PATIENTS}": of_patients(images, rule, spec), scope: images}
        there = {fold: of_patients(some, rule, spec) for fold, some in elsewhere[scope].items()}
        others |= {f"{scope}{PATIENTS}": there, scope: elsewhere[scope]}
    return evaluated, others


def can_be_joined(sets: Sequence[EvaluatedCases]) -> bool:
    """Tell whether some patient has several images in the first set, and none has images that contradict in any."""
    first = sets[0].patients
    return len(set(first)) < len(first) and all(map(_agree, sets))


def _agree(evaluated: EvaluatedCases) -> bool:
    groups = pd.DataFrame(evaluated.labels.reshape(len(evaluated.cases), -1)).groupby(evaluated.patients)
    lowest, highest = groups.min(), groups.max()  # these pass over NaN
    return bool(((lowest == highest) | lowest.isna()).all(axis=None))


def put_together(logits: Floats, rule: Rule, multilabel: bool) -> Floats:
    """Turn the logits (m, K) of a patient's images into those of the patient (K,)."""
    if rule == "mean":
        return np.asarray(logits.mean(axis=0))
    if multilabel:
        return np.asarray(logits.max(axis=0))
    return np.asarray(logits[(logits[:, 1] - logits[:, 0]).argmax()])


def one_row_each(cases: pd.DataFrame, logits: Floats) -> pd.DataFrame:
    """Keep of each patient what all images have in common, with their number, and the logits (patients, K)."""
    logit_columns = [f"logit_{number}" for number in range(logits.shape[1])]
    known = cases.drop(columns=logit_columns)
    groups = known.groupby("patient", sort=True)
    table = groups.agg(_in_common).assign(images=groups.size()).reset_index()
    table[logit_columns] = logits
    return table


def _in_common(column: "pd.Series[Any]") -> Any:
    return column.iloc[0] if column.nunique(dropna=False) == 1 else ""
