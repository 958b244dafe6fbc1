"""Whether the sentence on what the image adds to columns is right for numbers and times, and its interval holds.

    python benchmarks/output_increment.py numbers --cohorts 400
    python benchmarks/output_increment.py times --cohorts 400

Four truths as in increment.py: age explains the outcome, the image does, both do, neither does. 200 patients in five
folds. An image is eight drawn features, the first of which may tell the outcome; the model is a ridge regression or a
Cox model on them, trained anew in each fold, whose output is recalibrated and fused as `calibrate` does it. Times are
exponential, about 35 % censored. The true gain, in mean absolute error or in the Brier score, is that of what would be
released, the model and the fusions of all patients, on 4,000 further patients.
"""

import argparse
from dataclasses import replace

import numpy as np
import pandas as pd
from evaluating import print_row
from sklearn.linear_model import Ridge

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.output_fusion import fit_number_fusion
from pipeline.metrics.regression.errors import mae
from pipeline.metrics.regression.evaluation import EvaluatedNumbers, Map, map_for, mapped, true_numbers
from pipeline.metrics.survival import evaluation as times
from pipeline.metrics.survival.cox import fit_cox
from pipeline.metrics.wording import ADDS, BOTH, COLUMNS, HARMS, IMAGE, NOT_SHOWN
from pipeline.stages.calibrate import regression_tables, survival_tables

TRUTHS = {"columns": (1.0, 0.0), "image": (0.0, 1.0), "both": (1.0, 1.0), "neither": (0.0, 0.0)}
AGE = [InputColumn("age", "numeric")]
FOLDS, PATIENTS, FURTHER, REPLICATES, FEATURES = 5, 200, 4000, 300, 8
AT = np.array([0.3, 0.8])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cohorts", type=int, default=400)
    parser.add_argument("--first", type=int, default=0, help="seed of the first cohort")
    asked = parser.parse_args()
    print_row("truth", "adds", "not shown", "takes away", "right", "interval holds the true gain", "mean true gain")
    print_row(*["---"] * 7)
    for name, effects in TRUTHS.items():
        found = [one_cohort(asked.kind, seed, effects) for seed in range(asked.first, asked.first + asked.cohorts)]
        verdicts = [verdict for *_, verdict in found]
        right = sum((verdict == ADDS) == (effects[1] > 0) for verdict in verdicts)
        held = sum(lower <= gain <= upper for gain, lower, upper, _ in found)
        counts = [f"{verdicts.count(one)}" for one in (ADDS, NOT_SHOWN, HARMS)]
        mean = np.mean([gain for gain, *_ in found])
        print_row(name, *counts, f"{right / asked.cohorts:.1%}", f"{held / asked.cohorts:.1%}", f"{mean:.4f}")


def one_cohort(kind: str, seed: int, effects: tuple[float, float]) -> tuple[float, float, float, str]:
    """Return the true gain over the columns, its interval, and the verdict."""
    rng = np.random.default_rng(seed)
    (cases, images), (further, more) = simulated(rng, PATIENTS, effects), simulated(rng, FURTHER, effects)
    train, gain_of = KINDS[kind]
    folds, outputs = cases["fold"].to_numpy(), np.zeros(PATIENTS)
    for fold in np.unique(folds):
        there = folds != fold
        outputs[~there] = images[~there] @ train(images[there], cases[there])
    scored, new = cases.assign(logit_0=outputs), further.assign(logit_0=more @ train(images, cases), fold="f")
    rows, metric, gain = gain_of(scored, new)
    row = next(row for row in rows if (row["prediction"], row["over"]) == (BOTH, COLUMNS))
    return gain, row[f"{metric}_lower"], row[f"{metric}_upper"], row["verdict"]


def simulated(rng: np.random.Generator, count: int, effects: tuple[float, float]) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw patients with an age, a number and a time, and their images (n, FEATURES)."""
    age, images = rng.normal(size=count), rng.normal(size=(count, FEATURES))
    risk = effects[0] * age + effects[1] * images[:, 0]
    true, end = rng.exponential(np.exp(-risk)), rng.exponential(2.0, size=count)
    names = [f"p{number}" for number in range(count)]
    known = {"case": names, "patient": names, "site": "", "fold": [str(one % FOLDS) for one in range(count)]}
    known |= {"column_age": (60 + 10 * age).round(1).astype(str), "label": (risk + rng.normal(size=count)).astype(str)}
    return pd.DataFrame(known | {"time": np.minimum(true, end), "event": true <= end}), images


def ridge(images: np.ndarray, cases: pd.DataFrame) -> np.ndarray:
    """Train the model of numbers: coefficients of the images (FEATURES,); recalibration adds the intercept."""
    return np.asarray(Ridge().fit(images, true_numbers(cases)).coef_)


def cox(images: np.ndarray, cases: pd.DataFrame) -> np.ndarray:
    """Train the model of times: coefficients of the images (FEATURES,)."""
    return fit_cox(images, *times.times_in(cases), penalty=1.0)


def gain_of_numbers(cases: pd.DataFrame, further: pd.DataFrame) -> tuple[list[dict], str, float]:
    """Return the rows of gains, the metric that decides, and the true gain on further patients."""
    maps = {fold: map_of(cases[cases["fold"] != fold]) for fold in sorted(set(cases["fold"]))}
    evaluated = mapped(cases, true_numbers(cases), maps)
    released = mapped(further, true_numbers(further), {"f": map_of(cases)})

    def error(one: EvaluatedNumbers) -> float:
        return float(mae(one.values, one.true, np.ones((1, FURTHER)))[0])

    rows = regression_tables.gains_of_the_image(evaluated, Bootstrap(REPLICATES, 0.95, 0))
    return rows, "mae", error(released.parts[COLUMNS]) - error(released)


def map_of(cases: pd.DataFrame) -> Map:
    """Fit what `map_for` fits, with the prediction intervals of the image alone, which have no part in a gain."""
    image = map_for(cases, 0.9, "auto")
    both, columns = (
        replace(image, fusion=fit_number_fusion(cases, true_numbers(cases), AGE, with_image))
        for with_image in (True, False)
    )
    return replace(both, parts={COLUMNS: columns, IMAGE: image})


def gain_of_times(cases: pd.DataFrame, further: pd.DataFrame) -> tuple[list[dict], str, float]:
    """Return the rows of gains, the metric that decides, and the true gain on further patients."""
    fitted = {fold: cases[cases["fold"] != fold] for fold in sorted(set(cases["fold"]))}
    evaluated = times.mapped(
        cases, {fold: times.recalibration_for(some, AT, "auto", AGE) for fold, some in fitted.items()}
    )
    released = times.mapped(further, {"f": times.recalibration_for(cases, AT, "auto", AGE)})

    def error(one: times.EvaluatedTimes) -> float:
        return float(times.brier_scores(one, one.survival, np.ones((1, FURTHER)))[0])

    rows = survival_tables.gains_of_the_image(evaluated, Bootstrap(REPLICATES, 0.95, 0))
    return rows, "integrated_brier", error(released.parts[COLUMNS]) - error(released)


KINDS = {"numbers": (ridge, gain_of_numbers), "times": (cox, gain_of_times)}

if __name__ == "__main__":
    main()
