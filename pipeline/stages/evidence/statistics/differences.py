"""How good each arm is after all training patients, how far two arms are apart, and what a new domain costs."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from pipeline.metrics import multilabel
from pipeline.metrics.bootstrap import distance_estimate, estimate_of, in_blocks
from pipeline.metrics.discrimination import Labels, ratio
from pipeline.metrics.summary import as_number, counts_of, in_columns, limits_of, metrics_of
from pipeline.stages.evidence.statistics.learning_curves import compared
from pipeline.stages.evidence.statistics.runs import Floats, Key, Marks, Names, Runs
from pipeline.stages.evidence.statistics.stratified import (
    Metric,
    Resampled,
    auc,
    coupling,
    difference_of,
    log_loss,
    questions,
    widened,
    within_range,
)

FINAL = ["recipe", "scope", "arm", "metric", "value", "lower", "upper", "n"]
DIFFERENCES = [
    *("recipe", "scope", "comparison", "metric", "value", "lower", "upper", "minimum_detectable"),
    *("n", "patients", "folds"),
]
DOMAINS = ["recipe", "arm", "kind", "site", "n", "events", *limits_of("auc"), "internal_auc", *limits_of("gap")]
INTERNAL, LEFT_OUT, EXTERNAL = "internal", "left out", "external"
SITE = "site "
WITHOUT, TEST = "without-", "final"  # how `domains` names its folds
METRICS = ("auc", "log_loss", "brier", "calibration_slope", "ece")
OF_SITES = ("auc", "log_loss")  # the metrics of sites that were left out: too few cases for calibration
FEW = 5  # patients of each kind, below whom a site does not count in the mean over sites


@dataclass(frozen=True)
class Scope:
    """Cases on which the arms are evaluated.

    Attributes
    ----------
    name : str
    runs : Runs
    resampled : Resampled
    parts : list of (n,) bool
        Whose metrics are averaged, all counting the same: all cases at once, or each site that was left out.
    """

    name: str
    runs: Runs
    resampled: Resampled
    parts: list[Marks]

    def evaluated(self, keys: Iterable[Key]) -> Marks:
        """Mark the cases (n,) of this scope that every one of these trainings prediction."""
        return np.asarray(self.runs.evaluated(keys) & np.logical_or.reduce(self.parts))

    def replicates(self, metric: Metric, key: Key, among: Marks) -> Floats:
        """Compute a metric of some cases (n,) on the sample and on every replicate, widened by `coupling`: (1 + R,)."""
        runs, found = self.runs, []
        for rows in (part & among for part in self.parts):
            if rows.any():
                known = runs.probabilities[key][rows], runs.labels[rows], runs.folds[rows]
                found.append(in_blocks(partial(metric, *known), self.resampled.weights[:, rows]))
        everyone = np.logical_or.reduce(self.parts)
        return widened(mean_of_parts(np.stack(found)), coupling(runs.folds[everyone], among[everyone]))


def scopes_of(
    internal: Runs, domains: Runs, test: str, resampled: Resampled, of_domains: Resampled
) -> dict[str, Scope]:
    """Name the sets of cases on which the arms are evaluated.

    Parameters
    ----------
    internal, domains : Runs
        The predictions out of fold; those of sites left out (fold "without-SITE") and of test cases (fold "final").
    test : str
        What the test cases are: "external" or "test".
    resampled, of_domains : Resampled
        Of the two, drawn together: see `stratified.resample`.

    Returns
    -------
    dict
        "internal"; `test`; "left out", the sites left out with enough patients; "site NAME", each site left out.
    """
    scopes = [Scope(INTERNAL, internal, resampled, [np.ones(len(internal.cases), dtype=np.bool_)])]
    parts = {str(fold): domains.folds == fold for fold in np.unique(domains.folds)}
    if TEST in parts:
        scopes.append(Scope(test, domains, of_domains, [parts.pop(TEST)]))
    counted = [part for part in parts.values() if enough(domains, part)]
    if counted:
        scopes.append(Scope(LEFT_OUT, domains, of_domains, counted))
    scopes += [Scope(SITE + fold.removeprefix(WITHOUT), domains, of_domains, [part]) for fold, part in parts.items()]
    return {scope.name: scope for scope in scopes}


def enough(runs: Runs, part: Marks) -> bool:
    """Say whether some cases (n,) have `FEW` patients of both kinds of every class; of one label that is known."""
    prediction = next(iter(runs.probabilities.values()), None)
    if prediction is None:
        return False
    patients = runs.patients[part]
    each = [
        min(len(np.unique(patients[view.rows][kind])) for kind in (view.events, ~view.events)) >= FEW
        for view in questions(prediction[part], runs.labels[part])
    ]
    return all(each) if runs.labels.ndim == 1 else any(each)


def mean_of_parts(values: Floats) -> Floats:
    """Average parts (P, 1 + R), less those that do not exist on the sample, or in a replicate."""
    there = np.isfinite(values) & np.isfinite(values[:, :1])
    return ratio(np.where(there, values, 0).sum(axis=0), there.sum(axis=0).astype(np.float64))


def final_metrics(bins: int) -> dict[str, Metric]:
    """Name the metrics of predictions after all training patients."""
    others = {name: partial(pooled, name, bins) for name in METRICS[2:]}
    return {"auc": auc, "log_loss": log_loss, **others}


def pooled(name: str, bins: int, probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute a metric (R,) of all folds at once, as `calibrate` does."""
    if labels.ndim == 2:
        return multilabel.macro(multilabel.metrics_of_label(bins)[name], probabilities, labels, weights)
    return metrics_of(probabilities, labels, bins)[name](weights)


def final_table(scopes: Mapping[str, Scope], bins: int) -> pd.DataFrame:
    """Tabulate the metrics of each arm after all training patients, out of fold and on the test cases.

    Parameters
    ----------
    scopes : mapping
        As `scopes_of` gives it.
    bins : int
        Of the calibration error.

    Returns
    -------
    pandas.DataFrame
        Columns `FINAL`.
    """
    rows = []
    for scope in (one for one in scopes.values() if not of_sites(one)):
        for key in after_all(scope):
            among = scope.evaluated([key])
            for name, metric in final_metrics(bins).items():
                found = estimate_of(scope.replicates(metric, key, among), scope.resampled.confidence)
                found = within_range(distance_estimate(found) if name == "ece" else found, name)
                numbers = found.as_json().values()
                rows.append((key.recipe, scope.name, key.arm, name, *numbers, int(among.sum())))
    return pd.DataFrame(rows, columns=FINAL)


def of_sites(scope: Scope) -> bool:
    """Say whether these are cases of sites that were left out."""
    return scope.name == LEFT_OUT or scope.name.startswith(SITE)


def after_all(scope: Scope) -> list[Key]:
    """Name the trainings on all patients that prediction cases of this scope."""
    return [key for key in scope.runs.probabilities if key.fraction == 1 and scope.evaluated([key]).any()]


def difference_table(scopes: Mapping[str, Scope], bins: int, of: Collection[str] = METRICS) -> pd.DataFrame:
    """Compare the arms after all training patients, on the same cases and the same draws of patients.

    Parameters
    ----------
    scopes : mapping
        As `scopes_of` gives it.
    bins : int
        Of the calibration error.
    of : collection of str
        The metrics that are compared, of `METRICS`; on sites that were left out only those of `OF_SITES`.

    Returns
    -------
    pandas.DataFrame
        Columns `DIFFERENCES`; positive where the arm is better than its reference. The `calibration_slope` is compared
        by its distance from 1. `folds` counts the folds, or the sites, that both arms prediction.
    """
    rows = []
    for scope in scopes.values():
        wanted = set(of) & set(OF_SITES if of_sites(scope) else METRICS)
        for recipe, comparison, arms in compared(scope.runs):
            keys = [Key(recipe, arm, 1.0, 0) for arm in arms]
            among = scope.evaluated(keys) if set(keys) <= set(scope.runs.probabilities) else np.zeros(1, dtype=np.bool_)
            for name, metric in final_metrics(bins).items():
                if name not in wanted or not among.any():
                    continue
                values = [goodness(name, scope.replicates(metric, key, among)) for key in keys]
                found = difference_of(values[0] - values[1], scope.resampled.confidence)
                rows.append((recipe, scope.name, comparison, name, *found, *scope.runs.counts(among)))
    return pd.DataFrame(rows, columns=DIFFERENCES)


def goodness(name: str, values: Floats) -> Floats:
    """Turn a metric so that more is better."""
    if name == "calibration_slope":
        return -np.abs(values - 1)
    return values if name == "auc" else -values


def domain_table(scopes: Mapping[str, Scope]) -> pd.DataFrame:
    """Tabulate the AUC of each arm on each site that was left out, and what it falls short of the AUC out of fold.

    Parameters
    ----------
    scopes : mapping
        As `scopes_of` gives it; test cases count if they are "external".

    Returns
    -------
    pandas.DataFrame
        Columns `DOMAINS`. `site` of the external cases is empty unless they are of one site. Of labels that stand each
        by itself the AUC out of fold is of those that the site has.
    """
    rows = []
    for scope in scopes.values():
        if scope.name == EXTERNAL or scope.name.startswith(SITE):
            rows += [row for key in after_all(scope) for row in gap_of(scopes[INTERNAL], scope, key)]
    return pd.DataFrame(rows, columns=DOMAINS)


def gap_of(internal: Scope, domain: Scope, key: Key) -> Iterator[dict[str, object]]:
    """Compare an arm's AUC out of fold with that on one domain; nothing where it has no predictions out of fold."""
    if key not in internal.runs.probabilities or not internal.evaluated([key]).any():
        return
    among = domain.evaluated([key])
    labels, prediction = domain.runs.labels[among], domain.runs.probabilities[key]
    alike = replace(internal, runs=replace(internal.runs, labels=known_to(labels, internal.runs.labels)))
    values = domain.replicates(auc, key, among)
    inside = alike.replicates(auc, key, internal.evaluated([key]))
    found = {"auc": values, "gap": inside - values}
    events = counts_of(labels, domain.runs.patients[among], prediction.shape[1])["events"] if labels.ndim == 1 else None
    sites = np.unique(domain.runs.sites[among])
    numbers = {
        name: within_range(estimate_of(one, domain.resampled.confidence), name).as_json() for name, one in found.items()
    }
    yield {
        "recipe": key.recipe,
        "arm": key.arm,
        "kind": EXTERNAL if domain.name == EXTERNAL else "left_out",
        "site": sites[0] if len(sites) == 1 else "",
        "n": int(among.sum()),
        "events": int((labels == 1).sum()) if events is None else events,
        "internal_auc": as_number(inside[0]),
        **in_columns(numbers),
    }


def known_to(labels: Labels, others: Labels) -> Labels:
    """Forget of other cases (m, C) the labels of which some cases (n, C) do not have both kinds."""
    if labels.ndim == 1:
        return others
    both = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return np.where(both, others, np.nan)
