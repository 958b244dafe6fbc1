"""Evaluated cases of a regression: true numbers, values and prediction intervals, and the tables about them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Bootstrap, Estimate, estimate_of, in_blocks, loss_estimate
from pipeline.metrics.calibrators.calibrator import Calibrator, Linear, digest_of
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.evaluation import logits_of
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.output_fusion import by_fold, crossed, fit_number_fusion, of_each_patient, values_of
from pipeline.metrics.regression.errors import METRICS, limits_of_agreement
from pipeline.metrics.regression.intervals import Intervals, fit_values
from pipeline.metrics.shares import largest_effect, share_estimate
from pipeline.metrics.wording import COLUMNS, IMAGE

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

LOSSES = ("mae", "rmse")
OF_INTERVALS = ("coverage", "coverage_of_patients", "width")
IN_SHORT = ("mae", "rmse", "r2", "calibration_slope", "coverage")


@dataclass(frozen=True)
class Map:
    """From the outputs of a network to values with intervals.

    Attributes
    ----------
    line : Linear
        From the output to the value of the image alone.
    intervals : Intervals
    fusion : Fusion or None
        With columns, what gives the values.
    parts : mapping
        With columns, the maps from the columns alone and from the image alone.
    """

    line: Linear
    intervals: Intervals
    fusion: Fusion | None = None
    parts: Mapping[str, "Map"] = field(default_factory=dict)

    def values(self, cases: pd.DataFrame) -> Floats:
        """Predict the number (n,) of each case."""
        return values_of(self.fusion, cases) if self.fusion else self.line.apply(logits_of(cases)[:, 0])

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values; `calibrator_from`, `Intervals.from_json` and `fusion_from` read them."""
        known = self.line.as_json() | {"intervals": self.intervals.as_json(), "sha256": digest_of(self.digested)}
        return known | ({"fusion": self.fusion.as_json()} if self.fusion else {})

    @property
    def digested(self) -> Calibrator:
        """What the column `calibrator` of predictions names."""
        return self.fusion or self.line


@dataclass(frozen=True)
class EvaluatedNumbers:
    """Labelled cases with their predictions, before and after recalibration.

    Attributes
    ----------
    cases : pandas.DataFrame
        n rows with `case`, `patient`, `site`, `fold` and `calibrator`, the digest of the recalibration.
    true, outputs, values : (n,)
        True numbers, outputs of the network, and recalibrated outputs, in the unit of the number.
    lower, upper : (n,)
        Limits of the prediction intervals; NaN where patients were too few for a promise.
    maps : mapping
        Fold to the map that was applied to its cases.
    parts : mapping
        With columns, the same cases predicted from the columns alone and from the image alone.
    """

    cases: pd.DataFrame
    true: Floats
    outputs: Floats
    values: Floats
    lower: Floats
    upper: Floats
    maps: Mapping[str, Map]
    parts: Mapping[str, "EvaluatedNumbers"] = field(default_factory=dict)

    @property
    def patients(self) -> NDArray[np.str_]:
        """Give the patient of each case (n,), the unit of every interval."""
        return np.asarray(self.cases["patient"], dtype=np.str_)

    @property
    def folds(self) -> NDArray[np.str_]:
        """Give the fold that evaluates each case (n,)."""
        return np.asarray(self.cases["fold"], dtype=np.str_)

    @property
    def covered(self) -> Marks:
        """Tell whether the truth lies in the interval of each case (n,)."""
        return np.asarray((self.lower <= self.true) & (self.true <= self.upper))

    def part(self, mask: Marks) -> "EvaluatedNumbers":
        """Select the cases of a mask (n,)."""
        arrays = {name: getattr(self, name)[mask] for name in ("true", "outputs", "values", "lower", "upper")}
        parts = {name: one.part(mask) for name, one in self.parts.items()}
        return replace(self, cases=self.cases[mask], parts=parts, **arrays)

    def of_patients(self) -> "EvaluatedNumbers":
        """Average outputs and values of each patient's images; the intervals are those of the mean value."""
        cases, rows, means = of_each_patient(self.cases, {"outputs": self.outputs, "values": self.values})
        true = self.true[np.array([some[0] for some in rows])]
        joined = _with_intervals(cases.assign(logit_0=means["outputs"]), true, means["values"], self.maps)
        return replace(joined, parts={name: one.of_patients() for name, one in self.parts.items()})


def true_numbers(cases: pd.DataFrame) -> Floats:
    """Read the column `label` as numbers (n,)."""
    return np.asarray(cases["label"].astype(float), dtype=np.float64)


def map_for(cases: pd.DataFrame, coverage: float, method: str, columns: Sequence[InputColumn] = ()) -> Map:
    """Fit the map on cases that the network was not trained on; the method "none" keeps the outputs as they are.

    With columns, the intervals are those of values whose fusions did not see the patient.
    """
    outputs, patients = logits_of(cases)[:, 0], cases["patient"].to_numpy(dtype=str)
    true, recalibrate = true_numbers(cases), method != "none"
    image = Map(*fit_values(outputs, true, patients, coverage, recalibrate=recalibrate))
    if not columns:
        return image

    def fused(with_image: bool) -> Map:
        def fit(some: pd.DataFrame) -> Fusion:
            return fit_number_fusion(some, true_numbers(some), columns, with_image)

        _, intervals = fit_values(crossed(cases, fit), true, patients, coverage, recalibrate=False)
        return Map(image.line, intervals, fit(cases))

    return replace(fused(with_image=True), parts={COLUMNS: fused(with_image=False), IMAGE: image})


def mapped(cases: pd.DataFrame, true: Floats, maps: Mapping[str, Map]) -> EvaluatedNumbers:
    """Map the outputs of the cases by the map of their fold."""
    values = by_fold(cases, maps, lambda one, some: one.values(some))
    names = next(iter(maps.values())).parts
    parts = {name: mapped(cases, true, {fold: one.parts[name] for fold, one in maps.items()}) for name in names}
    return replace(_with_intervals(cases, true, values, maps), parts=parts)


def _with_intervals(cases: pd.DataFrame, true: Floats, values: Floats, maps: Mapping[str, Map]) -> EvaluatedNumbers:
    folds = cases["fold"].to_numpy(dtype=str)
    lower, upper = np.empty(len(cases)), np.empty(len(cases))
    for fold in np.unique(folds):
        here = folds == fold
        lower[here], upper[here] = maps[fold].intervals.of(values[here])
    digests = cases["fold"].map({fold: digest_of(one.digested) for fold, one in maps.items()})
    outputs = logits_of(cases)[:, 0]
    return EvaluatedNumbers(
        cases.assign(calibrator=digests), true, outputs, values, lower=lower, upper=upper, maps=maps
    )


def summarise(
    evaluated: EvaluatedNumbers,
    predicted: Floats,
    bootstrap: Bootstrap,
    only: Collection[str] = (*METRICS, *OF_INTERVALS),
) -> dict[str, Any]:
    """Compute metrics of predicted numbers (n,), all or `only` some, with intervals by the patient bootstrap.

    The mean absolute and the root mean squared error have intervals on the logarithmic scale, as losses have; the
    coverage has Wilson's. Those of pooled folds are widened, see `levels.level_for`. Coverage and width are those of
    the prediction intervals, and None for predictions other than the recalibrated values.
    """
    patients, true = evaluated.patients, evaluated.true
    several = len(set(evaluated.folds.tolist())) > 1
    level = bootstrap.over(patients, evaluated.folds, cross_fitted=several).confidence
    weights = bootstrap.weights(patients)
    found: dict[str, Estimate] = {}
    for name, metric in ((name, metric) for name, metric in METRICS.items() if name in only):
        values = in_blocks(partial(metric, predicted, true), weights)
        found[name] = loss_estimate(values, level) if name in LOSSES else estimate_of(values, level)
    promised = predicted is evaluated.values and np.isfinite(evaluated.lower).all()
    of_intervals = _of_intervals(evaluated, weights, level) if promised else {}
    found |= {name: of_intervals.get(name, Estimate(None, None, None)) for name in OF_INTERVALS if name in only}
    middle, low, high = limits_of_agreement(predicted, true)
    agreement = {"mean": round(middle, 6), "lower": round(low, 6), "upper": round(high, 6)}
    counts = {"n": len(true), "patients": len(set(patients.tolist()))}
    return counts | {name: one.as_json() for name, one in found.items()} | {"agreement": agreement}


def _of_intervals(evaluated: EvaluatedNumbers, weights: Floats, level: float) -> dict[str, Estimate]:
    covered, patients = evaluated.covered.astype(float), evaluated.patients
    share = in_blocks(lambda some: some @ covered / some.sum(axis=1), weights)
    width = in_blocks(lambda some: some @ (evaluated.upper - evaluated.lower) / some.sum(axis=1), weights)
    _, first, of_case = np.unique(patients, return_index=True, return_inverse=True)
    worst = np.ones(len(first))
    np.minimum.at(worst, of_case, covered)
    of_patients = in_blocks(lambda some: some[:, first] @ worst / some[:, first].sum(axis=1), weights)
    return {
        "coverage": share_estimate(share, len(covered), level, largest_effect(patients)),
        "coverage_of_patients": share_estimate(of_patients, len(worst), level),
        "width": loss_estimate(width, level),
    }


def in_short(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Select the number of cases and the metrics that a terminal shows."""
    return {name: metrics[name] for name in ("n", *IN_SHORT)}


def rows_of(metrics: Mapping[str, Any], scope: str) -> list[dict[str, Any]]:
    """Convert the metrics of `summarise` to rows of a table; a number has no events."""
    counts = {"n": metrics["n"], "patients": metrics["patients"], "events": None}
    return [
        {"scope": scope, "metric": name, **value, **counts}
        for name, value in metrics.items()
        if isinstance(value, dict) and "value" in value
    ]


def prediction_table(evaluated: EvaluatedNumbers, scope: str) -> pd.DataFrame:
    """Tabulate every case of a set with its value and interval."""
    known = {"uncalibrated_0": evaluated.outputs, "value": evaluated.values}
    return evaluated.cases.assign(scope=scope, **known, lower=evaluated.lower, upper=evaluated.upper)


def reliability(predicted: Floats, true: Floats, bins: int) -> pd.DataFrame:
    """Tabulate mean predicted and mean true number in bins of equally many cases, in ascending order.

    Returns
    -------
    pandas.DataFrame
        Columns `prediction`, `observed`, `n`.
    """
    order = np.argsort(predicted, kind="stable")
    parts = [rows for rows in np.array_split(order, min(bins, len(order))) if len(rows)]
    rows = [(predicted[some].mean(), true[some].mean(), len(some)) for some in parts]
    return pd.DataFrame(rows, columns=["prediction", "observed", "n"])
