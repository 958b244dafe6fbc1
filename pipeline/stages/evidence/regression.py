"""Evidence of a regression: whether adaptation changed the error of probes on frozen features.

What compares classes (trainings within a budget, learning curves, few-shot and zero-shot episodes, embeddings) is left
out; data/evidence/record.json says so, and the report repeats it.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.metrics.bootstrap import Bootstrap, estimate, loss_estimate
from pipeline.metrics.regression.errors import mae, r_squared
from pipeline.metrics.regression.evaluation import true_numbers
from pipeline.progress import activity, progress
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.calibrate.predictions import name_of_test_set
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET
from pipeline.stages.evidence.experiments.networks import Arms
from pipeline.stages.evidence.experiments.splits import Split, folds_of, on_test_set
from pipeline.stages.evidence.statistics.runs import PROBE

Floats = NDArray[np.float64]
Row = dict[str, Any]
Metric = Any  # from predicted, true and weights to values, see `metrics.regression.errors`

LEFT_OUT = (
    "For a number, probes on frozen features are compared. Trainings from scratch, learning curves, few-shot and "
    "zero-shot episodes and the map of features compare classes and are left out."
)
FINAL_COLUMNS = ["recipe", "arm", "scope", "metric", "value", "lower", "upper", "n"]
DIFFERENCES = ["recipe", "comparison", "scope", "metric", "value", "lower", "upper", "n", "verdict"]
VERDICTS = ["promise", "name", "comparison", "recipe", "scope", "metric", "value", "lower", "upper", "verdict", "why"]


def evidence_of_numbers(params: Params) -> None:
    """Write the error of probes on the frozen features of each arm, and the paired difference."""
    arms = Arms(params)
    names = [IMAGENET] if arms.same_features() else [IMAGENET, ADAPTED]
    reserved = on_test_set() if params.calibrate.test == "open" else None
    scopes = {"internal": folds_of(params)} | ({name_of_test_set(): [reserved]} if reserved else {})
    final, differences = list[Row](), list[Row]()
    activity("probes on frozen features")
    for scope, splits in scopes.items():
        cases = pd.concat([split.evaluated.assign(fold=split.name) for split in splits], ignore_index=True)
        predicted = {arm: probed(arms, arm, splits) for arm in names}
        rows = [of_arm(scope, arm, cases, predicted=values, params=params) for arm, values in predicted.items()]
        final += [row for some in rows for row in some]
        if ADAPTED in predicted:
            differences += paired(scope, cases, predicted, params)
    tables = {"final": pd.DataFrame(final, columns=FINAL_COLUMNS)}
    tables["differences"] = pd.DataFrame(differences, columns=DIFFERENCES)
    for name, table in tables.items():
        paths.write_table(table, paths.evidence(name))
    verdicts = pd.DataFrame([verdict(arms, differences)], columns=VERDICTS)
    for file in (paths.VERDICTS, paths.evidence("verdicts")):
        paths.write_table(verdicts, file)
    print(LEFT_OUT)
    record = {"task": "regression", "method": arms.method[0], "confidence": params.calibrate.confidence}
    paths.write_json(record | {"left_out": LEFT_OUT}, paths.EVIDENCE / "record.json")


def probed(arms: Arms, arm: str, splits: Sequence[Split]) -> Floats:
    """Predict the evaluated cases of all splits (n,) by ridge regressions on the frozen features of an arm."""
    found = [
        arms.probed(arm, split, slice(None), seed_for(arms.params.seed, "evidence", split.name, 0))[:, 0]
        for split in progress(splits, f"probe {arm}")
    ]
    return np.concatenate(found)


def of_arm(scope: str, arm: str, cases: pd.DataFrame, *, predicted: Floats, params: Params) -> list[Row]:
    """Compute mean absolute error and R² of an arm with intervals."""
    weights, level, true = resampled(cases, params)
    known = {"recipe": PROBE, "arm": arm, "scope": scope, "n": len(cases)}
    found = {
        "mae": loss_estimate(mae(predicted, true, weights), level),
        "r2": estimate(partial(r_squared, predicted, true), weights, level),
    }
    return [known | {"metric": metric} | one.as_json() for metric, one in found.items()]


def paired(scope: str, cases: pd.DataFrame, predicted: dict[str, Floats], params: Params) -> list[Row]:
    """Subtract the metrics of both arms, paired by patient; positive if adaptation helped."""
    weights, level, true = resampled(cases, params)
    rows = []
    for name, metric, better in (("mae", mae, -1.0), ("r2", r_squared, 1.0)):
        gains = partial(_gain, metric, better, (predicted[ADAPTED], predicted[IMAGENET]), true)
        found = estimate(gains, weights, level)
        low, high = found.lower, found.upper
        said = "not shown" if low is None or high is None or low <= 0 <= high else "better" if low > 0 else "worse"
        known = {"recipe": PROBE, "comparison": "adaptation", "scope": scope, "metric": name, "n": len(cases)}
        rows.append(known | found.as_json() | {"verdict": said})
    return rows


def resampled(cases: pd.DataFrame, params: Params) -> tuple[Floats, float, Floats]:
    """Draw the weights of the patient bootstrap, with the level of its intervals and the true numbers."""
    settings = params.calibrate
    patients, folds = (cases[column].to_numpy(dtype=str) for column in ("patient", "fold"))
    seed = seed_for(params.seed, "bootstrap", "evidence")
    bootstrap = Bootstrap(settings.n_bootstrap, settings.confidence, seed)
    return bootstrap.weights(patients), bootstrap.over(patients, folds).confidence, true_numbers(cases)


def verdict(arms: Arms, differences: Sequence[Row]) -> Row:
    """Say whether adaptation lowered the error of held-out cases."""
    row: Row = {"promise": 1, "name": "higher accuracy", "comparison": "adaptation", "recipe": PROBE, "why": ""}
    measured = [one for one in differences if (one["scope"], one["metric"]) == ("internal", "mae")]
    if not measured:
        why = f"adapt.method {arms.method[0]} does not change frozen features"
        return row | {"verdict": "not measured", "why": why}
    return row | {name: measured[0][name] for name in ("scope", "metric", "value", "lower", "upper", "verdict")}


def _gain(metric: Metric, better: float, predicted: tuple[Floats, Floats], true: Floats, weights: Floats) -> Floats:
    first, second = predicted
    return np.asarray(better * (metric(first, true, weights) - metric(second, true, weights)))
