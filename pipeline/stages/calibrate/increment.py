"""What the images add to columns of the cohort such as age or stage: columns alone, image alone, and both.

The prediction from both is late fusion: a ridge-penalised logistic regression on the columns and on the log-odds that
the model gives the image. It has few parameters, and is fitted on development cases of other patients, for whom these
log-odds are out of fold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.baseline import counts_of_known, prediction_from_columns
from pipeline.metrics.bootstrap import estimate_all, in_blocks, loss_estimate
from pipeline.metrics.discrimination import SMALLEST, Labels, case_losses, ratio
from pipeline.metrics.evaluation import EvaluatedCases, aucs_of
from pipeline.metrics.levels import halved
from pipeline.metrics.paired_tests import paired_difference
from pipeline.metrics.subgroups import COLUMN
from pipeline.metrics.summary import in_columns, limits_of
from pipeline.metrics.wording import ADDS, BOTH, COLUMNS, HARMS, IMAGE, NOT_SHOWN
from pipeline.stages.calibrate.subject import Settings, Subject
from pipeline.stages.calibrate.utility import net_benefit

Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]  # weights (R, n) to values (R,)

METRICS = ("log_loss", "auc", "r2", "net_benefit")
INCREMENT = [*("prediction", "over", "n", "patients", "events"), *limits_of(*METRICS), "minimum_detectable", "verdict"]
THRESHOLDS = 19  # of the mean net benefit


def increment_table(subject: Subject, settings: Settings) -> pd.DataFrame:
    """Evaluate predictions from columns, from the image, and from both, on the same cases.

    The columns are those in `cohort.inputs`, where both together are the released model; otherwise they are those in
    `calibrate.baseline`.

    Returns
    -------
    pandas.DataFrame
        Columns `INCREMENT`; empty if the cohort has none of these columns. Three rows have metrics of their own and
        `over` empty: log-loss in nats, macro AUC, McFadden's R² (1 minus the log-loss over that of the prevalence), and
        for two classes the net benefit, the mean over the declared thresholds. In further rows they are gains over the
        prediction `over`, positive if better, paired by patient; `minimum_detectable` is the least gain in log-loss
        that such data show with a power of 80 %, and `verdict` says whether its interval lies above or below 0.
    """
    names = [name for name in (f"{COLUMN}{one}" for one in settings.baseline) if name in subject.evaluated.cases]
    parts = subject.evaluated.parts
    if not names and not parts:
        return pd.DataFrame(columns=INCREMENT)
    known = {**parts, BOTH: subject.evaluated.calibrated} if parts else predictions(subject, names)
    labels, patients = subject.evaluated.labels, subject.evaluated.patients
    counts = counts_of_known(labels, patients, len(subject.spec.classes))
    metrics = {name: metrics_of(prediction, labels, settings.thresholds) for name, prediction in known.items()}
    rows = [{"prediction": name, "over": "", **_own(one, subject, settings)} for name, one in metrics.items()]
    further = _variance_of_fitting(subject) if parts else 0.0
    settings = replace(settings, confidence=halved(settings.confidence)) if parts else settings
    for name, over in ((IMAGE, COLUMNS), (BOTH, COLUMNS), (BOTH, IMAGE)):
        gains = _gains(metrics[name], metrics[over], subject, settings, further=further)
        rows.append({"prediction": name, "over": over, **gains})
    return pd.DataFrame([row | counts for row in rows], columns=INCREMENT)


def predictions(subject: Subject, names: Sequence[str]) -> dict[str, Floats]:
    """Predict each evaluated case (n, K) from its columns, its image and both.

    Both regressions of a fold are fitted on the same development cases, those of other patients.
    """
    evaluated, n_classes = subject.evaluated, len(subject.spec.classes)
    columns, both = np.zeros_like(evaluated.calibrated), np.zeros_like(evaluated.calibrated)
    for fold, others in subject.elsewhere.items():
        here = evaluated.folds == fold
        there, asked = others.cases[list(names)], evaluated.part(here)
        columns[here] = prediction_from_columns(there, others.labels, asked.cases[list(names)], n_classes)
        both[here] = prediction_from_columns(
            with_image(there, others), others.labels, with_image(asked.cases[list(names)], asked), n_classes
        )
    return {COLUMNS: columns, IMAGE: evaluated.calibrated, BOTH: both}


def with_image(table: pd.DataFrame, cases: EvaluatedCases) -> pd.DataFrame:
    """Add the log-odds that the uncalibrated model gives the image, of each class to the first, or of each label."""
    clipped = np.clip(cases.uncalibrated, SMALLEST, 1)
    if cases.labels.ndim == 2:
        odds = np.log(clipped) - np.log(np.clip(1 - cases.uncalibrated, SMALLEST, 1))
    else:
        odds = np.log(clipped[:, 1:]) - np.log(clipped[:, :1])
    return table.assign(**{f"image_{number}": column for number, column in enumerate(odds.T)})


def metrics_of(prediction: Floats, labels: Labels, thresholds: tuple[float, float]) -> dict[str, Metric]:
    """Bind the metrics to a prediction (n, K); each maps weights (R, n) to values (R,)."""
    found: dict[str, Metric] = {
        "log_loss": partial(_log_loss, prediction, labels),
        "auc": partial(aucs_of, prediction, labels),
    }
    if labels.ndim == 2:
        return found
    found["r2"] = partial(r_squared, prediction, labels)
    if prediction.shape[1] == 2:
        found["net_benefit"] = partial(
            _mean_net_benefit, prediction[:, 1], labels == 1, np.linspace(*thresholds, THRESHOLDS)
        )
    return found


def r_squared(prediction: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Compute 1 - L / L0, with the log-loss L0 of the prevalence (McFadden 1974, pseudo-R²).

    Parameters
    ----------
    prediction : (n, K)
    labels : (n,) int
    weights : (R, n)
    """
    shares = weights @ np.eye(prediction.shape[1])[labels] / weights.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        null = -np.nansum(shares * np.log(shares), axis=1)
    return 1 - ratio(_log_loss(prediction, labels, weights), null)


def _log_loss(prediction: Floats, labels: Labels, weights: Floats) -> Floats:
    losses, known = case_losses(prediction, labels)
    return ratio(weights @ losses, weights @ known)


def _mean_net_benefit(prediction: Floats, events: NDArray[np.bool_], thresholds: Floats, weights: Floats) -> Floats:
    return np.asarray(net_benefit(prediction, events, weights, thresholds).mean(axis=1))


def _own(metrics: dict[str, Metric], subject: Subject, settings: Settings) -> dict[str, Any]:
    found = estimate_all(metrics, subject.weights, settings.confidence)
    found["log_loss"] = loss_estimate(in_blocks(metrics["log_loss"], subject.weights), settings.confidence)
    return in_columns({name: one.as_json() for name, one in found.items()})


def _variance_of_fitting(subject: Subject) -> float:
    """Compute the variance of a gain in log-loss, in squared nats, that patients drawn again do not show.

    Where the image tells nothing, the gain that its coefficients bring by chance and the loss that they cost on new
    patients mirror each other: n times their difference is a chi-squared number less its mean. The draws show half of
    its variance on average, and none where the coefficients happen to be 0. The other half is one for each
    coefficient. A model that was fitted elsewhere, as on a test set, has none.
    """
    several, n_classes = subject.evaluated.labels.ndim == 2, len(subject.spec.classes)
    coefficients = n_classes if several else n_classes - 1
    return coefficients / len(set(subject.evaluated.patients)) ** 2 if len(subject.elsewhere) > 1 else 0.0


def _gains(
    one: dict[str, Metric], other: dict[str, Metric], subject: Subject, settings: Settings, *, further: float
) -> dict[str, Any]:
    pairs = {name: (other, one) if name == "log_loss" else (one, other) for name in one}
    more = {"log_loss": further}
    gains = {
        name: paired_difference(
            better[name], worse[name], subject.weights, settings.confidence, further=more.get(name, 0.0)
        ).as_json()
        for name, (better, worse) in pairs.items()
    }
    gain = gains["log_loss"]
    return in_columns(gains) | {"minimum_detectable": gain["minimum_detectable"], "verdict": verdict_of(gain)}


def verdict_of(gain: Mapping[str, Any]) -> str:
    """Say whether the interval of a gain lies above or below 0."""
    if gain["lower"] is None:
        return NOT_SHOWN
    return ADDS if gain["lower"] > 0 else HARMS if gain["upper"] < 0 else NOT_SHOWN
