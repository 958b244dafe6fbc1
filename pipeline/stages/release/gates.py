"""Evaluate the gates: the conditions of the status "validated".

A gate uses the bound that is conservative in small cohorts: the lower one of the AUC, both of the slope, the lower one
of the gain over a baseline and of the share of patients who get an answer. Prediction sets are the exception: no
interval of a coverage lies above what was promised, so the promise counts as kept unless the whole interval lies below
it. A gate that cannot be evaluated is not passed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.metrics.questions import TOP_LABEL
from pipeline.metrics.subgroups import NOT_GIVEN
from pipeline.metrics.wording import UNSTABLE, metric_in_words
from pipeline.stages.release.enough import patients_for_auc, patients_for_slope
from pipeline.stages.release.measured import (
    Measured,
    folds_alike,
    hardest_baseline,
    rarest_outcome,
    recipes_in_words,
    worst_coverage,
)

Metric = Mapping[str, Any]
NEVER_OPENED = "no test set was opened, so the released model itself was never evaluated"


@dataclass(frozen=True)
class Gate:
    """The verdict on one condition.

    Attributes
    ----------
    name : str
    passed : bool
    verdict : str
        "Passed: ..." or "Failed: ..." with the number that decides and its limit, or "Failed: not evaluated".
    detail : str
        The metrics behind the verdict, in a sentence.
    short_by : float or None
        How far the condition is missed, in its unit (AUC, slope, cases ...); 0 if it holds, None if it could not be
        evaluated.
    """

    name: str
    passed: bool
    verdict: str
    detail: str
    short_by: float | None


Check = Callable[[Measured, Any], Gate]


def check_gates(shown: Measured, limits: Mapping[str, Any], asked: Mapping[str, Check] | None = None) -> list[Gate]:
    """Evaluate every gate that has a limit.

    Parameters
    ----------
    shown : Measured
    limits : mapping
        `min_auc_lower` (AUC), `slope` (lowest, highest), `max_external_drop` (AUC), `min_events` (cases of the rarest
        class), `min_subgroup_auc` (AUC), `min_baseline_gain` (AUC), `max_coverage_shortfall` and `min_answered`
        (shares), `patients_known` and `recipe_evaluated` (true), `card` (names of fields). A gate whose limit is None
        is off.
    asked : mapping, optional
        The gates that have a limit, by its name; `GATES` by default, `number_gates.NUMBER_GATES` for a regression.

    Returns
    -------
    list of Gate
        The last five have no limit, so they cannot be switched off.
    """
    asked = GATES if asked is None else asked
    found = [gate(shown, limits[name]) for name, gate in asked.items() if limits[name] is not None]
    return [*found, _leak(shown), _unseen(shown), _real(shown), _features(shown), _licence(shown)]


def _discrimination(shown: Measured, floor: float) -> Gate:
    auc, detail = shown.internal["auc"], f"internal AUC {show(shown.internal['auc'])}"
    if auc["lower"] is not None and auc["lower"] < floor:
        detail += f"; {patients_for_auc(auc, floor, shown.internal['patients'])}"
    return at_least("discrimination", auc["lower"], floor, ("lower limit", detail))


def _slope(shown: Measured, limits: tuple[float, float]) -> Gate:
    slope, (low, high) = shown.internal["calibration_slope"], limits
    detail = f"internal calibration slope {show(slope)}; its interval must lie within {low:g} to {high:g}"
    if (slope["lower"] is None) != (slope["upper"] is None):  # a limit is infinite
        return Gate("calibration slope", passed=False, verdict=f"Failed: {UNSTABLE}", detail=detail, short_by=None)
    if slope["lower"] is None:
        return gate_of("calibration slope", None, "", detail)
    below, above = low - slope["lower"], slope["upper"] - high
    said = f"{slope['lower']:.2f} to {slope['upper']:.2f} lies within {low:g} to {high:g}"
    if max(below, above) > 0:
        said = f"upper limit {slope['upper']:.2f}, allowed {high:.1f}"
        said = f"lower limit {slope['lower']:.2f}, required {low:.1f}" if below > above else said
        detail += f"; {patients_for_slope(slope, limits, shown.internal['patients'])}"
    return gate_of("calibration slope", max(below, above), said, detail)


def _external_drop(shown: Measured, most: float) -> Gate:
    if shown.test is None:
        return gate_of("external drop", None, "", NEVER_OPENED)
    internal, test = shown.internal["auc"], shown.test["auc"]
    detail = f"AUC {show(internal)} internally, {show(test)} on the test set"
    if None in (internal["value"], test["value"]):
        return gate_of("external drop", None, "", detail)
    drop = internal["value"] - test["value"]
    return gate_of("external drop", drop - most, f"drop of the AUC {drop:.3f}, allowed {most:g}", detail)


def _events(shown: Measured, least: int) -> Gate:
    rarest, name = rarest_outcome(shown.classes)
    said = f"{rarest} events, {least} required"
    return gate_of("events", least - rarest, said, f"events are cases of the rarest outcome, '{name}'")


def _worst_subgroup(shown: Measured, floor: float) -> Gate:
    table = _with_groups(shown.subgroups)
    if table.empty:
        why = "there are no groups; name columns in calibrate.subgroups, or give the site of each case"
        return gate_of("worst subgroup", None, "", why)
    too_few = table["too_few"].astype(bool)
    evaluated = table[(table["of"] != TOP_LABEL) & ~too_few & table["auc"].notna()]
    few = f"too small to evaluate: {too_few.sum()}"
    if evaluated.empty:
        return gate_of("worst subgroup", None, "", f"no group is large enough; {few}")
    worst = evaluated.loc[evaluated["auc"].idxmin()]
    metric = {"value": worst["auc"], "lower": worst["auc_lower"], "upper": worst["auc_upper"]}
    where = f"{worst['column']} {worst['value']}, {worst['scope'].replace('_', ' ')}"
    detail = f"AUC {show(metric)} ({where}); groups evaluated: {len(evaluated)}, {few}"
    return at_least("worst subgroup", worst["auc"], floor, ("lowest AUC", detail))


def _with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that are given for no case."""
    return table[(table["value"] != NOT_GIVEN).groupby(table["column"]).transform("any")]


def _baseline(shown: Measured, least: float) -> Gate:
    name = "better than without images"
    if shown.test is None:
        return gate_of(name, None, "", NEVER_OPENED)
    row = hardest_baseline(shown.baselines, shown.scopes[1])
    if row is None:
        return gate_of(name, None, "", "no AUC of a prediction without images could be computed")
    gain = {end: row[column] for end, column in ends_of("difference").items()}
    detail = f"AUC {row['model_auc']:.3f} against {row['auc']:.3f} of {row['baseline']} alone: {show(gain)}, paired"
    return at_least(name, row["difference_lower"], least, ("lower limit of the gain", detail))


def _coverage(shown: Measured, most: float) -> Gate:
    rows = [worst_coverage(shown.coverage, scope) for scope in shown.shown_scopes]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        return gate_of("prediction sets", None, "", "too few patients for the promise, or it was not evaluated")
    worst = min(known, key=lambda row: row["coverage_of_patients_upper"] - row["promised"])
    covered = {end: worst[column] for end, column in ends_of("coverage_of_patients").items()}
    where = worst["scope"].replace("_", " ")
    detail = f"the set contains the true answer for a share of {show(covered)} ({where}, the lowest of all sets)"
    said = f"upper limit {covered['upper']:.2f}, promised {worst['promised']:.2f}"
    return gate_of("prediction sets", worst["promised"] - covered["upper"] - most, said, detail)


def _answered(shown: Measured, least: float) -> Gate:
    found = shown.answered
    if found is None:
        return gate_of("answered", None, "", NEVER_OPENED)
    detail = f"{found['answered']} of {found['scans']} scans of the test set, "
    detail += f"{found['patients_answered']} of {found['patients']} patients"
    return at_least("answered", found["lower"], least, ("lower limit of the share of patients", detail))


def _recipe(shown: Measured, _: bool) -> Gate:
    counts = folds_alike(shown.recipes, shown.members)
    if counts is None:
        return gate_of("recipe evaluated", None, "", "no record of the recipe of the released model")
    alike, folds = counts
    detail = "more than half of the evaluated folds must have the recipe of the released model"
    if alike < folds:
        released, others = recipes_in_words(shown.recipes, shown.members[0])
        detail += f"; it is {released}, theirs {others}"
    said = f"{alike} of {folds} evaluated folds have the released recipe"
    return gate_of("recipe evaluated", 0 if 2 * alike > folds else folds // 2 + 1 - alike, said, detail)


def _patients(shown: Measured, _: bool) -> Gate:
    said = "patients are known" if shown.patients_known else "patients are not known"
    return gate_of("patients known", not shown.patients_known, said, "without them, each image counts as one patient")


def _card(shown: Measured, fields: tuple[str, ...]) -> Gate:
    empty = [field for field in fields if not shown.statements[field]]
    said = f"{len(empty)} of {len(fields)} required fields are empty" if empty else "all required fields are filled in"
    return gate_of("card", len(empty), said, f"card.yaml: {', '.join(empty or fields)}")


def _leak(shown: Measured) -> Gate:
    count = shown.leaks + shown.duplicates
    detail = f"acknowledged leaks across the train/test boundary: {shown.leaks}"
    detail += f"; pairs of duplicate images across it: {shown.duplicates}"
    said = f"{count} leak{'' if count == 1 else 's'}, none allowed" if count else "no leak was found"
    return gate_of("no leak", count, said, detail)


def _unseen(shown: Measured) -> Gate:
    seen = bool(shown.stamps["evaluated_images_seen"])
    said = "adaptation used evaluated images" if seen else "adaptation used no evaluated image"
    return gate_of("evaluated images unseen", seen, said, "images that are evaluated must not be used, even unlabelled")


def _real(shown: Measured) -> Gate:
    simulated = bool(shown.stamps["simulated"])
    said = "the scans are simulated" if simulated else "no scan is simulated"
    return gate_of("real patients", simulated, said, "a model of simulated scans stays a candidate")


def _features(shown: Measured) -> Gate:
    """Require consent if features of single patients are part of the model."""
    name, count = "features of cases", shown.neighbours
    if not count:
        return gate_of(name, 0, "no features of cases are part of the model", "to release features needs consent")
    detail = f"the features of {count} training cases are part of this nearest-neighbour model"
    if shown.features_agreed:
        return gate_of(name, 0, "release.include_features allows it", detail)
    cure = "set release.include_features to true if they may be released, or finetune.strategy to probe"
    return gate_of(name, count, f"features of {count} cases, without consent", f"{detail}; {cure}")


def _licence(shown: Measured) -> Gate:
    """Require consent if pretrained weights may not be used commercially."""
    name, restricted = "licence of weights", [one for one, forbids in shown.licences.items() if forbids]
    detail = f"licence of the pretrained weights: {'; '.join(shown.licences)}"
    if not restricted:
        return gate_of(name, 0, "no licence is known to forbid commercial use", detail)
    if shown.non_commercial:
        return gate_of(name, 0, "release.non_commercial accepts that commercial use is forbidden", detail)
    cure = "set release.non_commercial to true if that holds for this model, or choose another adapt.encoder"
    return gate_of(name, len(restricted), "commercial use is forbidden, without consent", f"{detail}; {cure}")


def at_least(name: str, value: float | None, floor: float, words: tuple[str, str]) -> Gate:
    """Require a minimum; `words` names the number, and gives the metrics behind it."""
    what, detail = words
    if value is None:
        return gate_of(name, None, "", detail)
    return gate_of(name, floor - value, f"{what} {value:.3f}, required {floor:g}", detail)


def gate_of(name: str, short_by: float | None, said: str, detail: str) -> Gate:
    """Make the verdict from the shortfall."""
    if short_by is None or pd.isna(short_by):
        return Gate(name, passed=False, verdict="Failed: not evaluated", detail=detail, short_by=None)
    missed = round(max(float(short_by), 0.0), 6)
    verdict = f"{'Failed' if missed else 'Passed'}: {said}"
    return Gate(name, passed=not missed, verdict=verdict, detail=detail, short_by=missed)


def ends_of(name: str) -> dict[str, str]:
    """Name the columns of a metric and of the limits of its interval."""
    return {"value": name, "lower": f"{name}_lower", "upper": f"{name}_upper"}


def show(metric: Metric) -> str:
    """Write a metric with its interval."""
    return metric_in_words(metric, style="z.3f", absent="not computable")


GATES: dict[str, Check] = {
    "min_auc_lower": _discrimination,
    "slope": _slope,
    "max_external_drop": _external_drop,
    "min_events": _events,
    "min_subgroup_auc": _worst_subgroup,
    "min_baseline_gain": _baseline,
    "max_coverage_shortfall": _coverage,
    "min_answered": _answered,
    "recipe_evaluated": _recipe,
    "patients_known": _patients,
    "card": _card,
}
