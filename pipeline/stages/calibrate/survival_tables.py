"""Write the metrics and tables of a survival cohort."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pipeline import paths
from pipeline.imaging.labels import times_of
from pipeline.metrics.baseline import pooled_and_within
from pipeline.metrics.bootstrap import Bootstrap, estimate, estimate_of, in_blocks, loss_estimate
from pipeline.metrics.columns import InputColumn
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.output_fusion import fit_hazard_fusion, predicted_by_others
from pipeline.metrics.summary import as_number, in_columns, limits_of, rows_of
from pipeline.metrics.survival.columns import hazard_from_columns
from pipeline.metrics.survival.cox import survival_at
from pipeline.metrics.survival.curves import Curve, kaplan_meier, kaplan_meier_interval, logrank, median_follow_up
from pipeline.metrics.survival.discrimination import harrell_c
from pipeline.metrics.survival.evaluation import (
    GRID,
    EvaluatedTimes,
    brier_scores,
    by_time,
    in_short,
    prediction_table,
    resampled,
    summarise,
    times_in,
)
from pipeline.metrics.survival.recalibration import GROUPS
from pipeline.schema import Params
from pipeline.stages.calibrate.one_output import Row
from pipeline.stages.calibrate.one_output_tables import (
    FEWEST,
    Metric,
    Told,
    increment_rows,
    member_rows,
    subgroups,
    training_and_held_out,
    write_folds,
)
from pipeline.stages.calibrate.subject import bootstrap_for

Scopes = Mapping[str, EvaluatedTimes]

TOLD: Told[EvaluatedTimes] = Told(
    summarise=summarise,
    of_a_set=("c", "ipa", "calibration_slope", "observed_expected"),
    of_a_group=("c", "observed_expected", "integrated_brier"),
    repeated=("c", "ipa"),
)
OF_INCREMENT = ("integrated_brier", "c")
NULL = "Kaplan-Meier"  # the prediction that is the same for everybody
EVERYONE = "all"
STEPS = 50  # of a Kaplan-Meier curve
COUNTS = ["n", "patients", "events"]
MEMBERS = ["member", "n", *limits_of("c", "c_gain")]
SUBGROUPS = ["scope", "column", "value", "n", "patients", "too_few", *limits_of(*TOLD.of_a_group)]
BASELINES = [
    *("scope", "baseline", "over", "n", "patients"),
    *limits_of("c", "model_c", "difference", "integrated_brier", "model_brier"),
]
OF_A_TIME = ("auc", "brier", "null_brier", "ipa", "observed_expected")
BY_TIME = ["scope", "time", "n", "predicted", *limits_of(*OF_A_TIME)]
RISK_GROUPS = ["scope", "group", *COUNTS, "time", "predicted", *limits_of("observed"), "median", "chi2", "p"]
FOLLOW_UP = ["scope", "site", *COUNTS, "censored", "median_follow_up"]
KAPLAN_MEIER = ["scope", "group", "time", "survival", "lower", "upper", "at_risk"]


def write_metrics(scopes: Iterable[tuple[str, EvaluatedTimes]], repetitions: Scopes, params: Params) -> None:
    """Write the metrics, pooled and per fold, before and after recalibration, and the calibration in bins."""
    flat, short, bins = list[Row](), dict[str, Any](), list[pd.DataFrame]()
    internal: list[EvaluatedTimes] = []
    for scope, evaluated in scopes:
        internal += [evaluated] * (scope == "internal")
        for state, predicted in (("uncalibrated", evaluated.outputs), ("calibrated", evaluated.values)):
            metrics = summarise(evaluated, predicted, bootstrap_for(params, scope))
            paths.write_json(metrics, paths.pooled_metrics(f"{scope}_{state}"))
            flat += rows_of(metrics, f"{scope}_{state}")
        bins.append(reliability(evaluated, params.calibrate.bins).assign(scope=f"{scope}_calibrated"))
        short.setdefault("internal" if scope.startswith("internal") else "test", in_short(metrics))
    paths.write_json(short, paths.SUMMARY)
    for name, metrics in write_folds([*internal, *repetitions.values()], TOLD, params):
        flat += rows_of(metrics, name)
    paths.write_table(pd.DataFrame(flat), paths.ALL_METRICS)
    paths.write_table(pd.concat(bins), paths.RELIABILITY)


def reliability(evaluated: EvaluatedTimes, bins: int) -> pd.DataFrame:
    """Tabulate mean predicted and Kaplan-Meier risk at each time in bins of equally many cases, in ascending order.

    Returns
    -------
    pandas.DataFrame
        Columns `time`, `prediction`, `observed`, `n`.
    """
    order, rows = np.argsort(evaluated.values, kind="stable"), []
    survival = evaluated.survival(evaluated.horizons)
    parts = [some for some in np.array_split(order, min(bins, len(order))) if len(some)]
    for number, time in enumerate(evaluated.horizons.tolist()):
        for some in parts:
            if evaluated.times[some].max() <= time:
                continue  # nobody was observed for longer, so that the risk is not known
            seen = kaplan_meier(evaluated.times[some], evaluated.events[some]).at(np.array(time))
            rows.append((time, 1 - survival[some, number].mean(), 1 - float(seen), len(some)))
    return pd.DataFrame(rows, columns=["time", "prediction", "observed", "n"])


def write_tables(scopes: Scopes, params: Params) -> None:
    """Write the tables of subgroups, of predictions without images, of times, risk groups, curves and follow-up."""
    found: dict[str, list[Row]] = {name: [] for name in TABLES}
    for scope, evaluated in scopes.items():
        bootstrap = bootstrap_for(params, scope)
        of_times = [
            {name: value for name, value in row.items() if name not in OF_A_TIME}
            | in_columns({name: row[name].as_json() for name in OF_A_TIME})
            for row in by_time(evaluated, bootstrap)
        ]
        unit = evaluated.of_patients() if "case" in evaluated.cases else evaluated  # a patient has one time
        parts = {
            "subgroups": subgroups(evaluated, TOLD, bootstrap),
            "baselines": baseline_rows(evaluated, params, bootstrap),
            "by_time": of_times,
            "risk_groups": group_rows(unit, params.calibrate.confidence),
            "kaplan_meier": curve_rows(unit, params.calibrate.confidence),
            "follow_up": follow_up(unit),
        }
        for name, rows in parts.items():
            found[name] += [{"scope": scope, **row} for row in rows]
    for name, columns in TABLES.items():
        paths.write_table(pd.DataFrame(found[name], columns=columns), paths.assessed(name))


TABLES = {
    "subgroups": SUBGROUPS,
    "baselines": BASELINES,
    "by_time": BY_TIME,
    "risk_groups": RISK_GROUPS,
    "kaplan_meier": KAPLAN_MEIER,
    "follow_up": FOLLOW_UP,
}


def counts_of(evaluated: EvaluatedTimes) -> Row:
    """Count cases, patients, and patients with the event."""
    patients = evaluated.patients
    known = {"n": len(patients), "patients": len(set(patients.tolist()))}
    return known | {"events": len(set(patients[evaluated.events].tolist()))}


def groups_in(evaluated: EvaluatedTimes) -> list[tuple[str, EvaluatedTimes]]:
    """Give the cases of each risk group that has any, from low to high."""
    groups = evaluated.groups
    return [(name, evaluated.part(groups == name)) for name in GROUPS if (groups == name).any()]


def group_rows(evaluated: EvaluatedTimes, confidence: float) -> list[Row]:
    """Compute predicted and Kaplan-Meier risk of each risk group at each time, and the log-rank test of the groups."""
    groups = groups_in(evaluated)
    number = np.searchsorted(np.sort([*GROUPS]), evaluated.groups)
    chi2, p = logrank(evaluated.times, evaluated.events, number) if len(groups) > 1 else (np.nan, np.nan)
    rows = []
    for name, part in groups:
        curve = kaplan_meier(part.times, part.events)
        lower, upper = kaplan_meier_interval(part.times, part.events, confidence)
        known = {"group": name, **counts_of(part), "median": curve.first_at_or_below(0.5)}
        known |= {"chi2": as_number(chi2), "p": as_number(p)}
        predicted = 1 - part.survival(part.horizons).mean(axis=0)
        for time, mean in zip(part.horizons.tolist(), predicted.tolist(), strict=True):
            values = [as_number(1 - float(one.at(np.array(time)))) for one in (curve, upper, lower)]
            values = values if values[0] else [values[0], None, None]  # Greenwood's limits need an event
            values = values if part.times.max() > time else [None] * 3  # nobody was observed for longer
            observed = dict(zip(limits_of("observed"), values, strict=True))
            rows.append(known | {"time": time, "predicted": as_number(mean)} | observed)
    return rows


def curve_rows(evaluated: EvaluatedTimes, confidence: float) -> list[Row]:
    """Write the Kaplan-Meier curve of each risk group and of all cases with its limits and the number at risk.

    They are told at equal steps, so that no time of a patient stands in a table that is kept in git.
    """
    rows, steps = [], np.linspace(0, float(f"{evaluated.times.max():.2g}"), STEPS + 1)
    for name, part in [(EVERYONE, evaluated), *groups_in(evaluated)]:
        curve, limits = (
            kaplan_meier(part.times, part.events),
            kaplan_meier_interval(part.times, part.events, confidence),
        )
        lines: list[Curve] = [curve, *limits]
        values = [[as_number(float(one)) for one in line.at(steps)] for line in lines]
        for time, *at_time in zip(steps.tolist(), *values, strict=True):
            known = dict(zip(("survival", "lower", "upper"), at_time, strict=True))
            rows.append({"group": name, "time": time, **known, "at_risk": int((part.times >= time).sum())})
    return rows


def follow_up(evaluated: EvaluatedTimes) -> list[Row]:
    """Describe the censoring of all patients and of each site: its share, and the median follow-up.

    Sites of fewer than `FEWEST` patients are left out: their numbers would be those of single patients.
    """
    sites = evaluated.cases["site"].to_numpy(dtype=str)
    large = [site for site in sorted(set(sites.tolist()) - {""}) if (sites == site).sum() >= FEWEST]
    parts = [(EVERYONE, evaluated), *((site, evaluated.part(sites == site)) for site in large)]
    return [
        {"site": site, **counts_of(part)}
        | {"censored": as_number(1 - part.events.mean())}
        | {"median_follow_up": median_follow_up(part.times, part.events)}
        for site, part in parts
    ]


def baseline_rows(evaluated: EvaluatedTimes, params: Params, bootstrap: Bootstrap) -> list[Row]:
    """Compare the model with predictions without the image: Kaplan-Meier, the site, and `calibrate.baseline`.

    Pooled folds have second rows, see `pooled_and_within`.
    """
    if "case" not in evaluated.cases:
        return []  # patients: their images have these rows
    weights, level = resampled(evaluated, bootstrap)
    patients, last = evaluated.patients, float(evaluated.horizons[-1])
    counts, grid = {"n": len(patients), "patients": len(set(patients.tolist()))}, np.linspace(last / GRID, last, GRID)

    def drawn(hazard: Any, survival: Any) -> dict[str, dict[str, Any]]:
        def of_part(mask: Any) -> dict[str, Any]:
            part, some = evaluated.part(mask), weights[:, mask]
            c = in_blocks(partial(harrell_c, hazard[mask], part.times, part.events), some)
            return {"c": c, "brier": brier_scores(part, lambda _: survival[mask], some)}

        return pooled_and_within(evaluated.folds, of_part)

    own, rows = drawn(evaluated.values, evaluated.survival(grid)), list[Row]()
    for name, predicted in without_images(evaluated, params.calibrate.baseline, grid).items():
        for over, other in drawn(*predicted).items():
            model = own[over]
            of_pairs = {"c": other["c"], "model_c": model["c"], "difference": model["c"] - other["c"]}
            losses = {"integrated_brier": other["brier"], "model_brier": model["brier"]}
            found = {key: estimate_of(one, level) for key, one in of_pairs.items()}
            found |= {key: loss_estimate(one, level) for key, one in losses.items()}
            known = in_columns({key: one.as_json() for key, one in found.items()})
            rows.append({"baseline": name, "over": over, **counts, **known})
    return rows


def gains_of_the_image(evaluated: EvaluatedTimes, bootstrap: Bootstrap) -> list[Row]:
    """Compare the hazards from columns, from the image and from both by Brier score and C."""

    def metrics_of(one: EvaluatedTimes) -> dict[str, Metric]:
        c = partial(harrell_c, one.values, one.times, one.events)
        return {"integrated_brier": partial(brier_scores, one, one.survival), "c": c}

    return increment_rows(evaluated, metrics_of, ("integrated_brier",), bootstrap)


def concordance_alone(evaluated: EvaluatedTimes, column: InputColumn) -> float:
    """Compute the C-index of a Cox model of one column alone, each fold by a fit on the others."""

    def fit(cases: pd.DataFrame) -> Fusion:
        return fit_hazard_fusion(cases, *times_in(cases), [column], with_image=False)

    hazards = predicted_by_others(evaluated.cases, fit)
    return float(harrell_c(hazards, evaluated.times, evaluated.events, np.ones((1, len(hazards))))[0])


def without_images(evaluated: EvaluatedTimes, names: Sequence[str], grid: Any) -> dict[str, tuple[Any, Any]]:
    """Predict log hazard (n,) and survival (n, h) by Cox models of columns of the training cases of each fold."""
    found = dict[str, tuple[Any, Any]]()
    for here, train, part, asked in training_and_held_out(evaluated, names, NULL):
        times, events = times_of(train["label"].tolist())
        for name, some in asked.items():
            empty = (np.empty(len(here)), np.empty((len(here), len(grid))))
            hazard, survival = found.setdefault(name, empty)
            hazard[here], baseline = hazard_from_columns(train[some], times, events, part[some])
            survival[here] = survival_at(baseline, hazard[here], grid)
    return found


def write_members(params: Params) -> None:
    """Write the C of each member of a portfolio, and how much higher that of their mean is."""

    def metrics_of(cases: pd.DataFrame, outputs: list[Any], weights: Any, level: float) -> Row:
        times, events = times_of(cases["label"].tolist())
        found = {"c": estimate(partial(harrell_c, outputs[0], times, events), weights, level)}
        if len(outputs) > 1:
            own, joint = (in_blocks(partial(harrell_c, one, times, events), weights) for one in outputs)
            found["c_gain"] = estimate_of(joint - own, level)
        return dict(found)

    paths.write_table(pd.DataFrame(member_rows(params, metrics_of), columns=MEMBERS), paths.MEMBERS)


def write_predictions(scopes: Scopes) -> None:
    """Write every evaluated case with its log hazard, its risks and its group."""
    paths.write_table(pd.concat(prediction_table(one, scope) for scope, one in scopes.items()), paths.PREDICTIONS)
