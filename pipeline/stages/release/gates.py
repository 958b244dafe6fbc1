"""Evaluate the gates: the conditions of the status "validated".

A gate uses the bound that is conservative in small cohorts: the lower one of the AUC, both of the slope. A gate
that cannot be evaluated is not passed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.metrics.questions import TOP_LABEL
from pipeline.metrics.subgroups import NOT_GIVEN

Metric = Mapping[str, Any]


@dataclass(frozen=True)
class Gate:
    """The verdict on one condition.

    Attributes
    ----------
    name : str
    passed : bool
    verdict : str
        "passed", "FAILED by ..." with the unit, or "FAILED: not evaluated".
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


@dataclass(frozen=True)
class GateInputs:
    """What the gates evaluate, by patient, or by image if patients are not known.

    Attributes
    ----------
    internal : mapping
        Metrics as `summary.summarise` returns them, calibrated and cross-fitted.
    test : mapping or None
        The same for the test set; None if there is none or it is closed.
    stamps : mapping
        `evaluated_images_seen`, `simulated`.
    leaks, duplicates : int
        Acknowledged patients or images on both sides of the train/test boundary, and pairs of duplicate images across
        it.
    classes : pandas.DataFrame
        Internal counts of each class: `class, n`; for a multilabel task `class, n_known, events`.
    subgroups : pandas.DataFrame
        Tables of `subgroups.subgroup_table` for all scopes, with `of` and `scope`.
    statements : mapping
        Texts of card.yaml by field; "" if empty.
    neighbours : int
        Number of training cases whose features are part of a nearest-neighbour model; 0 for other models.
    features_agreed : bool
        Whether release.include_features allows them in the bundle.
    """

    internal: Mapping[str, Any]
    test: Mapping[str, Any] | None
    stamps: Mapping[str, Any]
    leaks: int
    duplicates: int
    classes: pd.DataFrame
    subgroups: pd.DataFrame
    statements: Mapping[str, str]
    neighbours: int
    features_agreed: bool


def check_gates(shown: GateInputs, limits: Mapping[str, Any]) -> list[Gate]:
    """Evaluate every gate that has a limit.

    Parameters
    ----------
    shown : GateInputs
    limits : mapping
        `min_auc_lower` (AUC), `slope` (lowest, highest), `max_external_drop` (AUC), `min_events` (cases of the rarest
        class), `min_subgroup_auc` (AUC), `card` (names of fields). A gate whose limit is None is off.

    Returns
    -------
    list of Gate
        The last four have no limit, so they cannot be switched off.
    """
    asked: dict[str, Callable[[GateInputs, Any], Gate]] = {
        "min_auc_lower": _discrimination,
        "slope": _slope,
        "max_external_drop": _external_drop,
        "min_events": _events,
        "min_subgroup_auc": _worst_subgroup,
        "card": _card,
    }
    found = [gate(shown, limits[name]) for name, gate in asked.items() if limits[name] is not None]
    seen, simulated = (bool(shown.stamps[name]) for name in ("evaluated_images_seen", "simulated"))
    leaks = f"acknowledged on both sides of the train/test boundary: {shown.leaks}"
    leaks += f"; pairs of duplicate images across it: {shown.duplicates}"
    return [
        *found,
        _gate("no leak", shown.leaks + shown.duplicates, leaks, "findings"),
        _gate("evaluated images unseen", seen, "adaptation must not use the images that are evaluated"),
        _gate("real patients", simulated, "a model trained on simulated scans is never validated"),
        _features(shown),
    ]


def _discrimination(shown: GateInputs, floor: float) -> Gate:
    auc = shown.internal["auc"]
    detail = f"internal AUC {_show(auc)}; the lower bound must be at least {floor:g}"
    return _gate("discrimination", _less(floor, auc["lower"]), detail, "of AUC")


def _slope(shown: GateInputs, limits: tuple[float, float]) -> Gate:
    slope, (low, high) = shown.internal["calibration_slope"], limits
    detail = f"internal slope {_show(slope)}; its interval must lie within {low:g} to {high:g}"
    outside = None if slope["lower"] is None else max(low - slope["lower"], slope["upper"] - high)
    return _gate("calibration slope", outside, detail, "of slope")


def _external_drop(shown: GateInputs, most: float) -> Gate:
    if shown.test is None:
        return _gate("external drop", None, "no test set was opened, so the released model itself was never evaluated")
    internal, test = shown.internal["auc"], shown.test["auc"]
    if None in (internal["value"], test["value"]):
        return _gate("external drop", None, f"internal AUC {_show(internal)}, test set {_show(test)}")
    drop = internal["value"] - test["value"]
    detail = f"AUC {_show(internal)} internally, {_show(test)} on the test set: a drop of {drop:.3f}; at most {most:g}"
    return _gate("external drop", drop - most, detail, "of AUC")


def _events(shown: GateInputs, least: int) -> Gate:
    table = shown.classes
    if "events" in table:  # each label is a question of two classes: present or absent
        events = table[["events"]].assign(absent=table["n_known"] - table["events"]).min(axis=1)
    else:
        events = table["n"]
    rarest = int(events.min())
    detail = f"{rarest} cases of the rarest outcome, '{table['class'][events.idxmin()]}'; at least {least}"
    return _gate("events", least - rarest, detail, "events")


def _worst_subgroup(shown: GateInputs, floor: float) -> Gate:
    table = _with_groups(shown.subgroups)
    if table.empty:
        why = "there are no groups; name columns in calibrate.subgroups, or give the site of each case"
        return _gate("worst subgroup", None, why)
    too_few = table["too_few"].astype(bool)
    evaluated = table[(table["of"] != TOP_LABEL) & ~too_few & table["auc"].notna()]
    few = f"{too_few.sum()} too small to evaluate"
    if evaluated.empty:
        return _gate("worst subgroup", None, f"no group is large enough; {few}")
    worst = evaluated.loc[evaluated["auc"].idxmin()]
    metric = {"value": worst["auc"], "lower": worst["auc_lower"], "upper": worst["auc_upper"]}
    where = f"{worst['column']} {worst['value']}, {worst['scope'].replace('_', ' ')}"
    detail = f"lowest AUC {_show(metric)} ({where}), at least {floor:g}; {len(evaluated)} groups evaluated, {few}"
    return _gate("worst subgroup", floor - worst["auc"], detail, "of AUC")


def _with_groups(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that are given for no case."""
    return table[(table["value"] != NOT_GIVEN).groupby(table["column"]).transform("any")]


def _card(shown: GateInputs, fields: tuple[str, ...]) -> Gate:
    empty = [field for field in fields if not shown.statements[field]]
    detail = f"empty in card.yaml: {', '.join(empty)}" if empty else f"filled in: {', '.join(fields)}"
    return _gate("card", len(empty), detail, "fields")


def _features(shown: GateInputs) -> Gate:
    """Require consent if features of single patients are part of the model."""
    if not shown.neighbours:
        return _gate("features of cases", 0, "no features of cases are part of the model")
    held = f"the features of {shown.neighbours} training cases are part of this nearest-neighbour model"
    if shown.features_agreed:
        return _gate("features of cases", 0, f"{held}; release.include_features allows that")
    cure = "set release.include_features to true if they may be released, or finetune.strategy to probe"
    return _gate("features of cases", shown.neighbours, f"{held}; {cure}", "cases")


def _gate(name: str, short_by: float | None, detail: str, unit: str = "") -> Gate:
    """Make the verdict from the shortfall; a yes-or-no condition has no unit."""
    if short_by is None or pd.isna(short_by):
        return Gate(name, passed=False, verdict="FAILED: not evaluated", detail=detail, short_by=None)
    missed = round(max(float(short_by), 0.0), 6)
    verdict = "passed" if missed == 0 else f"FAILED by {missed:.3g} {unit}" if unit else "FAILED"
    return Gate(name, passed=missed == 0, verdict=verdict, detail=detail, short_by=missed)


def _less(floor: float, value: float | None) -> float | None:
    return None if value is None else floor - value


def _show(metric: Metric) -> str:
    if metric["lower"] is None:
        return "not computable"
    return f"{metric['value']:.3f} ({metric['lower']:.3f} to {metric['upper']:.3f})"
