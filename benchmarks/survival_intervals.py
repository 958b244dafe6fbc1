"""How often intervals of C, calibration slope and observed by expected events hold what they promise.

Lesion volumes as in the demo shorten exponential and Weibull times, with 30 and 60 % censoring; the output of a network
is the true log hazard of a patient with noise. It is recalibrated across five folds and evaluated with intervals over
patients as the pipeline does; the truth is the value of the released model in 20,000 patients of the same kind, none of
whom is censored.

    python benchmarks/survival_intervals.py [COHORTS]
"""

import sys
from functools import partial

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.survival.accuracy import calibration_slope, observed_expected
from pipeline.metrics.survival.discrimination import harrell_c
from pipeline.metrics.survival.evaluation import EvaluatedTimes, mapped, recalibration_for, summarise
from pipeline.stages.cohort.simulation.recipe import Times
from pipeline.stages.cohort.simulation.times import censoring_rate, drawn_time, hazard_of

PATIENTS, FOLDS, LATER = 200, 5, 20_000
SETTINGS = [(shape, censored) for shape in (1.0, 1.8) for censored in (0.3, 0.6)]


def cohort(count: int, times: Times, rng: np.random.Generator, *, censored: bool = True) -> pd.DataFrame:
    """Draw patients with lesions in seven of ten, their times, and outputs of a network."""
    volumes = np.where(rng.random(count) < 0.7, rng.gamma(6.0, 5.0, count), 0.0)
    rate = censoring_rate(volumes, times) if censored else 0.0
    drawn = [drawn_time(volume, rate, times, rng) for volume in volumes]
    hazard = np.log([hazard_of(volume, times) for volume in volumes])
    known = {"patient": np.arange(count).astype(str), "site": "", "fold": (np.arange(count) % FOLDS).astype(str)}
    known |= {"time": [time for time, _ in drawn], "event": [event for _, event in drawn]}
    return pd.DataFrame(known | {"logit_0": 0.5 * hazard + rng.normal(0, 0.5, count)})


def truth(released: EvaluatedTimes, horizon: float) -> dict[str, float]:
    """Compute the metrics of the released model in later patients."""
    one = np.ones((1, len(released.values)))
    known = (released.values, released.times, released.events)
    at = released.survival(np.array([horizon]))[:, 0]
    some = np.arange(4000)
    return {
        "c": float(harrell_c(*(part[some] for part in known), one[:, some])[0]),
        "calibration_slope": float(calibration_slope(*known, one)[0]),
        "observed_expected": float(observed_expected(at, *known[1:], one, horizon=horizon)[0]),
    }


def one_cohort(number: int, times: Times) -> dict[str, tuple[float, float, float, float]]:
    """Evaluate one cohort: value, lower and upper limit, and truth of each metric."""
    rng = np.random.default_rng([number, int(10 * times.shape), int(100 * times.censored)])
    cases = cohort(PATIENTS, times, rng)
    at = np.quantile(cases["time"][cases["event"]], [0.25, 0.5, 0.75])
    fitted = partial(recalibration_for, at=at, method="auto")
    maps = {str(fold): fitted(cases[cases["fold"] != str(fold)]) for fold in range(FOLDS)}
    evaluated = mapped(cases, maps)
    found = summarise(evaluated, evaluated.values, Bootstrap(200, 0.95, number))
    later = cohort(LATER, times, rng, censored=False).assign(fold="final")
    true = truth(mapped(later, {"final": fitted(cases)}), float(at[-1]))
    return {name: (*(found[name][end] for end in ("value", "lower", "upper")), value) for name, value in true.items()}


def main(cohorts: int) -> None:
    """Print, for each setting and metric, the mean, the mean of the truth, and the share of intervals that hold it."""
    print("| shape | censored | metric | mean | truth | intervals that hold the truth |\n|---|---|---|---|---|---|")
    for shape, censored in SETTINGS:
        times = Times(shape=shape, censored=censored)
        found = [one_cohort(number, times) for number in range(cohorts)]
        for name in found[0]:
            value, lower, upper, true = np.array([one[name] for one in found], dtype=float).T
            share = float(((lower <= true) & (true <= upper)).mean())
            print(f"| {shape:g} | {censored:.0%} | {name} | {value.mean():.3f} | {true.mean():.3f} | {share:.1%} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
