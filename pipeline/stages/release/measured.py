"""What earlier stages measured of the released model, as the gates and the key facts take it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline.metrics.baseline import WITHIN

Row = Mapping[str, Any]

PATIENTS = "_patients"  # ending of the scopes in which each patient has one prediction
COMPARED = ("external", "test", "left out", "internal")  # sets on which adaptation is compared, what counts most first
HARMED = ("auc", "log_loss")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Plain values and tables about the released model, by patient, or by image if patients are not known.

    Attributes
    ----------
    scopes : tuple of str
        Name of the internal set and of the test set, e.g. ("internal_patients", "external_patients").
    internal : mapping
        Metrics as `summary.summarise` returns them, calibrated and cross-fitted.
    test : mapping or None
        The same for the test set; None if there is none or it is closed.
    test_cases : int
        Number of cases in the test set, whether or not it is open.
    binary : bool
        Whether there are two classes, so that "events" are those of the positive one.
    patients_known : bool
    stamps : mapping
        `evaluated_images_seen`, `simulated`.
    leaks, duplicates : int
        Acknowledged patients or images on both sides of the train/test boundary, and pairs of duplicate images across
        it.
    classes : pandas.DataFrame
        Internal counts of each class: `class, n`; for a multilabel task `class, n_known, events`.
    subgroups : pandas.DataFrame
        Tables of `subgroups.subgroup_table` for all scopes, with `of` and `scope`.
    baselines, decisions, coverage : sequence of mapping
        Rows of `baseline.baseline_table`, `utility.decision_curve` and `coverage.coverage_table` with their `scope`. Of
        the latter only those over all cases, of sets like the released ones.
    differences : sequence of mapping
        Rows of `differences.difference_table`, positive if adaptation helped; none if it was not measured.
    answered : mapping or None
        Scans of the test set that the released model answers, see `operating_limits.answered_in_test_set`.
    recipes : mapping
        Evaluated fold, and each member of the released model, to its training, adaptation and encoder.
    members : sequence of str
        Members of the released model.
    statements : mapping
        Texts of card.yaml by field; "" if empty.
    neighbours : int
        Number of training cases whose features are part of a nearest-neighbour model; 0 for other models.
    features_agreed : bool
        Whether release.include_features allows them in the bundle.
    licences : mapping
        Licence of the pretrained weights of each member, to whether it forbids commercial use.
    non_commercial : bool
        Whether release.non_commercial accepts that.
    columns : sequence of mapping
        Rows of `calibrate.inputs.inputs_table`; none if the model takes the image alone.
    promised : float or None
        Of a regression, the coverage that its prediction intervals promise.
    unit : str
        Of the number of a regression; empty for classes.
    """

    scopes: tuple[str, str]
    internal: Row
    test: Row | None
    test_cases: int
    binary: bool
    patients_known: bool
    stamps: Row
    leaks: int
    duplicates: int
    classes: pd.DataFrame
    subgroups: pd.DataFrame
    baselines: Sequence[Row]
    decisions: Sequence[Row]
    coverage: Sequence[Row]
    differences: Sequence[Row]
    answered: Row | None
    recipes: Mapping[str, Row]
    members: Sequence[str]
    statements: Mapping[str, str]
    neighbours: int
    features_agreed: bool
    licences: Mapping[str, bool]
    non_commercial: bool
    columns: Sequence[Row] = ()
    promised: float | None = None
    unit: str = ""

    @property
    def shown_scopes(self) -> list[str]:
        """The scopes that were evaluated, the test set first."""
        internal, test = self.scopes
        return [internal] if self.test is None else [test, internal]


def rarest_outcome(classes: pd.DataFrame) -> tuple[int, str]:
    """Count the cases of the rarest class, or of the rarer answer to the question whether a label is present."""
    if "events" in classes:
        counts = classes[["events"]].assign(absent=classes["n_known"] - classes["events"]).min(axis=1)
    else:
        counts = classes["n"]
    return int(counts.min()), str(classes["class"][counts.idxmin()])


def hardest_baseline(baselines: Sequence[Row], scope: str) -> Row | None:
    """Find the baseline that the model beats by the least: the lower limit of the paired difference.

    Where folds are pooled, the mean of folds is compared, because pooling biases a baseline.
    """
    known = [row for row in baselines if row["scope"] == scope and row["difference_lower"] is not None]
    within = [row for row in known if row["over"] == WITHIN]
    return min(within or known, key=lambda row: row["difference_lower"], default=None)


def worst_coverage(coverage: Sequence[Row], scope: str) -> Row | None:
    """Find the question whose prediction sets fall short of the promise by the most."""
    known = [row for row in coverage if row["scope"] == scope and row["coverage_of_patients_upper"] is not None]
    return min(known, key=lambda row: row["coverage_of_patients_upper"] - row["promised"], default=None)


def largest_gain(decisions: Sequence[Row], scope: str) -> Row | None:
    """Find the threshold at which acting on the model is best shown to be worth it, by the lower limit of the gain."""
    known = [row for row in decisions if row["scope"] == scope and row["gain_lower"] is not None]
    return max(known, key=lambda row: (row["gain_lower"], row["gain"]), default=None)


def harms_of_adaptation(differences: Sequence[Row]) -> list[Row]:
    """List the metrics that adaptation made worse, the whole interval below 0, on the first of `COMPARED` with any."""
    for scope in COMPARED:
        found = [row for row in differences if (row["scope"], row["comparison"]) == (scope, "adaptation")]
        found = [row for row in found if row["metric"] in HARMED and row["upper"] is not None and row["upper"] < 0]
        if found:
            return [row for row in found if row["recipe"] == found[0]["recipe"]]
    return []


def folds_alike(recipes: Mapping[str, Row], members: Sequence[str]) -> tuple[int, int] | None:
    """Count the evaluated folds that have the recipe of the released model, and all evaluated folds.

    The members of an ensemble are the evaluated folds themselves. None where the released model has no record.
    """
    if not set(members) <= set(recipes):
        return None
    if len(members) > 1:
        return len(members), len(members)
    folds = [recipe for fold, recipe in recipes.items() if fold not in members]
    return sum(recipe == recipes[members[0]] for recipe in folds), len(folds)


def recipes_in_words(recipes: Mapping[str, Row], member: str) -> tuple[str, str]:
    """Describe the recipe of a member, and those of the other folds with their number, by what differs."""
    others = [recipe for fold, recipe in recipes.items() if fold != member]
    parts = [part for part, value in recipes[member].items() if any(other[part] != value for other in others)]

    def words(recipe: Row) -> str:
        return " with ".join(str(recipe[part]) for part in parts)

    counts = Counter(map(words, others)).most_common()
    return words(recipes[member]), " and ".join(f"{name} ({count})" for name, count in counts)
