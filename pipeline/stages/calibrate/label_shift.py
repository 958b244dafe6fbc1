"""Metrics at other prevalences, under the assumption of label shift."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import multilabel, operating
from pipeline.metrics.bootstrap import estimate_all
from pipeline.metrics.discrimination import ratio
from pipeline.metrics.questions import both_ways
from pipeline.metrics.summary import in_columns, limits_of
from pipeline.stages.calibrate import utility

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]

AT_PREVALENCE = ["prevalence", "corrected", "threshold", "n", "events"]
AT_PREVALENCE += limits_of("log_loss", "brier", "ppv", "npv", "net_benefit")


def at_prevalence(
    probabilities: Floats, labels: Ints, weights: Floats, prevalence: Floats, *, fitted: Floats | None = None
) -> tuple[Floats, Floats]:
    """Correct predictions by Bayes' rule, and reweight the sample, to another prevalence.

    This assumes *label shift*: only the prevalences of the classes change, not the images within a class. A site with
    other scanners or milder disease violates it. The correction assumes that the predictions are calibrated at the
    prevalence `fitted`; it does not recalibrate them.

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int
    weights : (R, n)
    prevalence : (K,)
        Target prevalences of the classes, each above 0, with sum 1.
    fitted : (K,), optional
        Prevalences where the predictions were calibrated; by default those of these labels.

    Returns
    -------
    probabilities : (n, K)
        p(c) prevalence(c) / fitted(c), normalised to sum 1 (Saerens, Latinne, Decaestecker 2002, equation 2.4; of two
        classes Elkan 2001, theorem 2).
    weights : (R, n)
        Scaled so that in every row each class has its prevalence; NaN in a row that lacks a class.

    Raises
    ------
    ValueError
        If a prevalence is not above 0, they do not sum to one, or a class without cases has no `fitted`.
    """
    fitted = np.bincount(labels, minlength=len(prevalence)) / len(labels) if fitted is None else fitted
    for what, shares in (("prevalence", prevalence), ("prevalence where the predictions were fitted", fitted)):
        if (shares <= 0).any() or abs(shares.sum() - 1) > 1e-9:
            raise ValueError(f"{what}: {shares.tolist()}; each class needs a share above 0, and they sum to one")
    likelihood = probabilities * prevalence / fitted
    of_class = weights @ np.eye(len(prevalence))[labels]
    return likelihood / likelihood.sum(axis=1, keepdims=True), weights * ratio(prevalence, of_class)[:, labels]


def prevalence_table(
    prediction: Floats,
    events: Marks,
    *,
    prevalences: Sequence[float],
    threshold: float,
    weights: Floats,
    confidence: float,
    fitted: float | None = None,
) -> pd.DataFrame:
    """Tabulate the metrics of one yes/no question at declared prevalences, under label shift (`at_prevalence`).

    Parameters
    ----------
    prediction : (m,)
    events : (m,) bool
    prevalences : sequence of float
        Shares of events, above 0 and below 1.
    threshold : float
        Probability from which one acts, below 1; a prediction equal to it counts as positive.
    weights : (1 + R, m)
        See `bootstrap.cluster_weights`.
    confidence : float
    fitted : float, optional
        Prevalence where the predictions were calibrated; by default that of these cases.

    Returns
    -------
    pandas.DataFrame
        Columns `AT_PREVALENCE`, two rows per prevalence: with unchanged and with corrected predictions. PPV and NPV
        differ if the correction moves predictions across the threshold. Empty without events or non-events.

    Raises
    ------
    ValueError
        If a prevalence is not above 0 and below 1.
    """
    if not 0 < events.mean() < 1:
        return pd.DataFrame(columns=AT_PREVALENCE)
    labels, was = events.astype(np.int64), None if fitted is None else _shares(fitted)
    rows = []
    for prevalence in prevalences:
        there, shares = at_prevalence(both_ways(prediction), labels, weights, _shares(prevalence), fitted=was)
        for corrected, found in ((False, prediction), (True, there[:, 1])):
            known = {"prevalence": prevalence, "corrected": corrected, "threshold": threshold}
            counts = {"n": len(events), "events": int(events.sum())}
            rows.append(
                {
                    **known,
                    **counts,
                    **_metrics(found, events, threshold=threshold, weights=shares, confidence=confidence),
                }
            )
    return pd.DataFrame(rows, columns=AT_PREVALENCE)


def _metrics(
    prediction: Floats, events: Marks, *, threshold: float, weights: Floats, confidence: float
) -> dict[str, Any]:
    decision = operating.metrics_of((prediction >= threshold).astype(np.float64), events)
    metrics: dict[str, Callable[[Floats], Floats]] = {
        "log_loss": partial(multilabel.log_loss, prediction, events),
        "brier": partial(multilabel.brier, prediction, events),
        "ppv": decision["ppv"],
        "npv": decision["npv"],
        "net_benefit": lambda some: utility.net_benefit(prediction, events, some, np.array([threshold]))[:, 0],
    }
    return in_columns({name: asdict(one) for name, one in estimate_all(metrics, weights, confidence).items()})


def _shares(prevalence: float) -> Floats:
    return np.array([1 - prevalence, prevalence])
