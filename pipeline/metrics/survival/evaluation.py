"""Evaluated cases of a survival cohort: times, events, log hazards and risks, and the metrics about them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Bootstrap, Estimate, estimate, estimate_of, in_blocks, loss_estimate
from pipeline.metrics.calibrators.calibrator import digest_of
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.discrimination import ratio
from pipeline.metrics.evaluation import logits_of
from pipeline.metrics.output_fusion import by_fold, fit_hazard_fusion, of_each_patient, values_of
from pipeline.metrics.survival.accuracy import brier, calibration_slope, integrated_brier, observed_expected
from pipeline.metrics.survival.discrimination import dynamic_auc, harrell_c, uno_c
from pipeline.metrics.survival.recalibration import GROUPS, Recalibration, fit_recalibration, residuals
from pipeline.metrics.wording import COLUMNS, IMAGE, RISK

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Metric = Callable[[Floats], Floats]

GRID = 20  # times at which the Brier score is integrated
IN_SHORT = ("c", "uno_c", "ipa", "calibration_slope")
OF_RISKS = ("observed_expected", "integrated_brier", "null_brier", "ipa")
METRICS = ("c", "uno_c", "calibration_slope", *OF_RISKS)


@dataclass(frozen=True)
class EvaluatedTimes:
    """Labelled cases with their predictions, before and after recalibration.

    Attributes
    ----------
    cases : pandas.DataFrame
        n rows with `case`, `patient`, `site`, `fold` and `calibrator`, the digest of the recalibration.
    times : (n,)
        Until the event or until censoring, in the unit of time.
    events : (n,)
        Which of the two it was.
    outputs, values : (n,)
        Outputs of the network, and log hazards relative to the average patient.
    maps : mapping
        Fold to the recalibration that was applied to its cases.
    parts : mapping
        With columns, the same cases predicted from the columns alone and from the image alone.
    """

    cases: pd.DataFrame
    times: Floats
    events: Marks
    outputs: Floats
    values: Floats
    maps: Mapping[str, Recalibration]
    parts: Mapping[str, "EvaluatedTimes"] = field(default_factory=dict)

    @property
    def patients(self) -> NDArray[np.str_]:
        """Give the patient of each case (n,), the unit of every interval."""
        return np.asarray(self.cases["patient"], dtype=np.str_)

    @property
    def folds(self) -> NDArray[np.str_]:
        """Give the fold that evaluates each case (n,)."""
        return np.asarray(self.cases["fold"], dtype=np.str_)

    @property
    def horizons(self) -> Floats:
        """Give the times (h,) for which risks are predicted."""
        return np.array(next(iter(self.maps.values())).risks.times)

    @property
    def groups(self) -> NDArray[np.str_]:
        """Give the risk group (n,), whose limits were set without the case."""
        return np.asarray(self._by_fold(lambda one, here: np.array(GROUPS)[one.risks.groups(self.values[here])]))

    @property
    def residuals(self) -> Floats:
        """Give the deviance residual (n,) of each case."""

        def hazard(one: Recalibration, here: Marks) -> Floats:
            first = one.hazard.values[0] / 2  # before the first event of the other folds the estimate is 0
            return np.asarray(np.maximum(one.hazard.at(self.times[here]), first) * np.exp(self.values[here]))

        return residuals(self._by_fold(hazard), self.events)

    def survival(self, when: Floats) -> Floats:
        """Predict the probability (n, h) of no event until each time (h,)."""
        return np.asarray(self._by_fold(lambda one, here: one.survival(self.values[here], when)))

    def null_survival(self, when: Floats) -> Floats:
        """Predict the same (n, h) without a model, by the Kaplan-Meier curve of the patients of the other folds."""
        return np.asarray(self._by_fold(lambda one, here: np.tile(one.everyone.at(when), (int(here.sum()), 1))))

    def _by_fold(self, predict: Callable[[Recalibration, Marks], NDArray[Any]]) -> Any:
        folds = self.folds
        names = np.unique(folds)
        parts = [predict(self.maps[str(name)], folds == name) for name in names]
        order = np.argsort(np.concatenate([np.flatnonzero(folds == name) for name in names]), kind="stable")
        return np.concatenate(parts)[order]

    def part(self, mask: Marks) -> "EvaluatedTimes":
        """Select the cases of a mask (n,)."""
        arrays = {name: getattr(self, name)[mask] for name in ("times", "events", "outputs", "values")}
        parts = {name: one.part(mask) for name, one in self.parts.items()}
        return replace(self, cases=self.cases[mask], parts=parts, **arrays)

    def of_patients(self) -> "EvaluatedTimes":
        """Average outputs and log hazards of each patient's images."""
        cases, _, means = of_each_patient(self.cases, {"outputs": self.outputs, "values": self.values})
        joined = _of_values(cases.assign(logit_0=means["outputs"]), means["values"], self.maps)
        return replace(joined, parts={name: one.of_patients() for name, one in self.parts.items()})


def times_in(cases: pd.DataFrame) -> tuple[Floats, Marks]:
    """Read the columns `time` and `event` as times and marks (n,)."""
    return cases["time"].to_numpy(dtype=np.float64), cases["event"].to_numpy(dtype=np.bool_)


def recalibration_for(
    cases: pd.DataFrame, at: Floats, method: str, columns: Sequence[InputColumn] = ()
) -> Recalibration:
    """Fit on cases that the network was not trained on; the method "none" keeps the slope of the output.

    With columns, the baseline hazard and the groups are those of the fused log hazards.
    """
    patients, (times, events) = cases["patient"].to_numpy(dtype=str), times_in(cases)
    fit = partial(fit_recalibration, times=times, events=events, patients=patients, at=at)
    image = fit(logits_of(cases)[:, 0], recalibrate=method != "none")
    if not columns:
        return image

    def fused(with_image: bool) -> Recalibration:
        fusion = fit_hazard_fusion(cases, times, events, columns, with_image=with_image)
        return replace(fit(values_of(fusion, cases), recalibrate=False), line=image.line, fusion=fusion)

    return replace(fused(with_image=True), parts={COLUMNS: fused(with_image=False), IMAGE: image})


def mapped(cases: pd.DataFrame, maps: Mapping[str, Recalibration]) -> EvaluatedTimes:
    """Map the outputs of the cases by the recalibration of their fold."""
    values = by_fold(cases, maps, lambda one, some: one.values(some))
    names = next(iter(maps.values())).parts
    parts = {name: mapped(cases, {fold: one.parts[name] for fold, one in maps.items()}) for name in names}
    return replace(_of_values(cases, values, maps), parts=parts)


def _of_values(cases: pd.DataFrame, values: Floats, maps: Mapping[str, Recalibration]) -> EvaluatedTimes:
    digests = cases["fold"].map({fold: digest_of(one.digested) for fold, one in maps.items()})
    times, events = times_in(cases)
    outputs = logits_of(cases)[:, 0]
    return EvaluatedTimes(cases.assign(calibrator=digests), times, events, outputs, values=values, maps=maps)


def summarise(
    evaluated: EvaluatedTimes, predicted: Floats, bootstrap: Bootstrap, only: Collection[str] = METRICS
) -> dict[str, Any]:
    """Compute metrics of log hazards (n,), all or `only` some, with intervals by the patient bootstrap.

    Those of pooled folds are widened, see `levels.level_for`. Metrics of absolute risks are those of the recalibrated
    log hazards, and None for others.
    """
    weights, level = resampled(evaluated, bootstrap)
    times, events, last = evaluated.times, evaluated.events, float(evaluated.horizons[-1])
    of_ranks: dict[str, Callable[..., Floats]] = {"c": harrell_c, "uno_c": partial(uno_c, horizon=last)}
    of_ranks["calibration_slope"] = calibration_slope
    found = {
        name: estimate(partial(metric, predicted, times, events), weights, level)
        for name, metric in of_ranks.items()
        if name in only
    }
    if predicted is evaluated.values:
        found |= _of_risks(evaluated, weights, level, only)
    else:
        found |= {name: Estimate(None, None, None) for name in OF_RISKS if name in only}
    patients = evaluated.patients
    counts = {"n": len(times), "patients": len(set(patients.tolist()))}
    counts |= {"events": len(set(patients[events].tolist()))}
    return counts | {name: one.as_json() for name, one in found.items()}


def resampled(evaluated: EvaluatedTimes, bootstrap: Bootstrap) -> tuple[Floats, float]:
    """Draw the weights of the patient bootstrap, with the level of its intervals."""
    several = len(set(evaluated.folds.tolist())) > 1
    level = bootstrap.over(evaluated.patients, evaluated.folds, cross_fitted=several).confidence
    return bootstrap.weights(evaluated.patients), level


def _of_risks(evaluated: EvaluatedTimes, weights: Floats, level: float, only: Collection[str]) -> dict[str, Estimate]:
    """Integrated Brier score of the model and of Kaplan-Meier, their ratio, and the calibration at the last time."""
    last, known = float(evaluated.horizons[-1]), (evaluated.times, evaluated.events)
    model, null = (
        cache(partial(brier_scores, evaluated, survival, weights))
        for survival in (evaluated.survival, evaluated.null_survival)
    )
    at_last = evaluated.survival(np.array([last]))[:, 0]
    calibrated = partial(observed_expected, at_last, *known, horizon=last)
    nothing = Estimate(None, None, None)
    computed = {
        "observed_expected": lambda: estimate(calibrated, weights, level) if is_reached(evaluated, last) else nothing,
        "integrated_brier": lambda: loss_estimate(model(), level),
        "null_brier": lambda: loss_estimate(null(), level),
        "ipa": lambda: estimate_of(1 - ratio(model(), null()), level),
    }
    return {name: computed[name]() for name in OF_RISKS if name in only}


def is_reached(evaluated: EvaluatedTimes, horizon: float) -> bool:
    """Tell whether anybody was observed for longer than a time; else nothing is known of those without the event."""
    return bool((evaluated.times > horizon).any())


def brier_scores(evaluated: EvaluatedTimes, survival: Callable[[Floats], Floats], weights: Floats) -> Floats:
    """Integrate the Brier score (R,) of predictions by time, from a `GRID`-th of the last time up to it.

    NaN if nobody was observed for longer.
    """
    last = float(evaluated.horizons[-1])
    if not is_reached(evaluated, last):
        return np.full(len(weights), np.nan)
    grid = np.linspace(last / GRID, last, GRID)
    known = (evaluated.times, evaluated.events)
    return in_blocks(lambda some: integrated_brier(survival(grid), *known, some, horizons=grid), weights)


def by_time(evaluated: EvaluatedTimes, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Compute AUC, Brier score beside that of Kaplan-Meier, and calibration at each time, with intervals."""
    weights, level = resampled(evaluated, bootstrap)
    known, rows = (evaluated.times, evaluated.events), []
    for horizon in evaluated.horizons.tolist():
        model, null = (predict(np.array([horizon]))[:, 0] for predict in (evaluated.survival, evaluated.null_survival))
        scores, nulls = (in_blocks(partial(brier, one, *known, horizon=horizon), weights) for one in (model, null))
        auc = partial(dynamic_auc, evaluated.values, *known, horizon=horizon)
        ahead = partial(observed_expected, model, *known, horizon=horizon)
        found = {
            "auc": estimate(auc, weights, level),
            "brier": loss_estimate(scores, level),
            "null_brier": loss_estimate(nulls, level),
            "ipa": estimate_of(1 - ratio(scores, nulls), level),
            "observed_expected": estimate(ahead, weights, level),
        }
        if not is_reached(evaluated, horizon):
            found = dict.fromkeys(found, Estimate(None, None, None))
        rows.append({"time": horizon, "n": len(model), "predicted": float((1 - model).mean()), **found})
    return rows


def in_short(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Select the number of cases and the metrics that a terminal shows."""
    return {name: metrics[name] for name in ("n", *IN_SHORT)}


def prediction_table(evaluated: EvaluatedTimes, scope: str) -> pd.DataFrame:
    """Tabulate every case of a set with its log hazard, its risks, its group and its residual."""
    risks = 1 - evaluated.survival(evaluated.horizons)
    known: dict[str, Any] = {"uncalibrated_0": evaluated.outputs, "log_hazard": evaluated.values}
    known |= dict(zip(map(risk_column, evaluated.horizons.tolist()), risks.T, strict=True))
    return evaluated.cases.assign(scope=scope, **known, group=evaluated.groups, residual=evaluated.residuals)


def risk_column(time: float) -> str:
    """Name the column of the risk until a time.

    >>> risk_column(12.0), risk_column(2.5)
    ('risk_12', 'risk_2.5')
    """
    return f"{RISK}{time:g}"
