"""What the page shows of a regression: metrics in the unit of the number, and the charts of predicted and true."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.stages.report.blocks import PATIENTS, Row, colour_of, set_name
from pipeline.stages.report.plots import Axes, Line, chart, nice_range

Floats = NDArray[np.float64]

COLUMNS = {
    "mae": "Mean absolute error",
    "rmse": "RMSE",
    "r2": "R²",
    "bias": "Bias",
    "calibration_slope": "Slope",
    "calibration_intercept": "Intercept",
    "bias_slope": "Error per unit of the number",
    "coverage": "Coverage",
    "width": "Width of intervals",
}
IN_UNIT = ("mae", "rmse", "bias", "calibration_intercept", "width", "mae_gain", "model_mae", "difference")
NAMES = COLUMNS | {"mae_gain": "Gain", "model_mae": "Of the model", "difference": "Lower by"}
SHOWN_OF = {  # metrics of the tables besides that of the folds
    "repetitions": ("mae", "r2"),
    "sites": ("mae", "r2", "bias", "coverage"),
    "members": ("mae", "mae_gain", "r2"),
    "baselines": ("mae", "model_mae", "difference"),
    "increment": ("mae", "r2"),
    "groups": ("mae", "bias", "coverage"),
}
PLACES = {"bias": "Bias"}  # shorter names of chapters for the contents
INTERVALS = ("intervals", "Intervals")
MOST = 500  # points of a chart
SPREAD = 1.96  # standard deviations of the limits of agreement
CHAPTERS = (
    (
        "agreement",
        "Predicted and true",
        "First each case as a dot; on the diagonal the number is right. Then (Bland-Altman) the difference, predicted "
        "minus true, against the mean of both; the lines are the mean difference and the limits between which 95 % of "
        "normal differences lie.",
    ),
    (
        "calibration",
        "Calibration",
        "Mean true number at each mean predicted number, in bins of equally many cases, before and after "
        "recalibration. A slope below 1 means that predictions are too extreme.",
    ),
    (
        "bias",
        "Bias against the value",
        "The error, predicted minus true, against the true number, with its mean in quantiles. A falling line is "
        "regression to the mean: low numbers are predicted too high and high ones too low. Every calibrated model that "
        "is not perfect does this, by R² - 1 per unit on average; it matters where groups differ in their numbers.",
    ),
)


def number_values(
    facts: Row, stamps: Row, pooled: Mapping[str, Row], folds: Mapping[str, Row], tables: Mapping[str, Sequence[Row]]
) -> dict[str, Any]:
    """Collect what number_page.html shows.

    Parameters
    ----------
    facts, stamps : mapping
        data/cohort/cohort.json and data/calibrated/stamps.json.
    pooled : mapping
        Recalibrated metrics of each evaluated set by its scope, patients first.
    folds : mapping
        Metrics of each fold.
    tables : mapping
        Rows of predictions, reliability, by_value, baselines, subgroups, members, repeats and left_out.
    """
    scope, unit = stamps["test_set"]["scope"], facts["unit"]
    level = "" if stamps["per_patient"] == "none" else PATIENTS
    internal = pooled[f"internal{level}"]
    digits = digits_for(internal["mae"]["value"])
    name = "no unit" if unit == "1" else unit
    return {
        "of_unit": "" if unit == "1" else f" {unit}",
        "unit_in_words": name,
        "digits": digits,
        "digits_of": {key: digits if key in IN_UNIT else 2 for key in NAMES},
        **{"columns": COLUMNS, "names": NAMES, "shown_of": SHOWN_OF, "raised": "the number"},
        "places_of_chapters": [*((place, PLACES.get(place, name)) for place, name, _ in CHAPTERS), INTERVALS],
        "pooled": {set_name(one): metrics for one, metrics in pooled.items()},
        "folds": folds,
        "internal": internal,
        "test": pooled.get(f"{scope}{level}"),
        "test_scope": scope,
        "counted_of": counted_of,
        "chapters": CHAPTERS,
        "charts": charts_of(tables, name),
        "by_value": tables["by_value"],
        "baselines": tables["baselines"],
        "groups": tables["subgroups"],
        "members": tables["members"],
        "repetitions": tables["repeats"],
        "left_out_sites": tables["left_out"],
    }


def counted_of(metrics: Row) -> str:
    """Count the cases of a set and their patients."""
    return f"{metrics['n']} cases of {metrics['patients']} patients"


def digits_for(error: float | None) -> int:
    """Choose the decimals that show three digits of an error.

    >>> digits_for(2.95), digits_for(0.021), digits_for(412.0)
    (2, 4, 0)
    """
    if not error or error <= 0:
        return 2
    return int(np.clip(2 - np.floor(np.log10(error)), 0, 6))


def charts_of(tables: Mapping[str, Sequence[Row]], unit: str) -> dict[str, list[dict[str, Any]]]:
    """Draw the charts of each chapter for every evaluated set."""
    found: dict[str, list[dict[str, Any]]] = {place: [] for place, _, _ in CHAPTERS}
    scopes = list(dict.fromkeys(str(row["scope"]) for row in tables["predictions"]))
    for scope in scopes:
        rows = [row for row in tables["predictions"] if row["scope"] == scope]
        true, value = (np.array([float(row[name]) for row in rows]) for name in ("label", "value"))
        found["agreement"] += [scatter(scope, true, value, unit), bland_altman(scope, true, value, unit)]
        bins = [
            row for row in tables["reliability"] if row["scope"] in (f"{scope}_calibrated", f"{scope}_uncalibrated")
        ]
        found["calibration"].append(calibration_chart(scope, bins, unit))
        means = [row for row in tables["by_value"] if row["scope"] == scope]
        found["bias"].append(bias_chart(scope, true, value, means=means, unit=unit))
    return found


def scatter(scope: str, true: Floats, value: Floats, unit: str) -> dict[str, Any]:
    """Draw predicted against true numbers, on axes of the same range."""
    both = nice_range([*true.tolist(), *value.tolist()])
    axes = Axes(f"true, {unit}", f"predicted, {unit}", both, both, diagonal=True, legend=False)
    return _drawn(f"Predicted against true numbers, {set_name(scope)}", axes, [_dots(scope, true, value)], len(true))


def bland_altman(scope: str, true: Floats, value: Floats, unit: str) -> dict[str, Any]:
    """Draw the difference against the mean of predicted and true, with the limits of agreement."""
    middle, apart = (true + value) / 2, value - true
    mean, reach = float(apart.mean()), SPREAD * float(apart.std(ddof=1)) if len(apart) > 1 else 0.0
    x_range = nice_range(middle.tolist())
    levels = (("mean", mean, False), ("limits", mean - reach, True), ("", mean + reach, True))
    lines = [Line(name, [(x_range[0], y), (x_range[1], y)], 4, dashed=dashed) for name, y, dashed in levels]
    y_range = nice_range([*apart.tolist(), mean - reach, mean + reach, 0.0])
    axes = Axes(f"mean of predicted and true, {unit}", f"predicted - true, {unit}", x_range, y_range)
    found = _drawn(f"Bland-Altman plot, {set_name(scope)}", axes, [_dots(scope, middle, apart), *lines], len(true))
    limits = f"mean difference {mean:.4g}, limits of agreement {mean - reach:.4g} to {mean + reach:.4g}"
    return found | {"caption": f"{found['caption']}; {limits} {'' if unit == 'no unit' else unit}".rstrip()}


def calibration_chart(scope: str, bins: Sequence[Row], unit: str) -> dict[str, Any]:
    """Draw the mean true number at each mean prediction, before and after recalibration."""
    parts = {
        name: [(row["prediction"], row["observed"]) for row in bins if row["scope"] == f"{scope}_{state}"]
        for name, state in (("recalibrated", "calibrated"), ("before", "uncalibrated"))
    }
    both = nice_range([number for points in parts.values() for pair in points for number in pair])
    after = Line("recalibrated", parts["recalibrated"], colour_of(scope), marks=True)
    lines = [after, Line("before", parts["before"], 4, dashed=True)]
    axes = Axes(f"predicted, {unit}", f"mean true, {unit}", both, both, diagonal=True)
    count = sum(row["n"] for row in bins if row["scope"] == f"{scope}_calibrated")
    return _drawn(f"Calibration of the mean, {set_name(scope)}", axes, lines, count)


def bias_chart(scope: str, true: Floats, value: Floats, *, means: Sequence[Row], unit: str) -> dict[str, Any]:
    """Draw the error against the true number, with its mean in quantiles."""
    apart = value - true
    x_range = nice_range(true.tolist())
    middle = Line("mean in quantiles", [(row["true"], row["bias"]) for row in means], 3, marks=True)
    zero = Line("no error", [(x_range[0], 0.0), (x_range[1], 0.0)], 4, dashed=True)
    axes = Axes(f"true, {unit}", f"predicted - true, {unit}", x_range, nice_range([*apart.tolist(), 0.0]))
    title = f"Error against the true number, {set_name(scope)}"
    return _drawn(title, axes, [_dots(scope, true, apart), zero, middle], len(true))


def intervals_in_words(values: Row, pooled: Mapping[str, Row], unit: str) -> str:
    """Describe the prediction intervals of the released model, and how often they held.

    Parameters
    ----------
    values : mapping
        `Intervals.as_json`.
    pooled : mapping
        Metrics by the name of the set.
    unit : str
    """
    if values["quantile"] is None:
        return f"{values['patients']} patients are too few for prediction intervals that promise a coverage."
    said = (
        f"The released interval is the number ± {values['quantile']:.2f} times the error that is expected at it, set "
        f"on held-out cases of {values['patients']} patients (split conformal prediction, locally weighted). It is "
        f"promised that all images of a new patient lie in their intervals with a probability of "
        f"{values['coverage']:.0%}."
    )
    held = [
        f"{name}: {one['coverage_of_patients']['value']:.2f} of {one['patients']} patients, mean width "
        f"{one['width']['value']:.4g}{unit}"
        for name, one in pooled.items()
        if one["coverage_of_patients"]["value"] is not None
    ]
    return f"{said} Found: {'; '.join(held)}." if held else said


def estimate_of(row: Row) -> dict[str, Any]:
    """Take value and limits of a row."""
    return {name: row[name] for name in ("value", "lower", "upper")}


def _dots(scope: str, x: Floats, y: Floats) -> Line:
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST)).round().astype(int))
    points = [(float(x[row]), float(y[row])) for row in some]
    return Line("", points, colour_of(scope), marks=True, joined=False)


def _drawn(title: str, axes: Axes, lines: Sequence[Line], count: float) -> dict[str, Any]:
    return {"svg": chart(title, axes, lines), "caption": f"{title}, n = {count:.0f}"}
