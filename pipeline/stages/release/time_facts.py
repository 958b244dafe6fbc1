"""Facts about a survival model that somebody must know before using it, the most serious first."""

from collections.abc import Mapping
from typing import Any

from pipeline.stages.release.key_facts import CHECKS, Check
from pipeline.stages.release.measured import Measured
from pipeline.stages.release.number_facts import place, sets_of, show_metric
from pipeline.stages.release.number_gates import nearest_baseline

FEW_EVENTS = 20  # patients with the event; below, an interval of any metric is too wide for a claim


def _few_events(shown: Measured, _: Any) -> str:
    few = [(scope, one) for scope, one in sets_of(shown) if one["events"] < FEW_EVENTS]
    said = [
        f"{one['events']} patients with the event {place(scope)}, C-index {show_metric(one['c'])}" for scope, one in few
    ]
    return f"Too few events for any claim: {', and '.join(said)}." if said else ""


def _not_better(shown: Measured, limits: Mapping[str, Any]) -> str:
    scope = shown.shown_scopes[0]
    row = nearest_baseline(shown, scope)
    if row is None or row["difference_lower"] > (limits["min_baseline_gain"] or 0):
        return ""
    verdict = "worse than" if row["difference_upper"] < 0 else "not shown to be better than"
    gain = {"value": row["difference"], "lower": row["difference_lower"], "upper": row["difference_upper"]}
    return (
        f"{place(scope).capitalize()} the model is {verdict} the prediction by {row['baseline']} alone: C-index "
        f"{row['model_c']:.2f} against {row['c']:.2f}, difference {show_metric(gain)}, {row['patients']} patients."
    )


def _not_better_than_null(shown: Measured, _: Any) -> str:
    for scope, one in sets_of(shown):
        if one["ipa"]["lower"] is not None and one["ipa"]["lower"] <= 0:
            return (
                f"{place(scope).capitalize()} predicted risks are not shown to be better than the same risk for "
                f"everybody: index of prediction accuracy {show_metric(one['ipa'])}, {one['patients']} patients."
            )
    return ""


def _miscalibrated(shown: Measured, _: Any) -> str:
    for scope, one in sets_of(shown):
        found = one["observed_expected"]
        if found["lower"] is not None and not found["lower"] <= 1 <= found["upper"]:
            more = "more" if found["value"] > 1 else "less"
            return (
                f"{place(scope).capitalize()} the event was {more} frequent than predicted: observed by expected "
                f"events {show_metric(found)}, {one['patients']} patients."
            )
    return ""


OF_A_TIME: dict[str, tuple[Check, str]] = {
    "too few events": (_few_events, "folds"),
    "not better than without images": (_not_better, "baselines"),
    "not better than the same risk for everybody": (_not_better_than_null, "times"),
    "another frequency of the event": (_miscalibrated, "times"),
}
TIME_CHECKS: dict[str, tuple[Check, str]] = {
    **{name: CHECKS[name] for name in list(CHECKS)[: list(CHECKS).index("too few patients")]},
    **OF_A_TIME,
    **{name: CHECKS[name] for name in ("few answers on the test set", "other recipe than the folds")},
    "licence of weights": CHECKS["licence of weights"],
}
