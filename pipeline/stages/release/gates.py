"""What a model must show before it is called validated, and by how much it fails to.

A gate evaluates the bound that small cohorts do not flatter: the lower one of the AUC, both of the slope. What could
not be evaluated has not passed.
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
    """One condition, whether it holds, the metrics behind it in a sentence, and how far it is missed.

    Attributes
    ----------
    name : str
    passed : bool
    verdict : str
        "passed", "FAILED by ..." with the unit, or "FAILED: not evaluated".
    detail : str
    short_by : float or None
        In the unit of what is evaluated (AUC, slope, cases ...), 0 where it passed; None where there was nothing to
        evaluate.
    """

    name: str
    passed: bool
    verdict: str
    detail: str
    short_by: float | None


@dataclass(frozen=True)
class Shown:
    """What a run shows of a model, in the unit that is evaluated: patients, or images where patients are not known.

    Attributes
    ----------
    internal : mapping
        Metrics as `summary.summarise` returns them, calibrated and cross-fitted.
    test : mapping or None
        The same of the test set; None where there is none or it is closed.
    stamps : mapping
        `evaluated_images_seen`, `simulated`.
    leaks, copies : int
        Patients or images that were acknowledged on both sides of the train/test boundary, and pairs of images that
        look the same across it.
    classes : pandas.DataFrame
        Internal counts of each class: `class, n`, or of labels that stand by themselves `class, n_known, events`.
    subgroups : pandas.DataFrame
        As `subgroups.subgroup_table` gives them, of all scopes, with `of` and `scope`.
    statements : mapping
        What people said for the card, by field; empty where they said nothing.
    neighbours : int
        Training cases whose features are part of the model, because its nearest neighbours vote; 0 in any other.
    features_agreed : bool
        Whether somebody agreed to hand these over.
    """

    internal: Mapping[str, Any]
    test: Mapping[str, Any] | None
    stamps: Mapping[str, Any]
    leaks: int
    copies: int
    classes: pd.DataFrame
    subgroups: pd.DataFrame
    statements: Mapping[str, str]
    neighbours: int
    features_agreed: bool


def check_gates(shown: Shown, limits: Mapping[str, Any]) -> list[Gate]:
    """Evaluate a model by every gate that is asked for.

    Parameters
    ----------
    shown : Shown
    limits : mapping
        `min_auc_lower` (AUC), `slope` (lowest, highest), `max_external_drop` (AUC), `min_events` (cases of the rarest
        class), `min_subgroup_auc` (AUC), `card` (names of fields). A limit that is None is not asked for.

    Returns
    -------
    list of Gate
        The last four have no limit: nobody may switch them off.
    """
    asked: dict[str, Callable[[Shown, Any], Gate]] = {
        "min_auc_lower": _discrimination,
        "slope": _slope,
        "max_external_drop": _external_drop,
        "min_events": _events,
        "min_subgroup_auc": _worst_subgroup,
        "card": _card,
    }
    found = [gate(shown, limits[name]) for name, gate in asked.items() if limits[name] is not None]
    seen, simulated = (bool(shown.stamps[name]) for name in ("evaluated_images_seen", "simulated"))
    leaks = (
        f"{shown.leaks} acknowledged on both sides of the train/test boundary, {shown.copies} pairs of copies across it"
    )
    return [
        *found,
        _gate("no leak", shown.leaks + shown.copies, leaks, "findings"),
        _gate("evaluated images unseen", seen, "adaptation may not see the images it is evaluated on"),
        _gate("real patients", simulated, "a model of simulated scans is never validated"),
        _features(shown),
    ]


def _discrimination(shown: Shown, floor: float) -> Gate:
    auc = shown.internal["auc"]
    detail = f"internal AUC {_show(auc)}; the lower bound must reach {floor:g}"
    return _gate("discrimination", _less(floor, auc["lower"]), detail, "of AUC")


def _slope(shown: Shown, limits: tuple[float, float]) -> Gate:
    slope, (low, high) = shown.internal["calibration_slope"], limits
    detail = f"internal slope {_show(slope)}; its interval must lie within {low:g} to {high:g}"
    outside = None if slope["lower"] is None else max(low - slope["lower"], slope["upper"] - high)
    return _gate("calibration slope", outside, detail, "of slope")


def _external_drop(shown: Shown, most: float) -> Gate:
    if shown.test is None:
        return _gate("external drop", None, "no test set was opened: the released model itself was never evaluated")
    internal, test = shown.internal["auc"], shown.test["auc"]
    if None in (internal["value"], test["value"]):
        return _gate("external drop", None, f"internal AUC {_show(internal)}, test set {_show(test)}")
    drop = internal["value"] - test["value"]
    detail = f"AUC {_show(internal)} internally, {_show(test)} on the test set: {drop:.3f} lost, at most {most:g}"
    return _gate("external drop", drop - most, detail, "of AUC")


def _events(shown: Shown, least: int) -> Gate:
    table = shown.classes
    if "events" in table:  # a label by itself is a question of two classes: there, or not
        events = table[["events"]].assign(absent=table["n_known"] - table["events"]).min(axis=1)
    else:
        events = table["n"]
    rarest = int(events.min())
    detail = f"{rarest} of the rarest outcome, '{table['class'][events.idxmin()]}'; at least {least}"
    return _gate("events", least - rarest, detail, "events")


def _worst_subgroup(shown: Shown, floor: float) -> Gate:
    table = _told_apart(shown.subgroups)
    if table.empty:
        why = "nothing tells groups apart; name columns in calibrate.subgroups, or the site of each case"
        return _gate("worst subgroup", None, why)
    too_few = table["too_few"].astype(bool)
    evaluated = table[(table["of"] != TOP_LABEL) & ~too_few & table["auc"].notna()]  # no patient has a top label
    few = f"{too_few.sum()} too small to be evaluated"
    if evaluated.empty:
        return _gate("worst subgroup", None, f"no group is large enough; {few}")
    worst = evaluated.loc[evaluated["auc"].idxmin()]
    metric = {"value": worst["auc"], "lower": worst["auc_lower"], "upper": worst["auc_upper"]}
    where = f"{worst['column']} {worst['value']}, {worst['scope'].replace('_', ' ')}"
    detail = f"lowest AUC {_show(metric)} ({where}), at least {floor:g}; {len(evaluated)} groups evaluated, {few}"
    return _gate("worst subgroup", floor - worst["auc"], detail, "of AUC")


def _told_apart(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out columns that nobody has: all of whose cases are in one group, of what is not given."""
    return table[(table["value"] != NOT_GIVEN).groupby(table["column"]).transform("any")]


def _card(shown: Shown, fields: tuple[str, ...]) -> Gate:
    empty = [field for field in fields if not shown.statements[field]]
    detail = f"empty in card.yaml: {', '.join(empty)}" if empty else f"people filled in {', '.join(fields)}"
    return _gate("card", len(empty), detail, "fields")


def _features(shown: Shown) -> Gate:
    """Ask for consent before numbers that were made of single patients are handed over."""
    if not shown.neighbours:
        return _gate("features of cases", 0, "none are part of the model")
    held = f"nearest neighbours vote, so the features of {shown.neighbours} training cases are part of the model"
    if shown.features_agreed:
        return _gate("features of cases", 0, f"{held}; release.include_features agrees to that")
    cure = "set release.include_features to true if they may leave with it, or finetune.strategy to probe"
    return _gate("features of cases", shown.neighbours, f"{held}; {cure}", "cases")


def _gate(name: str, short_by: float | None, detail: str, unit: str = "") -> Gate:
    """Pass whoever is not short of anything; a question of yes or no has no unit."""
    if short_by is None or pd.isna(short_by):
        return Gate(name, False, "FAILED: not evaluated", detail, None)
    missed = round(max(float(short_by), 0.0), 6)
    verdict = "passed" if missed == 0 else f"FAILED by {missed:.3g} {unit}" if unit else "FAILED"
    return Gate(name, missed == 0, verdict, detail, missed)


def _less(floor: float, value: float | None) -> float | None:
    return None if value is None else floor - value


def _show(metric: Metric) -> str:
    if metric["lower"] is None:
        return "not computable"
    return f"{metric['value']:.3f} ({metric['lower']:.3f} to {metric['upper']:.3f})"
