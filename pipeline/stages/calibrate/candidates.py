"""What the choice of a method without labels was worth, told afterwards by the labels that it did not have."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.bootstrap import cluster_weights, estimate_all
from pipeline.metrics.calibrators.fitting import Temperature
from pipeline.metrics.discrimination import log_loss, macro_auc
from pipeline.metrics.summary import counts_of, in_columns, limits_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AUTO = "auto"
BETTER = {  # the direction in which a score without labels of the target calls a rung better
    "source_loss": -1,
    "information_maximisation": 1,
    "soft_neighbourhood_density": 1,
    "deep_embedded_validation": -1,
}
RUNGS = ["rung", "chosen_in", "n", "patients", "events", *limits_of("auc", "log_loss"), "oracle", *limits_of("regret")]
VALIDATORS = ["validator", "kendall_tau", "rungs"]


def judge_rungs(
    forecasts: pd.DataFrame, chosen: Mapping[str, str], replicates: int, confidence: float, seed: int
) -> pd.DataFrame:
    """Judge each rung, what was chosen fold by fold (`auto`), and what the choice cost.

    Of probabilities before calibration; AUC as `metrics.macro_auc`, log-loss in nats. The oracle is the one rung with
    the lowest log-loss on all the cases. It is chosen by the labels that it is judged on, so its figure flatters it.

    Parameters
    ----------
    forecasts : pandas.DataFrame
        One row per case and rung: `fold, case, patient, label` (number of the class), `rung, logit_0, logit_1, ...`.
        A rung that lacks a case is left out, because its figures would be of other cases than the others'.
    chosen : mapping
        Fold to the rung that was chosen there.
    replicates, confidence, seed
        Of the patient-cluster bootstrap; all rows share its draws.

    Returns
    -------
    pandas.DataFrame
        Columns `RUNGS`, `auto` last. `chosen_in` counts folds. `regret`, on the row `auto` alone, is the log-loss of
        the oracle minus that of `auto`, paired: below 0 by what the choice without labels cost, above 0 only where
        choosing fold by fold beats every single rung.

    Raises
    ------
    ValueError
        If a chosen rung, or every rung, lacks a case.
    """
    cases, of_rung = in_one_order(forecasts, chosen)
    labels, patients = cases["label"].to_numpy(dtype=np.int64), cases["patient"].to_numpy(dtype=str)
    weights = cluster_weights(patients, replicates, seed)
    loss_of = {rung: partial(log_loss, found, labels) for rung, found in of_rung.items()}
    oracle = min((rung for rung in of_rung if rung != AUTO), key=lambda rung: loss_of[rung](weights[:1])[0])
    times = pd.Series(chosen).value_counts().to_dict() | {AUTO: len(chosen)}
    rows = []
    for rung, probabilities in of_rung.items():
        figures = {"auc": partial(macro_auc, probabilities, labels), "log_loss": loss_of[rung]}
        if rung == AUTO:
            figures["regret"] = partial(difference, loss_of[oracle], loss_of[AUTO])
        found = {name: figure.as_json() for name, figure in estimate_all(figures, weights, confidence).items()}
        counts = counts_of(labels, patients, probabilities.shape[1])
        known = {"rung": rung, "chosen_in": times.get(rung, 0), "oracle": rung == oracle}
        rows.append({**known, **counts, **in_columns(found)})
    return pd.DataFrame(rows, columns=RUNGS)


def in_one_order(forecasts: pd.DataFrame, chosen: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, Floats]]:
    """Bring the probabilities (n, K) of each complete rung, and of `auto`, into the order of one table of n cases."""
    cases = forecasts.drop_duplicates("case").sort_values("case", ignore_index=True)
    complete = {str(rung): rows for rung, rows in forecasts.groupby("rung", sort=False) if len(rows) == len(cases)}
    auto = forecasts[forecasts["rung"] == forecasts["fold"].map(chosen)]
    if len(auto) != len(cases) or not complete:
        raise ValueError(f"of {len(cases)} cases, {len(auto)} were scored by the rung that was chosen in their fold")
    of_rung = {}
    for rung, rows in {**complete, AUTO: auto}.items():
        logits = rows.set_index("case").loc[cases["case"]].filter(like="logit_")
        of_rung[rung] = Temperature(1.0).apply(logits.to_numpy(dtype=np.float64))
    return cases, of_rung


def difference(first: Callable[[Floats], Floats], second: Callable[[Floats], Floats], weights: Floats) -> Floats:
    """Subtract one figure from another on the same draws, so that what both have in common cancels."""
    return first(weights) - second(weights)


def judge_validators(forecasts: pd.DataFrame, ladders: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Compare the order in which each score without labels puts the rungs with that of their true log-loss.

    Parameters
    ----------
    forecasts : pandas.DataFrame
        As `judge_rungs` takes them.
    ladders : mapping
        Fold to its rungs, each with `method` and the scores of `BETTER`; None where a score was not taken.

    Returns
    -------
    pandas.DataFrame
        Columns `VALIDATORS`: Kendall's tau-b, the mean over the folds where it exists (1: the order of the labels;
        NaN where it exists nowhere), and how many rungs were ordered in the fold with the fewest of them.
    """
    rows = []
    for validator, sign in BETTER.items():
        taus, counts = [], []
        for fold, ladder in ladders.items():
            losses = true_losses(forecasts[forecasts["fold"] == fold])
            scored = [rung for rung in ladder if rung["method"] in losses and pd.notna(rung.get(validator))]
            scores = [sign * rung[validator] for rung in scored]
            taus.append(kendall_tau(scores, [-losses[rung["method"]] for rung in scored]))
            counts.append(len(scored))
        there = [tau for tau in taus if np.isfinite(tau)]
        rows.append((validator, round(float(np.mean(there)), 6) if there else np.nan, min(counts)))
    return pd.DataFrame(rows, columns=VALIDATORS)


def true_losses(forecasts: pd.DataFrame) -> dict[str, float]:
    """Compute each rung's log-loss in nats."""
    losses = {}
    for rung, rows in forecasts.groupby("rung", sort=False):
        probabilities = Temperature(1.0).apply(rows.filter(like="logit_").to_numpy(dtype=np.float64))
        one = np.ones((1, len(rows)))
        losses[str(rung)] = float(log_loss(probabilities, rows["label"].to_numpy(dtype=np.int64), one)[0])
    return losses


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Rank correlation tau-b of two lists of numbers, ties counted as in Kendall 1945, "The treatment of ties".

    Returns
    -------
    float
        In [-1, 1]; NaN where a list holds fewer than two different numbers.
    """
    one, other = (np.sign(np.subtract.outer(values, values)) for values in map(np.asarray, (first, second)))
    untied = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / untied if untied else float("nan")
