"""Find the facts about a released model that somebody must know before using it, the most serious first."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.metrics.wording import metric_in_words, tells_the_label
from pipeline.stages.release.measured import (
    PATIENTS,
    Measured,
    Row,
    folds_alike,
    hardest_baseline,
    harms_of_adaptation,
    largest_gain,
    rarest_outcome,
    recipes_in_words,
    worst_coverage,
)

SHOWN = 5
FEW_PATIENTS = 20  # below this number an interval of any metric is too wide for a claim
ALL_CLASSES = "classes"  # the question of a conformal set whose classes exclude each other
NEARLY = 0.05  # difference of AUCs below which the site alone is nearly as good as the model
PLACES = {
    "internal": "in internal validation",
    "external": "on the external test set",
    "test": "on the test set",
    "left out": "at sites left out of training",
}
WORSE = {"auc": "the AUC is lower by", "log_loss": "the log-loss is higher by"}


@dataclass(frozen=True)
class Fact:
    """One fact that speaks against the model or limits what is known of it.

    Attributes
    ----------
    kind : str
        A key of `CHECKS`.
    severity : int
        Place in `CHECKS`; 0 is the most serious.
    sentence : str
        With its numbers, n and interval.
    anchor : str
        Id of the section of the report that shows the numbers.
    """

    kind: str
    severity: int
    sentence: str
    anchor: str


def key_facts(
    shown: Measured, limits: Mapping[str, Any], asked: Mapping[str, "tuple[Check, str]"] | None = None
) -> list[Fact]:
    """List the facts that apply, the most serious first.

    Parameters
    ----------
    shown : Measured
    limits : mapping
        `release.gates`; a gate that is dropped (None) does not drop its fact.
    asked : mapping, optional
        `CHECKS` by default, `number_facts.NUMBER_CHECKS` for a regression.
    """
    found = []
    known = dict(CHECKS if asked is None else asked)
    checks = known | ({"column tells the label": (_column, "columns")} if shown.columns else {})
    for severity, (kind, (check, anchor)) in enumerate(checks.items()):
        sentence = check(shown, limits)
        if sentence:
            found.append(Fact(kind, severity, sentence, anchor))
    return found


def to_know(facts: Sequence[Fact], checks: Iterable[str] | None = None) -> list[str]:
    """Give the sentences of the most serious facts, or say which checks found nothing."""
    if facts:
        return [fact.sentence for fact in facts[:SHOWN]]
    return [f"No serious finding. These checks were made: {', '.join(CHECKS if checks is None else checks)}."]


def _simulated(shown: Measured, _: Any) -> str:
    return "All scans are simulated: no result says anything about patients." if shown.stamps["simulated"] else ""


def _nothing_answered(shown: Measured, _: Any) -> str:
    return _withheld(shown) if shown.answered and not shown.answered["answered"] else ""


def _never_evaluated(shown: Measured, _: Any) -> str:
    if shown.test is not None:
        return ""
    why = f"its test set of {shown.test_cases} cases is closed" if shown.test_cases else "there is no test set"
    return f"The released model itself was never evaluated: {why}. Internal results describe the training procedure."


def _leaks(shown: Measured, _: Any) -> str:
    count = shown.leaks + shown.duplicates
    what = f"{count} patients or images are" if count > 1 else "1 patient or image is"
    return f"{what} in both development and test set: results of the test set are optimistic." if count else ""


def _column(shown: Measured, _: Any) -> str:
    return tells_the_label(shown.columns)


def _evaluated_seen(shown: Measured, _: Any) -> str:
    seen = shown.stamps["evaluated_images_seen"]
    return "Adaptation used the evaluated images without their labels: every result is optimistic." if seen else ""


def _patients_unknown(shown: Measured, _: Any) -> str:
    if shown.patients_known:
        return ""
    return (
        f"Patients are not known: each of the {shown.internal['n']} images of internal validation counts as one "
        "patient. The same patient may be in training and evaluation, and intervals are too narrow."
    )


def _few_patients(shown: Measured, _: Any) -> str:
    sets = dict(zip(reversed(shown.shown_scopes), filter(None, (shown.internal, shown.test)), strict=True))
    few = {scope: one for scope, one in sets.items() if one.get("patients", one["n"]) < FEW_PATIENTS}
    said = [f"{_counts(shown, one)} {_place(scope)}, AUC {_interval(one['auc'])}" for scope, one in few.items()]
    return f"Too few patients for any claim: {', and '.join(said)}." if said else ""


def _baseline(shown: Measured, limits: Mapping[str, Any]) -> str:
    scope = shown.shown_scopes[0]
    row = hardest_baseline(shown.baselines, scope)
    if row is None or row["difference_lower"] >= (limits["min_baseline_gain"] or 0):
        return ""
    verdict = "worse than" if row["difference_upper"] < 0 else "not shown to be better than"
    return (
        f"{_place(scope).capitalize()} the model is {verdict} {_joined(row['baseline'])} alone: AUC "
        f"{row['model_auc']:.2f} against {row['auc']:.2f}, difference {_interval(_metric(row, 'difference'))}, "
        f"{_counts(shown, row)}."
    )


def _coverage(shown: Measured, limits: Mapping[str, Any]) -> str:
    for scope in shown.shown_scopes:
        row = worst_coverage(shown.coverage, scope)
        allowed = limits["max_coverage_shortfall"] or 0
        if row is not None and row["promised"] - row["coverage_of_patients_upper"] > allowed:
            covered = _interval(_metric(row, "coverage_of_patients"))
            question = "" if row.get("of") in (None, ALL_CLASSES) else f" for '{row['of']}'"
            return (
                f"Prediction sets{question} miss their guaranteed coverage {_place(scope)}: they contain "
                f"the true answer for a share of {covered} of {row['patients']:.0f} patients; {row['promised']:.2f} is "
                "guaranteed."
            )
    return ""


def _harm(shown: Measured, _: Any) -> str:
    rows = harms_of_adaptation(shown.differences)
    if not rows:
        return ""
    said = [f"{WORSE[row['metric']]} {-row['value']:.3f} ({-row['upper']:.3f} to {-row['lower']:.3f})" for row in rows]
    how = "with a linear probe" if rows[0]["recipe"] == "probe" else "after training"
    return (
        f"Adaptation harmed the model {_place(rows[0]['scope'])}: {how} {', '.join(said)}, {_counts(shown, rows[0])}."
    )


def _few_answered(shown: Measured, limits: Mapping[str, Any]) -> str:
    found, least = shown.answered, limits["min_answered"]
    if found is None or found["answered"] in (0, found["scans"]) or least is None or found["lower"] >= least:
        return ""
    return _withheld(shown)


def _withheld(shown: Measured) -> str:
    found, test = shown.answered or {}, shown.test or {}
    auc = test.get("auc", {}).get("value")
    counted = "" if auc is None else f"; the AUC of {auc:.2f} there includes the withheld answers"
    return (
        f"The model withholds its answer for {found['scans'] - found['answered']} of {found['scans']} scans "
        f"{_place(shown.scopes[1])} and answers {found['patients_answered']} of {found['patients']} patients "
        f"({found['lower']:.2f} to {found['upper']:.2f}){counted}."
    )


def _recipe(shown: Measured, _: Any) -> str:
    counts = folds_alike(shown.recipes, shown.members)
    if counts is None or counts[0] == counts[1]:
        return ""
    released, others = recipes_in_words(shown.recipes, shown.members[0])
    if 2 * counts[0] > counts[1]:
        return (
            f"The chosen recipe changes from fold to fold (released: {released}; folds: {others}): with other patients "
            "another one might be released."
        )
    return (
        f"The released model has another recipe than most evaluated folds ({released}, the folds {others}): the "
        f"internal results ({_counts(shown, shown.internal)}) describe other models."
    )


def _licence(shown: Measured, _: Any) -> str:
    restricted = [one for one, forbids in shown.licences.items() if forbids]
    said = f"The licence of the pretrained weights ({'; '.join(restricted)}) forbids commercial use"
    return f"{said}, also of this model." if restricted else ""


def _benefit(shown: Measured, _: Any) -> str:
    scope = shown.shown_scopes[0]
    best = largest_gain(shown.decisions, scope)
    if best is None or best["gain_lower"] > 0:
        return ""
    rows = [row for row in shown.decisions if row["scope"] == scope]
    thresholds = sorted({row["threshold"] for row in rows})
    highest = max(rows, key=lambda row: row["gain"] or 0)
    return (
        f"{_place(scope).capitalize()} acting on the model is not shown to be better than acting on all or on none, at "
        f"any of {len(thresholds)} thresholds from {thresholds[0]:.2f} to {thresholds[-1]:.2f}: the largest "
        f"gain in net benefit is {_interval(_metric(highest, 'gain'))}, at {highest['threshold']:.2f}, "
        f"{_counts(shown, highest)}."
    )


def _site(shown: Measured, _: Any) -> str:
    scope = shown.scopes[0]
    row = hardest_baseline([row for row in shown.baselines if row["baseline"] == "site"], scope)
    if row is None or row["auc_lower"] is None or row["auc_lower"] <= 1 / 2:
        return ""
    if row["difference_lower"] >= 0 and row["difference"] >= NEARLY:
        return ""
    return (
        f"{_place(scope).capitalize()} the site alone predicts nearly as well as the model: AUC "
        f"{_interval(_metric(row, 'auc'))} against {row['model_auc']:.2f}, difference "
        f"{_interval(_metric(row, 'difference'))}, {_counts(shown, row)}. The model may have learned the site."
    )


def _few_events(shown: Measured, limits: Mapping[str, Any]) -> str:
    count, name = rarest_outcome(shown.classes)
    if limits["min_events"] is None or count >= limits["min_events"]:
        return ""
    who, metrics = "patients" if shown.scopes[0].endswith(PATIENTS) else "cases", shown.internal
    return (
        f"Only {count} {who} in internal validation have the rarest outcome, '{name}' ({limits['min_events']} are "
        f"required): AUC {_interval(metrics['auc'])}, calibration slope {_interval(metrics['calibration_slope'])}."
    )


Check = Callable[[Measured, Mapping[str, Any]], str]
CHECKS: dict[str, tuple[Check, str]] = {  # the most serious first; with the section of the report
    "simulated scans": (_simulated, "cohort"),
    "no answer on the test set": (_nothing_answered, "release"),
    "released model never evaluated": (_never_evaluated, "release"),
    "leak": (_leaks, "leaks"),
    "evaluated images seen": (_evaluated_seen, "adaptation"),
    "patients not known": (_patients_unknown, "cohort"),
    "too few patients": (_few_patients, "folds"),
    "not better than without images": (_baseline, "baselines"),
    "prediction sets": (_coverage, "sets"),
    "harm by adaptation": (_harm, "evidence"),
    "few answers on the test set": (_few_answered, "release"),
    "other recipe than the folds": (_recipe, "recipes"),
    "licence of weights": (_licence, "adaptation"),
    "no net benefit": (_benefit, "decisions"),
    "site nearly as good": (_site, "baselines"),
    "too few events": (_few_events, "folds"),
}


def _place(scope: str) -> str:
    return PLACES[scope.removesuffix(PATIENTS)]


def _counts(shown: Measured, row: Row) -> str:
    n, patients = int(row["n"]), int(row.get("patients") or row["n"])
    who = f"{n} images of {patients} patients" if n != patients else f"{n} patients"
    if not shown.patients_known:
        who = f"{n} images"
    return f"{who}, {row['events']:.0f} events" if shown.binary and row.get("events") is not None else who


def _metric(row: Row, name: str) -> Row:
    return {"value": row[name], "lower": row[f"{name}_lower"], "upper": row[f"{name}_upper"]}


def _interval(metric: Row) -> str:
    without = {"lower": metric["value"], "upper": metric["value"]} if metric["lower"] is None else {}
    return metric_in_words({**metric, **without}, style="z.2f", absent="not computable")


def _joined(names: str) -> str:
    return " and ".join(names.rsplit(", ", 1))
