"""Evidence without classes: whether adaptation changed the error of probes on frozen features.

What compares classes (trainings within a budget, learning curves, few-shot and zero-shot episodes, embeddings) is left
out; data/evidence/record.json says so, and the report repeats it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import paths
from pipeline.imaging.labels import REGRESSION, times_of
from pipeline.metrics.bootstrap import Bootstrap, estimate_of, in_blocks, loss_estimate
from pipeline.metrics.regression.errors import mae, r_squared
from pipeline.metrics.regression.evaluation import true_numbers
from pipeline.metrics.survival.discrimination import harrell_c
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
Drawn = tuple[Floats, float]  # weights (R, n) of the bootstrap, and the level of its intervals

LOSSES = ("mae",)
LEFT_OUT = (
    "Without classes, probes on frozen features are compared. Trainings from scratch, learning curves, few-shot and "
    "zero-shot episodes and the map of features compare classes and are left out."
)
FINAL_COLUMNS = ["recipe", "arm", "scope", "metric", "value", "lower", "upper", "n"]
DIFFERENCES = ["recipe", "comparison", "scope", "metric", "value", "lower", "upper", "n", "verdict"]
VERDICTS = ["promise", "name", "comparison", "recipe", "scope", "metric", "value", "lower", "upper", "verdict", "why"]


@dataclass(frozen=True)
class Metric:
    """A metric of predicted numbers or log hazards.

    Attributes
    ----------
    of : callable
        From predictions (n,) and weights (R, n) to values (R,).
    better : float
        1 if higher is better, -1 if lower is.
    """

    of: Callable[[Floats, Floats], Floats]
    better: float


def metrics_for(cases: pd.DataFrame, task: str) -> dict[str, Metric]:
    """Choose the metrics of a task on cases, the one that decides first."""
    if task == REGRESSION:
        true = true_numbers(cases)
        return {
            "mae": Metric(lambda one, weights: mae(one, true, weights), -1.0),
            "r2": Metric(lambda one, weights: r_squared(one, true, weights), 1.0),
        }
    times, events = times_of(cases["label"].tolist())
    return {"c": Metric(lambda one, weights: in_blocks(partial(harrell_c, one, times, events), weights), 1.0)}


def evidence_without_classes(params: Params, task: str) -> None:
    """Write the metrics of probes on the frozen features of each arm, and the paired difference."""
    arms = Arms(params)
    names = [IMAGENET] if arms.same_features() else [IMAGENET, ADAPTED]
    reserved = on_test_set() if params.calibrate.test == "open" else None
    scopes = {"internal": folds_of(params)} | ({name_of_test_set(): [reserved]} if reserved else {})
    final, differences = list[Row](), list[Row]()
    activity("probes on frozen features")
    for scope, splits in scopes.items():
        cases = pd.concat([split.evaluated.assign(fold=split.name) for split in splits], ignore_index=True)
        predicted = {arm: probed(arms, arm, splits) for arm in names}
        metrics, drawn = metrics_for(cases, task), resampled(cases, params)
        rows = [of_arm(scope, arm, values, metrics=metrics, drawn=drawn) for arm, values in predicted.items()]
        final += [row for some in rows for row in some]
        if ADAPTED in predicted:
            differences += paired(scope, predicted, metrics, drawn)
    tables = {"final": pd.DataFrame(final, columns=FINAL_COLUMNS)}
    tables["differences"] = pd.DataFrame(differences, columns=DIFFERENCES)
    for name, table in tables.items():
        paths.write_table(table, paths.evidence(name))
    verdicts = pd.DataFrame([verdict(arms, differences)], columns=VERDICTS)
    for file in (paths.VERDICTS, paths.evidence("verdicts")):
        paths.write_table(verdicts, file)
    print(LEFT_OUT)
    record = {"task": task, "method": arms.method[0], "confidence": params.calibrate.confidence}
    paths.write_json(record | {"left_out": LEFT_OUT}, paths.EVIDENCE / "record.json")


def probed(arms: Arms, arm: str, splits: Sequence[Split]) -> Floats:
    """Predict the evaluated cases of all splits (n,) by linear probes on the frozen features of an arm."""
    found = [
        arms.probed(arm, split, slice(None), seed_for(arms.params.seed, "evidence", split.name, 0))[:, 0]
        for split in progress(splits, f"probe {arm}")
    ]
    return np.concatenate(found)


def of_arm(scope: str, arm: str, predicted: Floats, *, metrics: Mapping[str, Metric], drawn: Drawn) -> list[Row]:
    """Compute the metrics of an arm with intervals."""
    weights, level = drawn
    known = {"recipe": PROBE, "arm": arm, "scope": scope, "n": len(predicted)}
    return [
        known
        | {"metric": name}
        | (loss_estimate if name in LOSSES else estimate_of)(metric.of(predicted, weights), level).as_json()
        for name, metric in metrics.items()
    ]


def paired(scope: str, predicted: dict[str, Floats], metrics: Mapping[str, Metric], drawn: Drawn) -> list[Row]:
    """Subtract the metrics of both arms, paired by patient; positive if adaptation helped."""
    weights, level = drawn
    rows = []
    for name, metric in metrics.items():
        adapted, before = (metric.of(predicted[arm], weights) for arm in (ADAPTED, IMAGENET))
        found = estimate_of(metric.better * (adapted - before), level)
        low, high = found.lower, found.upper
        said = "not shown" if low is None or high is None or low <= 0 <= high else "better" if low > 0 else "worse"
        known = {"recipe": PROBE, "comparison": "adaptation", "scope": scope, "metric": name, "n": weights.shape[1]}
        rows.append(known | found.as_json() | {"verdict": said})
    return rows


def resampled(cases: pd.DataFrame, params: Params) -> Drawn:
    """Draw the weights of the patient bootstrap, with the level of its intervals."""
    settings = params.calibrate
    patients, folds = (cases[column].to_numpy(dtype=str) for column in ("patient", "fold"))
    seed = seed_for(params.seed, "bootstrap", "evidence")
    bootstrap = Bootstrap(settings.n_bootstrap, settings.confidence, seed)
    return bootstrap.weights(patients), bootstrap.over(patients, folds).confidence


def verdict(arms: Arms, differences: Sequence[Row]) -> Row:
    """Say whether adaptation improved the predictions of held-out cases."""
    row: Row = {"promise": 1, "name": "higher accuracy", "comparison": "adaptation", "recipe": PROBE, "why": ""}
    measured = [one for one in differences if one["scope"] == "internal"]
    if not measured:
        why = f"adapt.method {arms.method[0]} does not change frozen features"
        return row | {"verdict": "not measured", "why": why}
    return row | {name: measured[0][name] for name in ("scope", "metric", "value", "lower", "upper", "verdict")}
