"""Write the metrics and tables of a regression."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.metrics.baseline import number_from_columns, pooled_and_within
from pipeline.metrics.bootstrap import Bootstrap, estimate, estimate_of, loss_estimate
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.output_fusion import fit_number_fusion, predicted_by_others
from pipeline.metrics.regression.errors import mae, r_squared
from pipeline.metrics.regression.evaluation import (
    EvaluatedNumbers,
    in_short,
    prediction_table,
    reliability,
    rows_of,
    summarise,
    true_numbers,
)
from pipeline.metrics.summary import as_number, in_columns, limits_of
from pipeline.schema import Params
from pipeline.stages.calibrate.one_output import Row
from pipeline.stages.calibrate.one_output_tables import (
    Metric,
    Told,
    increment_rows,
    member_rows,
    subgroups,
    training_and_held_out,
    write_folds,
)
from pipeline.stages.calibrate.subject import bootstrap_for

Scopes = Mapping[str, EvaluatedNumbers]

TOLD: Told[EvaluatedNumbers] = Told(
    summarise=summarise,
    of_a_set=("mae", "r2", "bias", "calibration_slope", "coverage"),
    of_a_group=("mae", "bias", "coverage"),
    repeated=("mae", "r2"),
)
MEMBERS = ["member", "n", *limits_of("mae", "r2", "mae_gain")]
SUBGROUPS = ["scope", "column", "value", "n", "patients", "too_few", *limits_of(*TOLD.of_a_group)]
BASELINES = ["scope", "baseline", "over", "n", "patients", *limits_of("mae", "model_mae", "difference", "r2")]
OF_INCREMENT = ("mae", "r2")
BY_VALUE = ["scope", "lower", "upper", "n", "true", "prediction", "bias", "coverage"]


def write_metrics(scopes: Iterable[tuple[str, EvaluatedNumbers]], repetitions: Scopes, params: Params) -> None:
    """Write the metrics, pooled and per fold, before and after recalibration, and the calibration in bins."""
    flat, short, bins = list[Row](), dict[str, Any](), list[pd.DataFrame]()
    internal: list[EvaluatedNumbers] = []
    for scope, evaluated in scopes:
        internal += [evaluated] * (scope == "internal")
        for state, predicted in (("uncalibrated", evaluated.outputs), ("calibrated", evaluated.values)):
            metrics = summarise(evaluated, predicted, bootstrap_for(params, scope))
            paths.write_json(metrics, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(metrics, f"{scope}_{state}")
            table = reliability(predicted, evaluated.true, params.calibrate.bins)
            bins.append(table.assign(scope=f"{scope}_{state}"))
        short.setdefault("internal" if scope.startswith("internal") else "test", in_short(metrics))
    paths.write_json(short, paths.SUMMARY)
    for name, metrics in write_folds([*internal, *repetitions.values()], TOLD, params):
        flat += rows_of(metrics, name)
    paths.write_table(pd.DataFrame(flat), paths.ALL_METRICS)
    paths.write_table(pd.concat(bins), paths.RELIABILITY)


def write_tables(scopes: Scopes, params: Params) -> None:
    """Write the tables of subgroups, of predictions without images, and of the bias against the value."""
    groups, baselines, values = list[Row](), list[Row](), list[Row]()
    for scope, evaluated in scopes.items():
        bootstrap = bootstrap_for(params, scope)
        groups += [{"scope": scope, **row} for row in subgroups(evaluated, TOLD, bootstrap)]
        baselines += [{"scope": scope, **row} for row in baseline_rows(evaluated, params, bootstrap)]
        values += [{"scope": scope, **row} for row in by_value(evaluated)]
    for name, rows, columns in (
        ("subgroups", groups, SUBGROUPS),
        ("baselines", baselines, BASELINES),
        ("by_value", values, BY_VALUE),
    ):
        paths.write_table(pd.DataFrame(rows, columns=columns), paths.assessed(name))


def by_value(evaluated: EvaluatedNumbers, parts: int = 5) -> list[Row]:
    """Compute the bias and the coverage of the cases in quantiles of the true number, which shows what is shrunk."""
    edges = np.unique(np.quantile(evaluated.true, np.linspace(0, 1, parts + 1)))
    place = np.clip(np.searchsorted(edges, evaluated.true, side="right") - 1, 0, max(len(edges) - 2, 0))
    rows = []
    for number in np.unique(place):
        part = evaluated.part(place == number)
        rows.append(
            {
                "lower": as_number(edges[number]),
                "upper": as_number(edges[min(number + 1, len(edges) - 1)]),
                "n": len(part.true),
                "true": as_number(part.true.mean()),
                "prediction": as_number(part.values.mean()),
                "bias": as_number((part.values - part.true).mean()),
                "coverage": as_number(part.covered.mean()) if np.isfinite(part.lower).all() else None,
            }
        )
    return rows


def baseline_rows(evaluated: EvaluatedNumbers, params: Params, bootstrap: Bootstrap) -> list[Row]:
    """Compare the model with predictions without the image: the mean, the site, and `calibrate.baseline`.

    Pooled folds have second rows, see `pooled_and_within`.
    """
    if "case" not in evaluated.cases:
        return []  # patients: their images have these rows
    weights, patients = bootstrap.weights(evaluated.patients), evaluated.patients
    level = bootstrap.over(patients, evaluated.folds).confidence
    counts, rows = {"n": len(patients), "patients": len(set(patients.tolist()))}, []

    def drawn(predicted: Any, mask: Any) -> dict[str, Any]:
        true, some = evaluated.true[mask], weights[:, mask]
        other, own = (mae(one[mask], true, some) for one in (predicted, evaluated.values))
        r2 = r_squared(predicted[mask], true, some)
        return {"mae": other, "model_mae": own, "difference": other - own, "r2": r2}

    for name, predicted in without_images(evaluated, params.calibrate.baseline).items():
        for over, values in pooled_and_within(evaluated.folds, partial(drawn, predicted)).items():
            metrics = {
                key: (loss_estimate if key in ("mae", "model_mae") else estimate_of)(one, level).as_json()
                for key, one in values.items()
            }
            rows.append({"baseline": name, "over": over, **counts, **in_columns(metrics)})
    return rows


def gains_of_the_image(evaluated: EvaluatedNumbers, bootstrap: Bootstrap) -> list[Row]:
    """Compare the values from columns, from the image and from both by mean absolute error and R²."""

    def metrics_of(one: EvaluatedNumbers) -> dict[str, Metric]:
        known = (one.values, one.true)
        return {"mae": partial(mae, *known), "r2": partial(r_squared, *known)}

    return increment_rows(evaluated, metrics_of, ("mae",), bootstrap)


def r_squared_alone(evaluated: EvaluatedNumbers, column: InputColumn) -> float:
    """Compute R² of a ridge regression of one column alone, each fold by a fit on the others."""

    def fit(cases: pd.DataFrame) -> Fusion:
        return fit_number_fusion(cases, true_numbers(cases), [column], with_image=False)

    values = predicted_by_others(evaluated.cases, fit)
    return float(r_squared(values, evaluated.true, np.ones((1, len(values))))[0])


def without_images(evaluated: EvaluatedNumbers, names: Sequence[str]) -> dict[str, Any]:
    """Predict each case (n,) by the mean of the training cases of its fold, and by regressions on their columns."""
    found = dict[str, Any]()
    for here, train, part, asked in training_and_held_out(evaluated, names, "mean"):
        for name, some in asked.items():
            values = found.setdefault(name, np.empty(len(here)))
            values[here] = number_from_columns(train[some], true_numbers(train), part[some])
    return found


def write_members(params: Params) -> None:
    """Write the error of each member of a portfolio, and how much lower that of their mean is."""

    def metrics_of(cases: pd.DataFrame, outputs: list[Any], weights: Any, level: float) -> Row:
        true = true_numbers(cases)
        found = {"mae": loss_estimate(mae(outputs[0], true, weights), level)}
        found["r2"] = estimate(partial(r_squared, outputs[0], true), weights, level)
        if len(outputs) > 1:
            found["mae_gain"] = estimate(partial(_difference, mae, (outputs[0], outputs[1]), true), weights, level)
        return dict(found)

    paths.write_table(pd.DataFrame(member_rows(params, metrics_of), columns=MEMBERS), paths.MEMBERS)


def write_predictions(scopes: Scopes) -> None:
    """Write every evaluated case with its value and interval."""
    paths.write_table(pd.concat(prediction_table(one, scope) for scope, one in scopes.items()), paths.PREDICTIONS)


def _difference(metric: Any, predicted: tuple[Any, Any], true: Any, weights: Any) -> Any:
    """Subtract the metric of the second predictions from that of the first."""
    first, second = predicted
    return metric(first, true, weights) - metric(second, true, weights)
