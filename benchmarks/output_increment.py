"""Whether the sentence on what the image adds to columns is right for numbers and times, and its interval holds.

    python benchmarks/output_increment.py numbers --cohorts 100
    python benchmarks/output_increment.py times --cohorts 50

Four truths as in increment.py: age explains the outcome, the image does, both do, neither does. 200 patients in five
folds. The output of the network is the part of the image in the outcome with noise, as of a model that did not see the
patient; it is recalibrated and fused as `calibrate` does it. Times are exponential, 30 % censored. The true gain, in
mean absolute error or in the Brier score, is that of what would be released on 4,000 further patients.
"""

import argparse

import numpy as np
import pandas as pd
from evaluating import print_row

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.regression.errors import mae
from pipeline.metrics.regression.evaluation import EvaluatedNumbers, map_for, mapped, true_numbers
from pipeline.metrics.survival import evaluation as times
from pipeline.metrics.wording import ADDS, BOTH, COLUMNS, HARMS, NOT_SHOWN
from pipeline.stages.calibrate import regression_tables, survival_tables

TRUTHS = {"columns": (1.0, 0.0), "image": (0.0, 1.0), "both": (1.0, 1.0), "neither": (0.0, 0.0)}
AGE = [InputColumn("age", "numeric")]
FOLDS, PATIENTS, FURTHER, REPLICATES = 5, 200, 4000, 300
AT = np.array([0.3, 0.8])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("numbers", "times"))
    parser.add_argument("--cohorts", type=int, default=100)
    asked = parser.parse_args()
    one_cohort = {"numbers": of_numbers, "times": of_times}[asked.kind]
    print_row("truth", "adds", "not shown", "takes away", "right", "interval holds the true gain", "mean true gain")
    print_row(*["---"] * 7)
    for name, effects in TRUTHS.items():
        found = [one_cohort(np.random.default_rng(seed), *effects) for seed in range(asked.cohorts)]
        verdicts = [row["verdict"] for row, _, _ in found]
        right = sum((verdict == ADDS) == (effects[1] > 0) for verdict in verdicts)
        held = sum(row[f"{metric}_lower"] <= gain <= row[f"{metric}_upper"] for row, metric, gain in found)
        counts = [f"{verdicts.count(one)}" for one in (ADDS, NOT_SHOWN, HARMS)]
        mean = np.mean([gain for *_, gain in found])
        print_row(name, *counts, f"{right / asked.cohorts:.0%}", f"{held / asked.cohorts:.0%}", f"{mean:.4f}")


def simulated(rng: np.random.Generator, count: int, of_age: float, of_image: float) -> pd.DataFrame:
    """Draw patients with an age, the output of a network, a number and a time."""
    image, age = rng.normal(size=count), rng.normal(size=count)
    risk = of_image * image + of_age * age
    true, end = rng.exponential(np.exp(-risk)), rng.exponential(2.0, size=count)
    names = [f"p{number}" for number in range(count)]
    return pd.DataFrame(
        {
            **{"case": names, "patient": names, "site": "", "fold": [str(one % FOLDS) for one in range(count)]},
            **{"logit_0": image + rng.normal(0, 0.5, count), "column_age": (60 + 10 * age).round(1).astype(str)},
            **{"label": (risk + rng.normal(size=count)).astype(str)},
            **{"time": np.minimum(true, end), "event": true <= end},
        }
    )


def of_numbers(rng: np.random.Generator, of_age: float, of_image: float) -> tuple[dict, str, float]:
    """Return the row of the gain over the columns, its metric, and the true gain."""
    cases, further = simulated(rng, PATIENTS, of_age, of_image), simulated(rng, FURTHER, of_age, of_image)
    maps = {fold: map_for(cases[cases["fold"] != fold], 0.9, "auto", AGE) for fold in sorted(set(cases["fold"]))}
    evaluated = mapped(cases, true_numbers(cases), maps)
    released = mapped(further.assign(fold="f"), true_numbers(further), {"f": map_for(cases, 0.9, "auto", AGE)})

    def error(one: EvaluatedNumbers) -> float:
        return float(mae(one.values, one.true, np.ones((1, FURTHER)))[0])

    rows = regression_tables.gains_of_the_image(evaluated, Bootstrap(REPLICATES, 0.95, 0))
    return gain_in(rows), "mae", error(released.parts[COLUMNS]) - error(released)


def of_times(rng: np.random.Generator, of_age: float, of_image: float) -> tuple[dict, str, float]:
    """Return the row of the gain over the columns, its metric, and the true gain."""
    cases, further = simulated(rng, PATIENTS, of_age, of_image), simulated(rng, FURTHER, of_age, of_image)
    folds = sorted(set(cases["fold"]))
    maps = {fold: times.recalibration_for(cases[cases["fold"] != fold], AT, "auto", AGE) for fold in folds}
    evaluated = times.mapped(cases, maps)
    released = times.mapped(further.assign(fold="f"), {"f": times.recalibration_for(cases, AT, "auto", AGE)})

    def error(one: times.EvaluatedTimes) -> float:
        return float(times.brier_scores(one, one.survival, np.ones((1, FURTHER)))[0])

    rows = survival_tables.gains_of_the_image(evaluated, Bootstrap(REPLICATES, 0.95, 0))
    return gain_in(rows), "integrated_brier", error(released.parts[COLUMNS]) - error(released)


def gain_in(rows: list[dict]) -> dict:
    return next(row for row in rows if (row["prediction"], row["over"]) == (BOTH, COLUMNS))


if __name__ == "__main__":
    main()
