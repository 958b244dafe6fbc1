"""The gates of a survival model: those of a classifier that need no class, and four about times."""

import numpy as np

from pipeline.stages.release.gates import GATES, NEVER_OPENED, Check, Gate, at_least, ends_of, gate_of, show
from pipeline.stages.release.measured import Measured
from pipeline.stages.release.number_gates import lowest_of_sets, nearest_baseline


def _discrimination(shown: Measured, floor: float) -> Gate:
    above = float(np.nextafter(floor, 1))  # hazards that are all alike have a C-index of .5 without an interval
    return lowest_of_sets(shown, "discrimination", above, ("c", "C-index", ".5 is chance"))


def _better_than_null(shown: Measured, floor: float) -> Gate:
    words = ("ipa", "fall of the Brier score", "0 is the Kaplan-Meier curve of all patients")
    return lowest_of_sets(shown, "better than Kaplan-Meier", floor, words)


def _events(shown: Measured, least: int) -> Gate:
    count = int(shown.internal["events"])
    return gate_of("events", least - count, f"{count} events, {least} required", "patients with the event, internally")


def _baseline(shown: Measured, least: float) -> Gate:
    name = "better than without images"
    if shown.test is None:
        return gate_of(name, None, "", NEVER_OPENED)
    row = nearest_baseline(shown, shown.scopes[1])
    if row is None:
        return gate_of(name, None, "", "no C-index of a prediction without images could be computed")
    gain = {end: row[column] for end, column in ends_of("difference").items()}
    detail = f"C-index {row['model_c']:.3f} against {row['c']:.3f} of {row['baseline']} alone: {show(gain)}, paired"
    return at_least(name, row["difference_lower"], least, ("lower limit of the gain", detail))


TIME_GATES: dict[str, Check] = {
    "min_c_lower": _discrimination,
    "min_ipa_lower": _better_than_null,
    "slope": GATES["slope"],
    "min_events": _events,
    "min_baseline_gain": _baseline,
    **{name: GATES[name] for name in ("min_answered", "recipe_evaluated", "patients_known", "card")},
}
