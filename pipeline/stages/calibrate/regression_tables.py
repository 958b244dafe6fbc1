"""Write the metrics and tables of a regression; tables that need classes are written without rows."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.metrics.baseline import baselines_of, number_from_columns
from pipeline.metrics.bootstrap import Bootstrap, estimate, loss_estimate
from pipeline.metrics.evaluation import logits_of
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
from pipeline.paths import Role
from pipeline.schema import Params
from pipeline.stages.calibrate.predictions import (
    MASK_FEATURES,
    columns_of_cases,
    mask_features_in,
    unlabelled_images,
)
from pipeline.stages.calibrate.subject import bootstrap_for

Scopes = Mapping[str, EvaluatedNumbers]
Row = dict[str, Any]

PORTFOLIO = "portfolio"
FEWEST = 10  # patients of a group whose metrics are told
OF_A_SET = ("mae", "r2", "bias", "calibration_slope", "coverage")
OF_A_GROUP = ("mae", "bias", "coverage")
MEMBERS = ["member", "n", *limits_of("mae", "r2", "mae_gain")]
REPEATS = ["repetition", "n", *limits_of("mae", "r2")]
LEFT_OUT = ["site", "unlabelled", "fold", "n", "patients", *limits_of(*OF_A_SET), "state"]
SUBGROUPS = ["scope", "column", "value", "n", "patients", "too_few", *limits_of(*OF_A_GROUP)]
BASELINES = ["scope", "baseline", "n", "patients", *limits_of("mae", "model_mae", "difference", "r2")]
BY_VALUE = ["scope", "lower", "upper", "n", "true", "prediction", "bias", "coverage"]
EMPTY = {  # tables about classes and searches, by file: their columns
    paths.ROC: ["scope", "false_positive_rate", "true_positive_rate"],
    paths.PER_CLASS: ["class", "n", "scope"],
    paths.COLLAPSES: ["scope", "class", "n", "recall"],
    paths.SEARCH: ["scope", "candidate"],
    paths.VALIDATORS: ["scope", "validator"],
}


def write_metrics(scopes: Iterable[tuple[str, EvaluatedNumbers]], repetitions: Scopes, params: Params) -> None:
    """Write the metrics, pooled and per fold, before and after recalibration, and the calibration in bins."""
    flat, short, bins = list[Row](), dict[str, Any](), list[pd.DataFrame]()
    internal: EvaluatedNumbers | None = None
    for scope, evaluated in scopes:
        internal = evaluated if scope == "internal" else internal
        for state, predicted in (("uncalibrated", evaluated.outputs), ("calibrated", evaluated.values)):
            metrics = summarise(evaluated, predicted, bootstrap_for(params, scope))
            paths.write_json(metrics, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(metrics, f"{scope}_{state}")
            table = reliability(predicted, evaluated.true, params.calibrate.bins)
            bins.append(table.assign(scope=f"{scope}_{state}"))
        short.setdefault("internal" if scope.startswith("internal") else "test", in_short(metrics))
    paths.write_json(short, paths.SUMMARY)
    for pooled in ([internal] if internal else []) + list(repetitions.values()):
        for fold in sorted(set(pooled.folds.tolist())):
            part = pooled.part(pooled.folds == fold)
            metrics = summarise(part, part.values, bootstrap_for(params, f"fold {fold}"))
            paths.write_json(metrics, paths.fold_metrics(fold))
            flat += rows_of(metrics, f"fold_{fold}")
    paths.write_table(pd.DataFrame(flat), paths.ALL_METRICS)
    paths.write_table(pd.concat(bins), paths.RELIABILITY)


def write_tables(scopes: Scopes, params: Params) -> None:
    """Write the tables of subgroups, of predictions without images, and of the bias against the value."""
    groups, baselines, values = list[Row](), list[Row](), list[Row]()
    for scope, evaluated in scopes.items():
        bootstrap = bootstrap_for(params, scope)
        groups += [{"scope": scope, **row} for row in subgroups(evaluated, bootstrap)]
        baselines += [{"scope": scope, **row} for row in baseline_rows(evaluated, params, bootstrap)]
        values += [{"scope": scope, **row} for row in by_value(evaluated)]
    for name, rows, columns in (
        ("subgroups", groups, SUBGROUPS),
        ("baselines", baselines, BASELINES),
        ("by_value", values, BY_VALUE),
    ):
        paths.write_table(pd.DataFrame(rows, columns=columns), paths.assessed(name))


def subgroups(evaluated: EvaluatedNumbers, bootstrap: Bootstrap) -> list[Row]:
    """Compute error, bias and coverage of each group of the site and of `calibrate.subgroups`."""
    found, cases = [], evaluated.cases.filter(regex="^group_")
    for column in cases:
        groups = cases[column].to_numpy(dtype=str)
        for value in sorted(set(groups.tolist()) - {""}):
            part = evaluated.part(groups == value)
            counts = {"n": len(part.true), "patients": len(set(part.patients.tolist()))}
            row = {"column": column.removeprefix("group_"), "value": value, **counts}
            few = counts["patients"] < FEWEST
            metrics = {} if few else summarise(part, part.values, bootstrap)
            found.append(row | {"too_few": few} | in_columns({name: metrics[name] for name in OF_A_GROUP if metrics}))
    return found


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
    """Compare the model with predictions without the image: the mean, the site, and `calibrate.baseline`."""
    if "case" not in evaluated.cases:
        return []  # patients: their images have these rows
    weights, patients = bootstrap.weights(evaluated.patients), evaluated.patients
    level = bootstrap.over(patients, evaluated.folds).confidence
    rows, true = [], evaluated.true
    for name, predicted in without_images(evaluated, params.calibrate.baseline).items():
        apart = partial(_difference, mae, (predicted, evaluated.values), true)
        metrics = {
            "mae": loss_estimate(mae(predicted, true, weights), level),
            "model_mae": loss_estimate(mae(evaluated.values, true, weights), level),
            "difference": estimate(apart, weights, level),
            "r2": estimate(partial(r_squared, predicted, true), weights, level),
        }
        counts = {"baseline": name, "n": len(true), "patients": len(set(patients.tolist()))}
        rows.append(counts | in_columns({key: one.as_json() for key, one in metrics.items()}))
    return rows


def without_images(evaluated: EvaluatedNumbers, names: Sequence[str]) -> dict[str, Any]:
    """Predict each case (n,) by the mean of the training cases of its fold, and by regressions on their columns."""
    columns, found = columns_of_cases(), dict[str, Any]()
    known = [name for name in names if f"column_{name}" in columns]
    of_masks = mask_features_in(columns)
    asked = {"mean": list[str](), **baselines_of(known), **({MASK_FEATURES: of_masks} if of_masks else {})}
    for fold in sorted(set(evaluated.folds.tolist())):
        here = evaluated.folds == fold
        cases = paths.read_table(paths.split(fold))
        train = cases[cases["role"].isin([Role.TRAIN, Role.VALIDATION])].merge(columns, on="case")
        part = evaluated.cases[here]
        for name, some in asked.items():
            values = found.setdefault(name, np.empty(len(here)))
            values[here] = number_from_columns(train[some], true_numbers(train), part[some])
    return found


def write_repetitions(repetitions: Scopes, params: Params) -> None:
    """Write the pooled metrics of each repetition of the folds."""
    of_name = {"r1": paths.read_json(paths.pooled_metrics("internal_calibrated"))}
    for name, evaluated in repetitions.items():
        of_name[name] = summarise(evaluated, evaluated.values, bootstrap_for(params, name))
    rows = [
        {"repetition": name, "n": metrics["n"], **in_columns({one: metrics[one] for one in ("mae", "r2")})}
        for name, metrics in of_name.items()
    ]
    paths.write_table(pd.DataFrame(rows, columns=REPEATS), paths.REPEATS)


def write_left_out(left_out: Scopes, params: Params) -> None:
    """Write the metrics of each left-out site, and whether adaptation had seen its unlabelled images."""
    rows = []
    for fold, evaluated in left_out.items():
        metrics = summarise(evaluated, evaluated.values, bootstrap_for(params, fold))
        site, state = evaluated.cases.iloc[0][["site", "state"]]
        paths.write_json(metrics | {"state": state}, paths.fold_metrics(fold))
        known = {"site": site, "unlabelled": unlabelled_images(fold, site), "fold": fold, "state": state}
        counts = {name: metrics[name] for name in ("n", "patients")}
        rows.append(known | counts | in_columns({name: metrics[name] for name in OF_A_SET}))
    paths.write_table(pd.DataFrame(rows, columns=LEFT_OUT), paths.LEFT_OUT)


def write_members(params: Params) -> None:
    """Write the error of each member of a portfolio, and how much lower that of their mean is."""
    tables = [_held_out(paths.member_predictions(fold), fold) for fold in params.split.numbered]
    if any(table.empty for table in tables):
        paths.write_table(pd.DataFrame(columns=MEMBERS), paths.MEMBERS)
        return
    mean = pd.concat([_held_out(paths.predictions(fold), fold) for fold in params.split.numbered])
    everyone = [(PORTFOLIO, mean), *pd.concat(tables).groupby("member", sort=False)]
    bootstrap = bootstrap_for(params, "members")
    level = bootstrap.over(mean["patient"].to_numpy(dtype=str), mean["fold"].to_numpy(dtype=str)).confidence
    weights, true = bootstrap.weights(mean["patient"].to_numpy(dtype=str)), true_numbers(mean)
    joint, rows = logits_of(mean)[:, 0], list[Row]()
    for name, table in everyone:
        own = logits_of(table.set_index("case").loc[mean["case"]])[:, 0]
        metrics = {"mae": loss_estimate(mae(own, true, weights), level)}
        metrics["r2"] = estimate(partial(r_squared, own, true), weights, level)
        if name != PORTFOLIO:
            metrics["mae_gain"] = estimate(partial(_difference, mae, (own, joint), true), weights, level)
        rows.append({"member": name, "n": len(own)} | in_columns({key: one.as_json() for key, one in metrics.items()}))
    paths.write_table(pd.DataFrame(rows, columns=MEMBERS), paths.MEMBERS)


def write_headers() -> None:
    """Write the tables that need classes without rows, so that every declared output is there."""
    for file, columns in EMPTY.items():
        paths.write_table(pd.DataFrame(columns=columns), file)


def write_predictions(scopes: Scopes) -> None:
    """Write every evaluated case with its value and interval."""
    paths.write_table(pd.concat(prediction_table(one, scope) for scope, one in scopes.items()), paths.PREDICTIONS)


def _held_out(file: Any, fold: str) -> pd.DataFrame:
    table = paths.read_table(file)
    return table[table["role"] == Role.HELD_OUT].assign(fold=fold)


def _difference(metric: Any, predicted: tuple[Any, Any], true: Any, weights: Any) -> Any:
    """Subtract the metric of the second predictions from that of the first."""
    first, second = predicted
    return metric(first, true, weights) - metric(second, true, weights)
