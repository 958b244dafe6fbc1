"""Evaluates the predictions of several methods and seeds for the same cases, and prints them as Markdown tables.

All intervals are 95 %, over draws of patients: the same draws for every method and seed, so differences are paired.
Metrics and differences are first computed for each seed, then averaged; ± is the standard deviation over seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.metrics import calibration, discrimination
from pipeline.metrics.bootstrap import Estimate, cluster_weights, estimate

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Metric = Callable[[Floats, Ints, Floats], Floats]  # probabilities (n, C), labels (n,), weights (R, n) to (R,)
REPLICATES = 1000
LEVEL = 0.95
UNKNOWN = "–"  # noqa: RUF001


def slope(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Calibration slope of two classes, or of more; 1 is right, below 1 is over-confident."""
    if probabilities.shape[1] == 2:
        return calibration.calibration_slope(probabilities[:, 1], labels == 1, weights)
    return calibration.multiclass_slope(probabilities, labels, weights)


def worst_recall(probabilities: Floats, labels: Ints, weights: Floats) -> Floats:
    """Share of its cases found, of the class of which fewest are, at the most probable class."""
    found = probabilities.argmax(axis=1) == labels
    with np.errstate(invalid="ignore"):
        recalls = [(weights * (labels == c)) @ found / (weights @ (labels == c)) for c in np.unique(labels)]
    return np.asarray(np.min(recalls, axis=0))


METRICS: dict[str, Metric] = {
    "AUC": discrimination.macro_auc,
    "log-loss": discrimination.log_loss,
    "slope": slope,
    "worst recall": worst_recall,
}


@dataclass(frozen=True)
class Runs:
    """Predictions of many runs for the same cases.

    Attributes
    ----------
    labels : (n,) int
    weights : (1 + REPLICATES, n)
        Draws of patients; the first row is all ones.
    probabilities : dict
        By method, then by seed: (n, C).
    """

    labels: Ints
    weights: Floats
    probabilities: dict[str, dict[int, Floats]]

    def estimate(self, metric: Metric, method: str, minus: str | None = None) -> Estimate:
        """Estimate a metric of a method, or its difference to another method's, as the mean over seeds."""
        seeds = self.seeds(*filter(None, (method, minus)))
        return estimate(partial(self.mean, metric, method, minus, seeds), self.weights, LEVEL)

    def mean(self, metric: Metric, method: str, minus: str | None, seeds: Sequence[int], weights: Floats) -> Floats:
        """Compute what `estimate` estimates, of some seeds and for each weighting (R, n): (R,)."""
        values = [metric(self.probabilities[method][seed], self.labels, weights) for seed in seeds]
        if minus is None:
            return np.asarray(np.mean(values, axis=0))
        return np.asarray(np.mean(values, axis=0) - self.mean(metric, minus, None, seeds, weights))

    def deviation(self, metric: Metric, method: str) -> float:
        """Compute the standard deviation of a metric over seeds; NaN of a single one."""
        runs = self.probabilities[method].values()
        values = [metric(run, self.labels, self.weights[:1])[0] for run in runs]
        return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")

    def seeds(self, *methods: str) -> list[int]:
        """List the seeds that all these methods were run with."""
        return sorted(set.intersection(*(set(self.probabilities.get(method, ())) for method in methods)))


def gather(rows: pd.DataFrame) -> Runs:
    """Put the rows of results.csv in order; runs that have not evaluated every case yet are left out."""
    cases = rows.drop_duplicates("case").sort_values("case")
    weights = cluster_weights(cases["patient"].to_numpy(dtype=str), REPLICATES, seed=0)
    runs = Runs(cases["truth"].to_numpy(), weights, {})
    for (method, seed), run in rows.groupby(["method", "seed"], sort=False):
        logits = run.set_index("case").filter(regex=r"^logit_\d+$").reindex(cases["case"]).to_numpy(dtype=float)
        if np.isfinite(logits).all():
            runs.probabilities.setdefault(str(method), {})[int(seed)] = softmax(logits, axis=1)
        else:
            print(f"seed {seed} {method} has not evaluated every case yet\n")
    return runs


def print_metrics(rows: pd.DataFrame, runs: Runs) -> None:
    """Print the metrics of each method: mean over seeds ± their deviation (interval over patients)."""
    seconds = rows.drop_duplicates(["method", "seed", "arrangement"]).groupby(["method", "seed"])["seconds"].sum()
    print_row("method", "seeds", *METRICS, "s a seed")
    print_row(*["---"] * (len(METRICS) + 3))
    for method, by_seed in runs.probabilities.items():
        cells = [metric_cell(runs, metric, method) for metric in METRICS.values()]
        print_row(method, len(by_seed), *cells, f"{seconds[method].median():.0f}")


def metric_cell(runs: Runs, metric: Metric, method: str) -> str:
    found, deviation = runs.estimate(metric, method), runs.deviation(metric, method)
    spread = f" ± {deviation:.3f}" if np.isfinite(deviation) else ""
    return UNKNOWN if found.value is None else f"{found.value:.3f}{spread}{interval(found)}"


def print_differences(runs: Runs, references: Sequence[str], oracle: str | None = None) -> None:
    """Print each method's differences to the references, and how much of the oracle's gain it has."""
    references = [reference for reference in references if reference in runs.probabilities]
    names = [f"{metric} - {reference}" for reference in references for metric in ("AUC", "log-loss")]
    print_row("method", *names, *(["gap closed"] if oracle else []))
    print_row(*["---"] * (1 + len(names) + bool(oracle)))
    for method in runs.probabilities:
        cells = [
            difference_cell(runs, METRICS[metric], method, reference)
            for reference in references
            for metric in ("AUC", "log-loss")
        ]
        print_row(method, *cells, *([gap_closed(runs, method, oracle)] if oracle else []))


def difference_cell(runs: Runs, metric: Metric, method: str, reference: str) -> str:
    if method == reference or not runs.seeds(method, reference):
        return ""
    found = runs.estimate(metric, method, reference)
    return UNKNOWN if found.value is None else f"{found.value:+.3f}{interval(found, '+')}"


def gap_closed(runs: Runs, method: str, oracle: str, none: str = "none") -> str:
    """Give (method - none) / (oracle - none) in AUC; nothing where the interval of the denominator reaches 0."""
    seeds = runs.seeds(method, oracle, none)
    if method in (oracle, none) or not seeds:
        return ""
    auc = METRICS["AUC"]
    gap = estimate(partial(runs.mean, auc, oracle, none, seeds), runs.weights, LEVEL)
    if gap.lower is None or gap.lower <= 0:
        return UNKNOWN

    def share(weights: Floats) -> Floats:
        gain = runs.mean(auc, method, none, seeds, weights)
        return gain / runs.mean(auc, oracle, none, seeds, weights)

    found = estimate(share, runs.weights, LEVEL)
    return f"{found.value:.2f}{interval(found, digits=2)}"


def interval(found: Estimate, sign: str = "", digits: int = 3) -> str:
    if found.lower is None:
        return ""
    return f" ({found.lower:{sign}.{digits}f} to {found.upper:{sign}.{digits}f})"


def print_row(*cells: object) -> None:
    print("|", " | ".join(map(str, cells)), "|")
