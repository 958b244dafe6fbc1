"""How often intervals of cross-validated metrics hold the truth when every model is fitted again.

    OMP_NUM_THREADS=1 python benchmarks/coverage_refit.py grid --into DIR --cohorts 500
    OMP_NUM_THREADS=1 python benchmarks/coverage_refit.py methods --into DIR --cohorts 200
    OMP_NUM_THREADS=1 python benchmarks/coverage_refit.py --into DIR                        # prints what is there

Cohorts of `refitting.py` are cross-validated in five folds of patients, with cross-fitted temperatures. DIR holds a
file for each kind of cohort; cohorts that it holds are not drawn again, so that a run can be stopped at any time.

Three truths: `released`, the metric of the model that is fitted on all patients, on new patients; `these models`, the
mean of the five fold models; `procedure`, the mean of that over cohorts. `grid` compares the percentile interval of
drawn patients (before) with that of the pipeline (after), for each metric, and for the difference from a probe on half
of the features with four times the penalty. `methods` compares ways to an interval of uncalibrated AUC and log-loss.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from refitting import (
    FOLDS,
    Cell,
    Cohort,
    Floats,
    Ints,
    Validated,
    assigned,
    cohort_of,
    cross_validated,
    fitted,
    predicted,
)
from scipy.stats import norm, t

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import Bootstrap, cluster_weights, distance_estimate, estimate
from pipeline.metrics.paired_tests import paired_difference
from pipeline.metrics.summary import estimates_of, metrics_of

PENALTY, REPLICATES, LEVEL, BINS = 5.0, 500, 0.95, 10
COMPARED = ("auc", "log_loss", "brier")
GRID = [
    *(Cell(n, 1, 2, 0.75) for n in (60, 150, 400)),
    *(Cell(150, 1, 2, auc) for auc in (0.6, 0.9, 0.95)),
    *(Cell(n, 5, 2, 0.85) for n in (60, 150)),
    *(Cell(150, 1, k, 0.85) for k in (3, 5)),
    Cell(60, 1, 2, 0.9),
    Cell(150, 1, 2, 0.75, "network"),
]
METHODS = [Cell(60, 1, 2, 0.75), Cell(150, 1, 2, 0.85)]
TRUTHS = ("released", "these models", "procedure")
RESAMPLES, PARTITIONS, NESTED = 30, 5, 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=list(PARTS))
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--cohorts", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort")
    parser.add_argument("--cells", type=int, nargs="*", help="numbers of the kinds of cohorts, from 0")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        cells, of_cohort = PARTS[arguments.part]
        for cell in [cells[number] for number in arguments.cells] if arguments.cells else cells:
            fill(
                arguments.into / f"{arguments.part}-{name_of(cell)}.csv",
                cell,
                of_cohort,
                range(arguments.first, arguments.first + arguments.cohorts),
            )
    for file in sorted(arguments.into.glob("*.csv")):
        print(f"\n{file.stem}\n")
        for row in table(pd.read_csv(file)):
            print(row)


def name_of(cell: Cell) -> str:
    return f"{cell.patients}-{cell.images}-{cell.classes}-{cell.auc:g}-{cell.learner}"


def fill(file: Path, cell: Cell, of_cohort: Callable[[Cell, int], pd.DataFrame], seeds: range) -> None:
    """Add the cohorts that a file lacks, in the order of their seeds."""
    last = int(pd.read_csv(file, usecols=["seed"])["seed"].max()) if file.exists() else -1
    begun = time.perf_counter()
    for seed in (one for one in seeds if one > last):
        found = of_cohort(cell, seed)
        if len(found):
            found.assign(seed=seed).to_csv(file, mode="a", header=not file.exists(), index=False)
    print(f"{file.stem}: {time.perf_counter() - begun:.0f} s", flush=True)


def of_grid(cell: Cell, seed: int) -> pd.DataFrame:
    """Tabulate of one cohort, by metric, the truths and the intervals before and after."""
    cohort = cohort_of(cell, seed)
    if cohort is None:
        return pd.DataFrame()
    bootstrap = Bootstrap(REPLICATES, LEVEL, seed + 10**6)
    coupled = bootstrap.over(cohort.patients, cohort.folds.astype(str), cross_fitted=True)
    weights = bootstrap.weights(cohort.patients)
    full = cross_validated(cell, cohort, PENALTY, calibrated=True)
    metrics = metrics_of(full.probabilities, cohort.labels, BINS)
    before = {name: estimate(metric, weights, LEVEL) for name, metric in metrics.items()}
    before["ece"] = distance_estimate(before["ece"], LEVEL)
    after = estimates_of(full.probabilities, cohort.labels, cohort.patients, bins=BINS, bootstrap=coupled)
    truths = {name: truth(full, name) for name in metrics}
    rows = [
        {
            "metric": name,
            **truths[name],
            "value": before[name].value,
            **limits("before", one),
            **limits("after", after[name]),
        }
        for name, one in before.items()
    ]
    if cell.learner == "probe":
        half = cross_validated(cell, cohort, 4 * PENALTY, calibrated=True, columns=16)
        others = metrics_of(half.probabilities, cohort.labels, BINS)
        for name in COMPARED:
            found = [
                paired_difference(metrics[name], others[name], weights, level) for level in (LEVEL, coupled.confidence)
            ]
            apart = {key: value - truth(half, name)[key] for key, value in truths[name].items()}
            ends = limits("before", found[0]) | limits("after", found[1])
            rows.append({"metric": f"difference of {name}", **apart, "value": found[0].value, **ends})
    return pd.DataFrame(rows)


def truth(validated: Validated, metric: str) -> dict[str, float]:
    """Compute a metric of the released model, and its mean over the fold models."""
    each = [
        metrics_of(points, validated.labels, BINS)[metric](validated.weights[None])[0] for points in validated.points
    ]
    return {"released": float(each[FOLDS]), "these models": float(np.mean(each[:FOLDS]))}


def limits(name: str, found: object) -> dict[str, float | None]:
    """Give the limits of an estimate; an open one is infinite."""
    lower, upper = getattr(found, "lower"), getattr(found, "upper")  # noqa: B009 - of an Estimate
    nowhere = lower is None and upper is None
    return {
        f"{name}_lower": np.nan if nowhere else -np.inf if lower is None else lower,
        f"{name}_upper": np.nan if nowhere else np.inf if upper is None else upper,
    }


def of_methods(cell: Cell, seed: int) -> pd.DataFrame:
    """Tabulate of one cohort the intervals of several methods for uncalibrated AUC and log-loss."""
    cohort = cohort_of(cell, seed)
    if cohort is None:
        return pd.DataFrame()
    full = cross_validated(cell, cohort, PENALTY, calibrated=False)
    rows = []
    for name in ("auc", "log_loss"):
        row: dict[str, object] = {"metric": name, **truth(full, name)}
        for method, of_method in WAYS.items():
            centre, half = of_method(cell, cohort, full, name)
            row |= {"value": centre, f"{method}_lower": centre - half, f"{method}_upper": centre + half}
        rows.append(row)
    return pd.DataFrame(rows)


def value_of(name: str, probabilities: Floats, cohort: Cohort, weights: Floats) -> Floats:
    metric = discrimination.macro_auc if name == "auc" else discrimination.log_loss
    return metric(probabilities, cohort.labels, weights)


def drawn_patients(cell: Cell, cohort: Cohort, full: Validated, name: str) -> tuple[float, float]:
    """Take the standard deviation over draws of patients: what the influence function gives, too."""
    weights = cluster_weights(cohort.patients, REPLICATES, int(cohort.folds.sum()))
    values = value_of(name, full.probabilities, cohort, weights)
    return float(values[0]), float(norm.ppf(0.975) * np.nanstd(values[1:], ddof=1))


def doubled(cell: Cell, cohort: Cohort, full: Validated, name: str) -> tuple[float, float]:
    """Double that variance: the coupling of all folds."""
    centre, half = drawn_patients(cell, cohort, full, name)
    return centre, half * np.sqrt(2)


def corrected(cell: Cell, cohort: Cohort, full: Validated, name: str) -> tuple[float, float]:
    """Take Nadeau and Bengio's corrected variance over folds, with Student's quantile."""
    centre = float(value_of(name, full.probabilities, cohort, np.ones((1, len(cohort.labels))))[0])
    masks = np.stack([cohort.folds == fold for fold in range(FOLDS)]).astype(np.float64)
    of_folds = value_of(name, full.probabilities, cohort, masks)
    error = np.sqrt((1 / FOLDS + 1 / (FOLDS - 1)) * np.nanvar(of_folds, ddof=1))
    return centre, float(t.ppf(0.975, FOLDS - 1) * error)


def out_of_fold(cell: Cell, cohort: Cohort, folds: Ints, times: Floats) -> Floats:
    """Cross-validate again under each weighting (R, n) of the cases: (R, n, K)."""
    weights = np.concatenate([row * np.stack([folds != fold for fold in range(FOLDS)]) for row in times])
    found = predicted(cohort.features, fitted(cohort.features, cohort.labels, weights, PENALTY * cell.images))
    return found.reshape(len(times), FOLDS, *found.shape[1:])[:, folds, np.arange(len(folds))]


def refitted(cell: Cell, cohort: Cohort, full: Validated, name: str) -> tuple[float, float]:
    """Draw patients again and fit every head again; images of a patient drawn twice stay in one fold."""
    times = cluster_weights(cohort.patients, RESAMPLES, int(cohort.folds.sum()) + 1)
    own = out_of_fold(cell, cohort, cohort.folds, times)
    values = [value_of(name, one, cohort, row[None])[0] for one, row in zip(own, times, strict=True)]
    return float(values[0]), float(norm.ppf(0.975) * np.nanstd(values[1:], ddof=1))


def repeated(cell: Cell, cohort: Cohort, full: Validated, name: str) -> tuple[float, float]:
    """Average several partitions: their variance is added to that of drawn patients."""
    once = np.ones((1, len(cohort.labels)))
    partitions = [assigned(cohort.labels, cohort.patients, seed) for seed in range(100, 100 + PARTITIONS)]
    values = [value_of(name, out_of_fold(cell, cohort, folds, once)[0], cohort, once)[0] for folds in partitions]
    half = drawn_patients(cell, cohort, full, name)[1] / norm.ppf(0.975)
    return float(np.mean(values)), float(norm.ppf(0.975) * np.sqrt(half**2 + np.var(values, ddof=1)))


def nested(cell: Cell, cohort: Cohort, full: Validated, name: str) -> tuple[float, float]:
    """Take the mean squared error of nested cross-validation (Bates, Hastie, Tibshirani 2023, algorithm 1)."""
    errors, chance = [], []
    for seed in range(200, 200 + NESTED):
        folds = assigned(cohort.labels, cohort.patients, seed)
        pairs = [(a, b) for a in range(FOLDS) for b in range(a, FOLDS)]
        weights = np.stack([(folds != a) & (folds != b) for a, b in pairs]).astype(np.float64)
        found = predicted(cohort.features, fitted(cohort.features, cohort.labels, weights, PENALTY * cell.images))
        of_pair = dict(zip(pairs, found, strict=True))
        for a in range(FOLDS):
            inner = np.stack([of_pair[min(a, b), max(a, b)][row] for row, b in enumerate(folds)])
            inside, outside = (folds != a)[None].astype(float), (folds == a)[None].astype(float)
            errors.append(value_of(name, inner, cohort, inside)[0] - value_of(name, of_pair[a, a], cohort, outside)[0])
            drawn = cluster_weights(cohort.patients, 60, seed + a) * outside
            chance.append(np.nanvar(value_of(name, of_pair[a, a], cohort, drawn)[1:], ddof=1))
    centre, half = drawn_patients(cell, cohort, full, name)
    plain = half / norm.ppf(0.975)
    error = np.sqrt(max(float(np.nanmean(np.square(errors)) - np.nanmean(chance)), 0) * (FOLDS - 1) / FOLDS)
    return centre, float(norm.ppf(0.975) * np.clip(error, plain, plain * np.sqrt(FOLDS)))


WAYS: dict[str, Callable[[Cell, Cohort, Validated, str], tuple[float, float]]] = {
    "drawn patients": drawn_patients,
    "doubled variance": doubled,
    "corrected over folds": corrected,
    "repeated partitions": repeated,
    "nested": nested,
    "refitted bootstrap": refitted,
}


def table(rows: pd.DataFrame) -> Iterator[str]:
    """Print by metric how many intervals of each method hold each truth, and their median width against the first."""
    methods = [column.removesuffix("_lower") for column in rows if column.endswith("_lower")]
    yield "| metric | cohorts | " + " | ".join(f"{one}: released | these | procedure | width" for one in methods) + " |"
    yield "|---" * (2 + 4 * len(methods)) + "|"
    for name, some in rows.groupby("metric", sort=False):
        truths = some.assign(procedure=some["these models"].mean())
        widths = {one: (some[f"{one}_upper"] - some[f"{one}_lower"]).median() for one in methods}
        cells = []
        for one in methods:
            lower, upper = some[f"{one}_lower"], some[f"{one}_upper"]
            known = lower.notna()
            for kind in TRUTHS:
                held = ((lower <= truths[kind]) & (truths[kind] <= upper))[known & truths[kind].notna()]
                error = np.sqrt(held.mean() * (1 - held.mean()) / max(len(held), 1))
                cells.append(f"{100 * held.mean():.1f} ± {100 * error:.1f}")
            cells.append(f"{widths[one] / widths[methods[0]]:.2f}")
        yield f"| {name} | {len(some)} | {' | '.join(cells)} |"


PARTS = {"grid": (GRID, of_grid), "methods": (METHODS, of_methods)}

if __name__ == "__main__":
    main()
