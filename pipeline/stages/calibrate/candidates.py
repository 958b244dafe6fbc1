"""Evaluate, with the labels, the choice of an adaptation method that was made without labels."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline.metrics.bootstrap import Bootstrap, estimate_all
from pipeline.metrics.calibrators.fitting import Temperature
from pipeline.metrics.discrimination import log_loss, macro_auc
from pipeline.metrics.summary import counts_of, in_columns, limits_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

AUTO = "auto"
SIGN_OF_BETTER = {  # 1: a higher unsupervised score on the target is better; -1: a lower one
    "source_loss": -1,
    "information_maximisation": 1,
    "soft_neighbourhood_density": 1,
    "deep_embedded_validation": -1,
}
CANDIDATES = [
    "candidate",
    "chosen_in",
    "n",
    "patients",
    "events",
    *limits_of("auc", "log_loss"),
    "oracle",
    *limits_of("regret"),
]
VALIDATORS = ["validator", "kendall_tau", "candidates"]


def evaluate_candidates(predictions: pd.DataFrame, chosen: Mapping[str, str], bootstrap: Bootstrap) -> pd.DataFrame:
    """Evaluate each candidate, the choice made in each fold (`auto`), and the regret of that choice.

    Probabilities are uncalibrated; AUC as in `discrimination.macro_auc`, log-loss in nats. The oracle is the candidate
    with the lowest log-loss on all cases. It is optimistic, because it is chosen with the labels it is evaluated on.

    Parameters
    ----------
    predictions : pandas.DataFrame
        One row per case and candidate: `fold, case, patient, label` (class number), `candidate, logit_0, logit_1,
        ...`. A candidate that lacks a case is left out, because its metrics would not be comparable.
    chosen : mapping
        Fold to the candidate that was chosen in it.
    bootstrap : Bootstrap
        All rows share its draws.

    Returns
    -------
    pandas.DataFrame
        Columns `CANDIDATES`, `auto` last. `chosen_in` counts folds. `regret`, only in the row `auto`, is the paired
        log-loss of the oracle minus that of `auto`: negative by the cost of choosing without labels, positive only if
        choosing fold by fold is better than every single candidate.

    Raises
    ------
    ValueError
        If a chosen candidate, or every candidate, lacks a case.
    """
    cases, of_candidate = aligned(predictions, chosen)
    labels, patients = cases["label"].to_numpy(dtype=np.int64), cases["patient"].to_numpy(dtype=str)
    weights = bootstrap.weights(patients)
    loss_of = {candidate: partial(log_loss, found, labels) for candidate, found in of_candidate.items()}
    oracle = min(
        (candidate for candidate in of_candidate if candidate != AUTO),
        key=lambda candidate: loss_of[candidate](weights[:1])[0],
    )
    times = pd.Series(chosen).value_counts().to_dict() | {AUTO: len(chosen)}
    rows = []
    for candidate, probabilities in of_candidate.items():
        metrics = {"auc": partial(macro_auc, probabilities, labels), "log_loss": loss_of[candidate]}
        if candidate == AUTO:
            metrics["regret"] = partial(difference, loss_of[oracle], loss_of[AUTO])
        found = {
            name: metric.as_json() for name, metric in estimate_all(metrics, weights, bootstrap.confidence).items()
        }
        counts = counts_of(labels, patients, probabilities.shape[1])
        known = {"candidate": candidate, "chosen_in": times.get(candidate, 0), "oracle": candidate == oracle}
        rows.append({**known, **counts, **in_columns(found)})
    return pd.DataFrame(rows, columns=CANDIDATES)


def aligned(predictions: pd.DataFrame, chosen: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, Floats]]:
    """Align the probabilities (n, K) of each complete candidate, and of `auto`, with one table of n cases."""
    cases = predictions.drop_duplicates("case").sort_values("case", ignore_index=True)
    complete = {
        str(candidate): rows
        for candidate, rows in predictions.groupby("candidate", sort=False)
        if len(rows) == len(cases)
    }
    auto = predictions[predictions["candidate"] == predictions["fold"].map(chosen)]
    if len(auto) != len(cases) or not complete:
        raise ValueError(
            f"{len(auto)} of {len(cases)} cases were scored by the candidate that was chosen in their fold"
        )
    of_candidate = {}
    for candidate, rows in {**complete, AUTO: auto}.items():
        logits = rows.set_index("case").loc[cases["case"]].filter(like="logit_")
        of_candidate[candidate] = Temperature(1.0).apply(logits.to_numpy(dtype=np.float64))
    return cases, of_candidate


def difference(first: Callable[[Floats], Floats], second: Callable[[Floats], Floats], weights: Floats) -> Floats:
    """Subtract one metric from another on the same replicates, so that their common variation cancels."""
    return first(weights) - second(weights)


def evaluate_validators(predictions: pd.DataFrame, searches: Mapping[str, Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """Compare how each unsupervised score ranks the candidates with the ranking by their log-loss.

    Parameters
    ----------
    predictions : pandas.DataFrame
        As in `evaluate_candidates`.
    searches : mapping
        Fold to its candidates, each with `method` and the scores of `SIGN_OF_BETTER`, None for a missing score.

    Returns
    -------
    pandas.DataFrame
        Columns `VALIDATORS`: Kendall's tau-b, averaged over the folds where it exists (1: same ranking as with labels;
        NaN if it exists in no fold), and the number of ranked candidates in the fold with the fewest.
    """
    rows = []
    for validator, sign in SIGN_OF_BETTER.items():
        taus, counts = [], []
        for fold, search in searches.items():
            losses = true_losses(predictions[predictions["fold"] == fold])
            scored = [
                candidate
                for candidate in search
                if candidate["method"] in losses and pd.notna(candidate.get(validator))
            ]
            scores = [sign * candidate[validator] for candidate in scored]
            taus.append(kendall_tau(scores, [-losses[candidate["method"]] for candidate in scored]))
            counts.append(len(scored))
        there = [tau for tau in taus if np.isfinite(tau)]
        rows.append((validator, round(float(np.mean(there)), 6) if there else np.nan, min(counts)))
    return pd.DataFrame(rows, columns=VALIDATORS)


def true_losses(predictions: pd.DataFrame) -> dict[str, float]:
    """Compute each candidate's log-loss in nats."""
    losses = {}
    for candidate, rows in predictions.groupby("candidate", sort=False):
        probabilities = Temperature(1.0).apply(rows.filter(like="logit_").to_numpy(dtype=np.float64))
        one = np.ones((1, len(rows)))
        losses[str(candidate)] = float(log_loss(probabilities, rows["label"].to_numpy(dtype=np.int64), one)[0])
    return losses


def kendall_tau(first: ArrayLike, second: ArrayLike) -> float:
    """Compute the rank correlation tau-b, with ties as in Kendall 1945, "The treatment of ties in ranking problems".

    Returns
    -------
    float
        In [-1, 1]; NaN if a list has fewer than two different numbers.
    """
    one, other = (np.sign(np.subtract.outer(values, values)) for values in map(np.asarray, (first, second)))
    untied = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / untied if untied else float("nan")
