"""Several images of one patient, put together by a declared rule into one forecast of the patient."""

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.assessing.calibrators import Temperature, activation_for
from pipeline.assessing.judged import Judged, Labelling, logits_of

Floats = NDArray[np.float64]
Rule = Literal["mean", "max"]


def of_patients(judged: Judged, rule: Rule, labelling: Labelling) -> Judged:
    """Judge patients instead of images: one row each, in the order of their pseudonyms.

    They are calibrated, after the images were put together, by the temperature of their images. A temperature divides
    every logit alike, so that dividing before or after gives the same; a calibrator of its own would be fitted on
    fewer cases, and the model that is released forecasts images. Whether it suits patients too, their slope tells.

    Parameters
    ----------
    judged : Judged
        Its cases have `patient`, `temperature` and `logit_0, logit_1, ...`; a patient's images share a temperature.
    rule : {"mean", "max"}
        mean: the mean of the images' logits; max: of two classes the image of the highest forecast for the last one,
        of a multilabel task for each label the image of the highest forecast for it.

    Returns
    -------
    Judged
        Its cases have the number of `images`; what differs between the images of a patient is empty there.

    Raises
    ------
    ValueError
        If images of a patient bear labels that contradict each other (the message names the patients), or if the rule
        is max and there are more than two classes, or grades.
    """
    classes, task = labelling.classes, labelling.task
    if rule == "max" and task != "multilabel" and (len(classes) != 2 or task == "ordinal"):
        raise ValueError(
            f"none of {len(classes)} classes ({task}) is the one to look for; mean takes any number of them"
        )
    rows = list(judged.cases.reset_index(drop=True).groupby("patient", sort=True).indices.values())
    labels = np.stack([np.fmax.reduce(judged.labels[some]) for some in rows])  # fmax and fmin pass over NaN
    lowest = np.stack([np.fmin.reduce(judged.labels[some]) for some in rows])
    contradicted = np.any((lowest < labels).reshape(len(rows), -1), axis=1)
    if contradicted.any():
        first = np.array([some[0] for some in rows])
        names = ", ".join(judged.patients[first[contradicted]])
        raise ValueError(f"images of one patient bear different labels: {names}; give them one label in cohort.csv")
    logits, plain = logits_of(judged.cases), Temperature(1.0, activation_for(labels))
    joined = np.stack([put_together(logits[some], rule, task == "multilabel") for some in rows])
    cases = one_row_each(judged.cases, joined)
    scaled = joined / cases["temperature"].to_numpy(dtype=np.float64)[:, None]
    return Judged(cases, labels, plain.apply(joined), plain.apply(scaled))


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
    known = cases.drop(columns=[*logit_columns, "site_forecast"], errors="ignore")
    groups = known.groupby("patient", sort=True)
    table = groups.agg(_in_common).assign(images=groups.size()).reset_index()
    table[logit_columns] = logits
    return table


def _in_common(column: "pd.Series[Any]") -> Any:
    return column.iloc[0] if column.nunique(dropna=False) == 1 else ""
