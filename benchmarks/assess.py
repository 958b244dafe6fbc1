"""Seconds until a set of cases is evaluated in every way: `summary.summarise`, and each table of `assessment.TABLES`.

    OMP_NUM_THREADS=1 python benchmarks/assess.py                                 # two classes
    OMP_NUM_THREADS=1 python benchmarks/assess.py --classes 3 --cases 5000 --replicates 2000

The cases are simulated: five folds, three sites and two cases of each patient, no two predictions alike. They are
evaluated twice: as out-of-fold cases, which have thresholds of every fold ("folds"), and as a test set, which has
those of all folds together ("test"). Processor time counts, so that other work on the machine is left out. Drawing the
weights has a row of its own, since all tables share them; `summarise` is called once before and once after
calibration, as the stage does. The slowest rows are repeated at the end.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.calibrators.fitting import fit_temperature
from pipeline.metrics.evaluation import EvaluatedCases, TaskSpec, evaluated_across, evaluated_by, logits_of, other_folds
from pipeline.metrics.summary import summarise
from pipeline.stages.calibrate.assessment import STATES, TABLES, Settings, Subject

FOLDS, SITES, IMAGES = 5, 3, 2
OVERCONFIDENCE = 1.5
SLOWEST = 3
Seconds = dict[str, float]
Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--replicates", type=int, default=2000)
    arguments = parser.parse_args()
    settings = Settings(10, (0.05, 0.5), 0.9, 0.9, 0.9, (0.01, 0.1), arguments.replicates, 0.95, baseline=())
    spec = TaskSpec([f"class {number}" for number in range(arguments.classes)])
    of_scope = {
        name: seconds_of(evaluated, elsewhere, spec, settings)
        for name, (evaluated, elsewhere) in scopes(arguments.cases, arguments.classes).items()
    }
    print_table(pd.DataFrame(of_scope))


def scopes(n: int, n_classes: int) -> dict[str, tuple[EvaluatedCases, dict[str, EvaluatedCases]]]:
    """Give each set of cases with the development cases of its folds."""
    cases, labels = drawn(n, n_classes, seed=0)
    pooled = evaluated_across(cases, labels, "temperature")
    there, truth = drawn(n, n_classes, seed=1)
    test = evaluated_by(fit_temperature(logits_of(cases), labels), there.assign(fold="final"), truth)
    return {"folds": (pooled, other_folds(pooled)), "test": (test, {"final": pooled})}


def drawn(n: int, n_classes: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw cases with their logits, which are too confident, and the true classes (n,)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from softmax(logits)
    patient = np.arange(n) // IMAGES
    site = np.char.add("site ", (patient % SITES).astype(str))
    known = {"case": np.arange(n).astype(str), "patient": patient.astype(str), "site": site, "group_site": site}
    columns = {f"logit_{number}": column for number, column in enumerate(OVERCONFIDENCE * logits.T)}
    return pd.DataFrame({**known, "fold": (patient // SITES % FOLDS).astype(str), **columns}), labels


def seconds_of(
    evaluated: EvaluatedCases, elsewhere: dict[str, EvaluatedCases], spec: TaskSpec, settings: Settings
) -> Seconds:
    """Time every step by which one set of cases is evaluated."""
    found: Seconds = {}
    bootstrap = Bootstrap(settings.n_bootstrap, settings.confidence, seed=0)
    weights = timed(found, "weights", partial(bootstrap.weights, evaluated.patients))
    for state in STATES:
        known = (getattr(evaluated, state), evaluated.labels, evaluated.patients)
        timed(found, f"summarise, {state}", partial(summarise, *known, bins=settings.bins, bootstrap=bootstrap))
    baselines = {"site": np.roll(evaluated.calibrated, 1, axis=0)}  # some other prediction
    subject = Subject(replace(evaluated, baselines=baselines), elsewhere, spec, weights=weights, seed=0)
    for name, rows in TABLES.items():
        timed(found, name, partial(list, rows(subject, settings)))
    return found


def timed(found: Seconds, name: str, work: Callable[[], Result]) -> Result:
    """Do some work, and write down the processor seconds that it took."""
    start = time.process_time()
    result = work()
    found[name] = time.process_time() - start
    return result


def print_table(seconds: pd.DataFrame) -> None:
    print("| step |", " | ".join(f"{scope}, s" for scope in seconds), "|\n|---|" + "---|" * seconds.shape[1])
    for name, row in [*seconds.iterrows(), ("all", seconds.sum())]:
        print(f"| {name} |", " | ".join(f"{one:.1f}" for one in row), "|")
    slowest = seconds.max(axis=1).nlargest(SLOWEST)
    print("\nslowest:", ", ".join(f"{name} ({one:.1f} s)" for name, one in slowest.items()))


if __name__ == "__main__":
    main()
