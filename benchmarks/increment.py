"""Whether the sentence on what the image adds is right, and its interval holds the true gain, on simulated cohorts.

    python benchmarks/increment.py --cohorts 100

Four truths: age and stage explain the label, the image does, both do, neither does. 200 patients in five folds; what
the image shows is drawn, and the model's log-odds are 1.5 times that (over-confident). The true gain in log-loss is
that of the fitted regressions on 4,000 further patients, averaged over folds.
"""

import argparse
from dataclasses import fields

import numpy as np
import pandas as pd
from evaluating import print_row
from scipy.special import expit

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.calibrators.calibrator import Temperature
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec, evaluated_by
from pipeline.metrics.wording import ADDS, BOTH, COLUMNS, NOT_SHOWN
from pipeline.stages.calibrate.increment import increment_table, metrics_of, predictions
from pipeline.stages.calibrate.subject import Settings, Subject

TRUTHS = {"columns": (1.2, 0.0), "image": (0.0, 1.5), "both": (1.0, 1.5), "neither": (0.0, 0.0)}
NAMES = ["column_age", "column_stage"]
FOLDS, PATIENTS, FURTHER, REPLICATES = 5, 200, 4000, 500
SETTINGS = Settings(
    **dict.fromkeys((one.name for one in fields(Settings)), None)
    | {"thresholds": (0.1, 0.5), "baseline": ("age", "stage"), "confidence": 0.95, "n_bootstrap": REPLICATES}
)
SPEC = TaskSpec(["well", "ill"], "multiclass")


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
    pooled = simulated(rng, PATIENTS, of_columns, of_image)
    folds = {str(fold): pooled.part(pooled.folds != str(fold)) for fold in range(FOLDS)}
    subject = subject_of(pooled, folds, cluster_weights(pooled.patients, REPLICATES, seed))
    table = increment_table(subject, SETTINGS)
    row = table[(table["prediction"] == BOTH) & (table["over"] == COLUMNS)].iloc[0]
    truth = np.mean([true_gain(simulated(rng, FURTHER, of_columns, of_image), one) for one in folds.values()])
    return str(row["verdict"]), bool(row["log_loss_lower"] <= truth <= row["log_loss_upper"]), float(truth)


def simulated(rng: np.random.Generator, count: int, of_columns: float, of_image: float) -> EvaluatedCases:
    age, stage, shown = rng.normal(size=count), rng.integers(0, 3, count), rng.normal(size=count)
    labels = (rng.uniform(size=count) < expit(of_columns * (age + stage - 1) + of_image * shown)).astype(np.int64)
    names = [f"{number}" for number in range(count)]
    known = {"case": names, "patient": names, "fold": (np.arange(count) % FOLDS).astype(str)}
    columns = {"column_age": (60 + 10 * age).astype(str), "column_stage": np.array(["I", "II", "III"])[stage]}
    cases = pd.DataFrame({**known, **columns, "logit_0": 0.0, "logit_1": 1.5 * shown})
    return evaluated_by(Temperature(1.0), cases, labels)


def subject_of(evaluated: EvaluatedCases, elsewhere: dict[str, EvaluatedCases], weights: np.ndarray) -> Subject:
    return Subject(evaluated, elsewhere, SPEC, weights=weights, seed=0)


def true_gain(further: EvaluatedCases, others: EvaluatedCases) -> float:
    """Evaluate the regressions that were fitted on `others` on further patients."""
    everyone = EvaluatedCases(
        further.cases.assign(fold="0"), further.labels, further.uncalibrated, further.calibrated, further.calibrators
    )
    once = np.ones((1, len(further.labels)))
    known = predictions(subject_of(everyone, {"0": others}, once), NAMES)
    losses = [metrics_of(known[name], further.labels, (0.1, 0.5))["log_loss"](once)[0] for name in (COLUMNS, BOTH)]
    return float(losses[0] - losses[1])


if __name__ == "__main__":
    main()
