"""What the first screen says: on which data, by which model, what to know before use, and which fold stands out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

FIRST = 5  # key facts that stand open
BANNERS = ("simulated scans", "leak", "evaluated images seen")  # facts that stand above the title
MANY = 4  # classes that are named in one sentence


def about(
    patients: int, images: int, sites: Iterable[str], classes: Sequence[str], unit: str, provenance: Row, method: str
) -> str:
    """Say in one sentence what was learned from what.

    Parameters
    ----------
    patients, images : int
        That came through the audit, with a label or without.
    sites : iterable of str
        "" where a case names none.
    classes : sequence of str
    unit : {"patient", "image"}
        "image" where no patients are known.
    provenance : mapping
        `encoder` and `pretraining` of the weights, and the same of a `second` encoder if there is one.
    method : str
        Of adaptation, of the model that is told.
    """
    named = sorted(site for site in set(sites) if site)
    whose = f" of {counted(patients, 'patient')}" if unit == "patient" else ""
    where = f" from {counted(len(named), 'site')}" if named else ""
    what = " or ".join(classes) if len(classes) <= MANY else f"{len(classes)} classes"
    adapted = "not adapted" if method == "none" else f"adapted by {method}"
    second = f"; second encoder {provenance['second']['encoder']}, frozen" if "second" in provenance else ""
    return (
        f"{counted(images, 'image')}{whose}{where}: {what}. Encoder {provenance['encoder']} "
        f"({provenance['pretraining']}), {adapted}{second}."
    )


def counted(number: int, thing: str) -> str:
    """Write a number of things."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def doubts_about(folds: Mapping[str, Row], outlying: Iterable[str], binary: bool) -> list[str]:
    """Name the folds that cannot be evaluated, and those that stand out.

    Parameters
    ----------
    folds : mapping
        Fold to its metrics; `auc` with value None could not be computed.
    outlying : iterable of str
        The folds whose AUC stands out. (Log-loss would not do: a failing fold distorts the calibrators of the others.)
    binary : bool
        Whether there are two classes.
    """
    lacking = [fold for fold, metrics in folds.items() if metrics["auc"]["value"] is None]
    said = [f"Fold {fold} has no AUC: {why_without_auc(folds[fold], binary)}." for fold in lacking]
    return said + [f"Fold {fold} differs from the others: AUC {folds[fold]['auc']['value']:.2f}." for fold in outlying]


def why_without_auc(metrics: Row, binary: bool) -> str:
    """Say which cases a fold lacks."""
    if binary:
        return f"{metrics['events']} of its {metrics['n']} cases are events"
    return f"among its {metrics['n']} cases, some class or label has none"


def to_know_first(facts: Sequence[Row]) -> dict[str, list[Row]]:
    """Take the key facts apart: the most serious ones in front, then `more`; those with a banner are left out."""
    told = [fact for fact in facts if fact["kind"] not in BANNERS]
    return {"first": told[:FIRST], "more": told[FIRST:]}
