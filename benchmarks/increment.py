"""Whether the sentence on what the image adds is right, and its interval holds the true gain, on simulated cohorts.

    python benchmarks/increment.py --cohorts 100

Four truths: age and stage explain the label, the image does, both do, neither does. 400 patients in five folds, age
missing in a tenth of them. An image is eight drawn features, the first of which may tell the label; the model is a
logistic regression on them, trained anew in each fold, whose log-odds are multiplied by 1.5 (over-confident). Columns
are fused as `calibrate` does it. The true gain in log-loss is that of what would be released, the model and the fusions
of all patients, on 4,000 further patients.
"""

import argparse
from dataclasses import fields

import numpy as np
import pandas as pd
from evaluating import print_row
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.calibrators.calibrator import Temperature
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.discrimination import case_losses
from pipeline.metrics.evaluation import TaskSpec, evaluated_by, other_folds
from pipeline.metrics.fusion import fit_fusion
from pipeline.metrics.levels import level_for
from pipeline.metrics.wording import ADDS, BOTH, COLUMNS, NOT_SHOWN
from pipeline.stages.calibrate.fusing import fused_across
from pipeline.stages.calibrate.increment import increment_table
from pipeline.stages.calibrate.subject import Settings, Subject

TRUTHS = {"columns": (1.2, 0.0), "image": (0.0, 1.5), "both": (1.0, 1.5), "neither": (0.0, 0.0)}
INPUTS = [InputColumn("age", "numeric"), InputColumn("stage", "ordered", ("I", "II", "III"))]
FOLDS, PATIENTS, FURTHER, REPLICATES, FEATURES, MISSING = 5, 400, 4000, 500, 8, 0.1
SETTINGS = Settings(
    **dict.fromkeys((one.name for one in fields(Settings)), None)
    | {"thresholds": (0.1, 0.5), "baseline": (), "confidence": 0.95, "n_bootstrap": REPLICATES}
)
SPEC = TaskSpec(["well", "ill"], "multiclass")

Images = np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohorts", type=int, default=100)
    cohorts = parser.parse_args().cohorts
    print_row("truth", "adds", "not shown", "takes away", "right", "interval holds the true gain", "mean true gain")
    print_row(*["---"] * 7)
    for name, (of_columns, of_image) in TRUTHS.items():
        found = [one_cohort(seed, of_columns, of_image) for seed in range(cohorts)]
        verdicts = [verdict for verdict, _, _ in found]
        right = sum((verdict == ADDS) == (of_image > 0) for verdict in verdicts)
        held = sum(held for _, held, _ in found)
        counts = [f"{verdicts.count(one)}" for one in (ADDS, NOT_SHOWN, "takes away")]
        mean = np.mean([gain for _, _, gain in found])
        print_row(name, *counts, f"{right / cohorts:.0%}", f"{held / cohorts:.1%}", f"{mean:.3f}")


def one_cohort(seed: int, of_columns: float, of_image: float) -> tuple[str, bool, float]:
    """Return the verdict of a cohort, whether its interval holds the true gain, and the true gain in nats."""
    rng = np.random.default_rng(seed)
    cases, images, labels = simulated(rng, PATIENTS, of_columns, of_image)
    folds, odds = cases["fold"].to_numpy(int), np.zeros(PATIENTS)
    for fold in range(FOLDS):
        there = folds != fold
        odds[~there] = trained(images[there], labels[there]).decision_function(images[~there])
    out_of_fold = evaluated_by(Temperature(1.0), scored(cases, odds), labels)
    fused = fused_across(out_of_fold, INPUTS)
    weights = cluster_weights(fused.patients, REPLICATES, seed)
    subject = Subject(fused, other_folds(fused), SPEC, weights=weights, seed=0)
    level = level_for(SETTINGS.confidence, fused.patients, fused.folds)
    settings = Settings(**vars(SETTINGS) | {"confidence": level})
    table = increment_table(subject, settings)
    row = table[(table["prediction"] == BOTH) & (table["over"] == COLUMNS)].iloc[0]
    further, more, truths = simulated(rng, FURTHER, of_columns, of_image)
    new = scored(further, trained(images, labels).decision_function(more))
    losses = [
        case_losses(
            evaluated_by(fit_fusion(out_of_fold.cases, labels, INPUTS, with_image), new, truths).calibrated, truths
        )[0].mean()
        for with_image in (False, True)
    ]
    truth = float(losses[0] - losses[1])
    return str(row["verdict"]), bool(row["log_loss_lower"] <= truth <= row["log_loss_upper"]), truth


def simulated(
    rng: np.random.Generator, count: int, of_columns: float, of_image: float
) -> tuple[pd.DataFrame, Images, np.ndarray]:
    """Draw patients: their table with columns as text, their images (n, FEATURES) and labels (n,)."""
    age, stage = rng.normal(size=count), rng.integers(0, 3, count)
    images = rng.normal(size=(count, FEATURES))
    labels = (rng.uniform(size=count) < expit(of_columns * (age + stage - 1) + of_image * images[:, 0])).astype(int)
    names = [f"{number}" for number in range(count)]
    known = {"case": names, "patient": names, "fold": (np.arange(count) % FOLDS).astype(str)}
    ages = np.where(rng.uniform(size=count) < MISSING, "", (60 + 10 * age).round(1).astype(str))
    columns = {"column_age": ages, "column_stage": np.array(["I", "II", "III"])[stage]}
    return pd.DataFrame({**known, **columns}), images, labels


def trained(images: Images, labels: np.ndarray) -> LogisticRegression:
    """Train the model of the images."""
    return LogisticRegression().fit(images, labels)


def scored(cases: pd.DataFrame, odds: np.ndarray) -> pd.DataFrame:
    """Add the over-confident logits of a model."""
    return cases.assign(logit_0=0.0, logit_1=1.5 * odds)


if __name__ == "__main__":
    main()
