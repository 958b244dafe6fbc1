"""How often intervals hold the truth, conformal sets the true class, and null bands a well calibrated prediction.

    OMP_NUM_THREADS=1 python benchmarks/coverage.py                         # about ten minutes on a core of its own
    OMP_NUM_THREADS=1 python benchmarks/coverage.py intervals --cohorts 200
    OMP_NUM_THREADS=1 python benchmarks/coverage.py sets bands --cohorts 4000

Cohorts are simulated, each with the number of its draw for a seed, where the truth is known: predictions p are uniform
on (0, 1) and right, so that AUC is 5/6, log-loss 1/2, Brier score 1/6 and calibration slope 1. What is counted over
cohorts is printed with its Monte-Carlo standard error.

`intervals`: 200 patients with five images each, once identical, once with a patient effect on prediction and outcome;
percentile intervals by drawing patients, and by drawing images as if each were a patient of its own, both from 500
replicates; "width needed" is that of estimate ± 1.96 standard deviations over cohorts. `sets`: conformal sets at a
promised 90 %, beside the law k / (n + 1); two sites, of which one predicts more sharply. `bands`: how many cohorts
stay below the 95th percentile of the calibration error (10 bins) under perfect calibration, which all of them have.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import norm

from pipeline.metrics import calibration, discrimination, multilabel
from pipeline.metrics.bootstrap import cluster_weights, estimate
from pipeline.metrics.conformal import By, Thresholds, conformal_thresholds, rank_of, sets_of
from pipeline.metrics.questions import both_ways

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Marks = NDArray[np.bool_]
Names = NDArray[np.str_]

APART = 10**6  # from the seed of a cohort to that of its replicates, so that they are drawn by other numbers
IMAGES, PATIENTS, REPLICATES, LEVEL = 5, 200, 500, 0.95
ALIKE = {"identical": 1.0, "patient effect": 0.8}  # correlation within a patient, of what is below p and below y
METRICS = {  # with the truth
    "AUC": (discrimination.roc_auc, 5 / 6),
    "log-loss": (multilabel.log_loss, 1 / 2),
    "Brier": (multilabel.brier, 1 / 6),
    "slope": (calibration.calibration_slope, 1.0),
}

ALPHA, NEW = 0.1, 1000
PROMISES: dict[By, str] = {None: "all", "class": "each class", "site": "each site"}
UNITS = ("patient", "image")
SPREAD = {"sharp": 2.5, "dull": 0.7}  # standard deviation of logit p at each site
CENTRE = -1.2

BINS, DRAWS, BAND = 10, 1000, 0.95
SAMPLES = (
    ("alone", 60, 0.0),
    ("alone", 200, 0.0),
    ("alone", 1000, 0.0),
    ("patient effect", 1000, 0.8),
    ("identical", 1000, 1.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--cohorts", type=int, default=2000)
    arguments = parser.parse_args()
    for part in arguments.parts:
        print(f"\n{part}, {arguments.cohorts} cohorts\n")
        for row in PARTS[part](arguments.cohorts):
            print(row, flush=True)


def intervals(cohorts: int) -> Iterator[str]:
    """Compare intervals by drawing patients with those by drawing images."""
    yield header("images", "metric", "patients drawn: coverage", "width", "images drawn: coverage", "width", "needed")
    for images, alike in ALIKE.items():
        found = pd.concat([intervals_of(seed, alike) for seed in range(cohorts)])
        for name, table in found.groupby("metric", sort=False):
            needed = 2 * norm.ppf((1 + LEVEL) / 2) * table["value"].std()
            cells = [cell for who in UNITS for cell in (share(table[f"{who} holds"]), f"{table[who].mean():.3f}")]
            yield line(images, name, *cells, f"{needed:.3f}")


def intervals_of(seed: int, alike: float) -> pd.DataFrame:
    """Tell of one cohort, per metric, how wide the interval of each unit is, and whether it holds the truth."""
    prediction, events = drawn(np.random.default_rng(seed), PATIENTS, alike)
    weights = {who: cluster_weights(names, REPLICATES, seed + APART) for who, names in units(PATIENTS).items()}
    rows: list[dict[str, object]] = []
    for name, (metric, truth) in METRICS.items():
        row: dict[str, object] = {"metric": name}
        for who, draws in weights.items():
            found = estimate(partial(metric, prediction, events), draws, LEVEL)
            lower, upper = np.array([found.lower, found.upper], dtype=np.float64)  # None becomes NaN
            row |= {"value": found.value, who: upper - lower, f"{who} holds": lower <= truth <= upper}
        rows.append(row)
    return pd.DataFrame(rows)


def units(patients: int) -> dict[str, Names]:
    """Name the patient of each image (patients * IMAGES,), and pretend that each image has one of its own."""
    image = np.arange(patients * IMAGES)
    return dict(zip(UNITS, ((image // IMAGES).astype(str), image.astype(str)), strict=True))


def drawn(rng: np.random.Generator, patients: int, alike: float) -> tuple[Floats, Marks]:
    """Draw predictions (n,), uniform on (0, 1), and events (n,) that happen as often as predicted.

    Images of a patient share a normal effect below the prediction, and another below the chance that decides the event.
    Each image by itself is as without them, so that the truth of every metric stays what it was.
    """
    prediction, chance = (norm.cdf(with_effect(rng, patients, alike)) for _ in range(2))
    return prediction, chance < prediction


def with_effect(rng: np.random.Generator, patients: int, alike: float) -> Floats:
    """Draw standard normal numbers (patients * IMAGES,), correlated within patients."""
    effect, own = rng.normal(size=(patients, 1)), rng.normal(size=(patients, IMAGES))
    return np.asarray((np.sqrt(alike) * effect + np.sqrt(1 - alike) * own).ravel())


def sets(cohorts: int) -> Iterator[str]:
    """Compare the coverage of conformal sets on new patients of each cohort with the law."""
    yield header("promise to", "calibration patients", "of whom", "covered", "law k / (n + 1)")
    trials: dict[tuple[str, int], Callable[[int], pd.DataFrame]] = {}
    trials |= {(name, n): partial(coverage_of, n, by) for n in (60, 200) for by, name in PROMISES.items()}
    trials |= {(f"each {who}, {IMAGES} images a patient", 100): partial(coverage_of_several, 100, who) for who in UNITS}
    for (promise, n), trial in trials.items():
        found = pd.concat([trial(seed) for seed in range(cohorts)])
        for group, table in found.groupby("group", sort=False):
            law = "" if table["law"].isna().all() else f"{100 * table['law'].mean():.1f} %"
            yield line(promise, n, group, mean(table["covered"]), law)


def coverage_of(n: int, by: By, seed: int) -> pd.DataFrame:
    """Find thresholds on one cohort, and tell how often the sets of new patients hold the true class, by group."""
    rng = np.random.default_rng(seed)
    probabilities, labels, sites = of_sites(rng, n)
    known = conformal_thresholds(probabilities, labels, np.arange(n).astype(str), ALPHA, by=by, sites=sites)
    new, truth, there = of_sites(rng, NEW)
    covered = sets_of(new, known, there)[np.arange(NEW), truth]
    groups = {"all": np.ones(NEW, dtype=bool), "class 0": truth == 0, "class 1": truth == 1}
    groups |= {f"site {site}": there == site for site in SPREAD}
    rows = [(name, covered[inside].mean(), law_of(known, name)) for name, inside in groups.items()]
    return pd.DataFrame(rows, columns=["group", "covered", "law"])


def of_sites(rng: np.random.Generator, n: int) -> tuple[Floats, Ints, Names]:
    """Draw predictions (n, 2) that are right, labels (n,), and sites (n,)."""
    site = rng.integers(len(SPREAD), size=n)
    prediction = expit(CENTRE + np.array(list(SPREAD.values()))[site] * rng.normal(size=n))
    return both_ways(prediction), (rng.random(n) < prediction).astype(np.int64), np.array(list(SPREAD))[site]


def law_of(known: Thresholds, group: str) -> float:
    """Compute k / (n + 1) of a group to which the promise was made, 1 where all sets are full; NaN of other groups."""
    threshold = known.groups.get(group.removeprefix("class ").removeprefix("site "))
    if threshold is None:
        return float("nan")
    return 1.0 if threshold.value is None else rank_of(threshold.n, ALPHA) / (threshold.n + 1)


def coverage_of_several(n: int, who: str, seed: int) -> pd.DataFrame:
    """Find the threshold on patients of several images, or on images taken for patients, and evaluate new ones."""
    rng = np.random.default_rng(seed)
    prediction, events = drawn(rng, n, ALIKE["patient effect"])
    known = conformal_thresholds(both_ways(prediction), events.astype(np.int64), units(n)[who], ALPHA)
    new, truth = drawn(rng, NEW, ALIKE["patient effect"])
    covered = sets_of(both_ways(new), known)[np.arange(len(new)), truth.astype(np.int64)].reshape(NEW, IMAGES)
    law = law_of(known, "all") if who == "patient" else np.nan
    rows = [("images", covered.mean(), np.nan), ("patients, all images", covered.all(axis=1).mean(), law)]
    return pd.DataFrame(rows, columns=["group", "covered", "law"])


def bands(cohorts: int) -> Iterator[str]:
    """Count the well calibrated cohorts whose calibration error is below the upper end of its null band."""
    yield header("images", "n", "equal width: below", "error", "equal mass: below", "error")
    for images, n, alike in SAMPLES:
        cells: list[str] = []
        for mass in (False, True):
            found = np.array([error_of(seed, n, alike, mass) for seed in range(cohorts)])
            cells += [share(found[:, 0] <= found[:, 1]), f"{found[:, 0].mean():.3f}"]
        yield line(images, n, *cells)


def error_of(seed: int, n: int, alike: float, mass: bool) -> tuple[float, float]:
    """Give the calibration error of a well calibrated cohort, and the upper end of its null band."""
    prediction, events = drawn(np.random.default_rng(seed), n // IMAGES, alike)
    error = calibration.calibration_error(prediction, events, np.ones((1, n)), BINS, mass=mass)
    patients = units(n // IMAGES)["patient" if alike else "image"]
    null = calibration.calibration_error_if_perfect(
        prediction, bins=BINS, replicates=DRAWS, seed=seed + APART, patients=patients, mass=mass
    )
    return float(error[0]), float(np.quantile(null, BAND))


def share(marks: "NDArray[np.bool_] | pd.Series[bool]") -> str:
    """Print a share and its standard error, in per cent."""
    part = float(np.mean(marks))
    return f"{100 * part:.1f} ± {100 * np.sqrt(part * (1 - part) / len(marks)):.1f} %"


def mean(shares: "pd.Series[float]") -> str:
    """Print the mean of shares, one of each cohort, and its standard error, in per cent."""
    return f"{100 * shares.mean():.1f} ± {100 * shares.sem():.1f} %"


def header(*names: str) -> str:
    return line(*names) + "\n" + "|---" * len(names) + "|"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


PARTS: dict[str, Callable[[int], Iterator[str]]] = {"intervals": intervals, "sets": sets, "bands": bands}

if __name__ == "__main__":
    main()
