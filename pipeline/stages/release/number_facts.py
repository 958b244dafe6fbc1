"""Facts about a regression that somebody must know before using it, the most serious first."""

from collections.abc import Mapping
from typing import Any

from pipeline.metrics.wording import metric_in_words
from pipeline.stages.release.key_facts import CHECKS, FEW_PATIENTS, PLACES, Check
from pipeline.stages.release.measured import PATIENTS, Measured
from pipeline.stages.release.number_gates import nearest_baseline

SHRUNK = -0.25  # slope of the error against the number from which on low and high numbers are told to be shrunk


def _few_patients(shown: Measured, _: Any) -> str:
    sets = [(scope, one) for scope, one in sets_of(shown) if one["patients"] < FEW_PATIENTS]
    said = [f"{one['patients']} patients {place(scope)}, R² {show_metric(one['r2'])}" for scope, one in sets]
    return f"Too few patients for any claim: {', and '.join(said)}." if said else ""


def _not_better(shown: Measured, limits: Mapping[str, Any]) -> str:
    scope = shown.shown_scopes[0]
    row = nearest_baseline(shown, scope)
    if row is None or row["difference_lower"] > (limits["min_baseline_gain"] or 0):
        return ""
    verdict = "worse than" if row["difference_upper"] < 0 else "not shown to be better than"
    other = "the mean" if row["baseline"] == "mean" else row["baseline"]
    gain = {"value": row["difference"], "lower": row["difference_lower"], "upper": row["difference_upper"]}
    return (
        f"{place(scope).capitalize()} the model is {verdict} the prediction by {other} alone: mean absolute error "
        f"{row['model_mae']:.4g} against {row['mae']:.4g}{_of(shown)}, difference {show_metric(gain)}, "
        f"{row['patients']} patients."
    )


def _coverage(shown: Measured, limits: Mapping[str, Any]) -> str:
    for scope, one in sets_of(shown):
        found, allowed = one["coverage_of_patients"], limits["max_coverage_shortfall"] or 0
        if found["upper"] is not None and shown.promised and shown.promised - found["upper"] > allowed:
            return (
                f"Prediction intervals miss their promise {place(scope)}: they contain the true number for a share of "
                f"{show_metric(found)} of {one['patients']} patients; {shown.promised:.2f} is promised."
            )
    return ""


def _shrunk(shown: Measured, _: Any) -> str:
    scope, one = sets_of(shown)[0]
    slope = one["bias_slope"]
    if slope["value"] is None or slope["value"] > SHRUNK:
        return ""
    return (
        f"Low numbers are predicted too high and high ones too low {place(scope)} (regression to the mean): the slope "
        f"of the error against the true number is {show_metric(slope)}."
    )


def sets_of(shown: Measured) -> list[tuple[str, Mapping[str, Any]]]:
    """Give the metrics of the test set, if it is open, and of the folds."""
    pairs = [(shown.scopes[1], shown.test), (shown.scopes[0], shown.internal)]
    return [(scope, one) for scope, one in pairs if one is not None]


def place(scope: str) -> str:
    """Say where a set was evaluated."""
    return PLACES[scope.removesuffix(PATIENTS)]


def _of(shown: Measured) -> str:
    return "" if shown.unit in ("", "1") else f" {shown.unit}"


def show_metric(metric: Mapping[str, Any]) -> str:
    """Write a metric with its interval and two decimals."""
    return metric_in_words(metric, style="z.2f", absent="not computable")


OF_A_NUMBER: dict[str, tuple[Check, str]] = {
    "too few patients": (_few_patients, "folds"),
    "not better than without images": (_not_better, "baselines"),
    "prediction intervals": (_coverage, "intervals"),
    "regression to the mean": (_shrunk, "bias"),
}
NUMBER_CHECKS: dict[str, tuple[Check, str]] = {
    **{name: CHECKS[name] for name in list(CHECKS)[: list(CHECKS).index("too few patients")]},
    **OF_A_NUMBER,
    **{name: CHECKS[name] for name in ("few answers on the test set", "other recipe than the folds")},
    "licence of weights": CHECKS["licence of weights"],
}
