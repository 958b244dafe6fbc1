"""Compare experimental arms trained on all patients: metrics, differences, and the loss of AUC on a new domain."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd

from pipeline.metrics import multilabel
from pipeline.metrics.bootstrap import distance_estimate, estimate_of, in_blocks
from pipeline.metrics.discrimination import Labels, ratio
from pipeline.metrics.levels import coupling
from pipeline.metrics.summary import as_number, counts_of, in_columns, limits_of, metrics_of
from pipeline.stages.evidence.statistics.learning_curves import compared
from pipeline.stages.evidence.statistics.runs import Floats, Key, Marks, Names, Runs
from pipeline.stages.evidence.statistics.stratified import (
    Metric,
    Resampled,
    auc,
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
WITHOUT, TEST = "without-", "final"  # names of folds in `domains`
METRICS = ("auc", "log_loss", "brier", "calibration_slope", "ece")
OF_SITES = ("auc", "log_loss")  # metrics of left-out sites, which have too few cases for calibration
FEW = 5  # least number of patients with and without each class for a site to enter the mean over sites


@dataclass(frozen=True)
class Scope:
    """A set of cases on which the arms are evaluated.

    Attributes
    ----------
    name : str
    runs : Runs
    resampled : Resampled
    parts : list of (n,) bool
        Parts whose metrics are averaged with equal weight: all cases together, or one part per left-out site.
    """

    name: str
    runs: Runs
    resampled: Resampled
    parts: list[Marks]

    def evaluated(self, keys: Iterable[Key]) -> Marks:
        """Mark the cases (n,) of this scope that all of these trainings predict."""
        return np.asarray(self.runs.evaluated(keys) & np.logical_or.reduce(self.parts))

    def replicates(self, metric: Metric, key: Key, among: Marks) -> Floats:
        """Compute a metric of some cases (n,) on the sample and on every replicate, widened by `coupling`: (1 + R,)."""
        runs, found = self.runs, []
        for rows in (part & among for part in self.parts):
            if rows.any():
                of_part = partial(metric, runs.probabilities[key][rows], runs.labels[rows], runs.folds[rows])
                found.append(in_blocks(of_part, self.resampled.weights[:, rows]))
        everyone = np.logical_or.reduce(self.parts)
        return widened(mean_of_parts(np.stack(found)), coupling(runs.folds[everyone], among[everyone]))


def scopes_of(internal: Runs, domains: Runs, test: str, resampled: Sequence[Resampled]) -> dict[str, Scope]:
    """List the sets of cases on which the arms are evaluated.

    Parameters
    ----------
    internal, domains : Runs
        The out-of-fold predictions; and those of left-out sites (fold "without-SITE") and test cases (fold "final").
    test : str
        The kind of test set: "external" or "test".
    resampled : two Resampled
        Joint draws of the patients of both, from `stratified.resample`.

    Returns
    -------
    dict
        By name: "internal"; `test`; "left out", the left-out sites with enough patients; "site NAME", each left-out
        site.
    """
    of_internal, of_domains = resampled
    scopes = [Scope(INTERNAL, internal, of_internal, [np.ones(len(internal.cases), dtype=np.bool_)])]
    parts = {str(fold): domains.folds == fold for fold in np.unique(domains.folds)}
    if TEST in parts:
        scopes.append(Scope(test, domains, of_domains, [parts.pop(TEST)]))
    counted = [part for part in parts.values() if enough(domains, part)]
    if counted:
        scopes.append(Scope(LEFT_OUT, domains, of_domains, counted))
    scopes += [Scope(SITE + fold.removeprefix(WITHOUT), domains, of_domains, [part]) for fold, part in parts.items()]
    return {scope.name: scope for scope in scopes}


def enough(runs: Runs, part: Marks) -> bool:
    """Tell whether some cases (n,) have `FEW` patients with and without every class, or any label if multilabel."""
    prediction = next(iter(runs.probabilities.values()), None)
    if prediction is None:
        return False
    patients = runs.patients[part]
    each = [
        min(len(np.unique(patients[question.rows][kind])) for kind in (question.events, ~question.events)) >= FEW
        for question in questions(prediction[part], runs.labels[part])
    ]
    return all(each) if runs.labels.ndim == 1 else any(each)


def mean_of_parts(values: Floats) -> Floats:
    """Average parts (P, 1 + R), without those that are undefined on the sample or in a replicate."""
    there = np.isfinite(values) & np.isfinite(values[:, :1])
    return ratio(np.where(there, values, 0).sum(axis=0), there.sum(axis=0).astype(np.float64))


def final_metrics(bins: int) -> dict[str, Metric]:
    """List the metrics of predictions by models trained on all patients."""
    others = {name: partial(pooled, name, bins) for name in METRICS[2:]}
    return {"auc": auc, "log_loss": log_loss, **others}


def pooled(name: str, bins: int, probabilities: Floats, labels: Labels, folds: Names, weights: Floats) -> Floats:
    """Compute a metric (R,) over the pooled folds, as `calibrate` does."""
    if labels.ndim == 2:
        return multilabel.macro(multilabel.metrics_of_label(bins)[name], probabilities, labels, weights)
    return metrics_of(probabilities, labels, bins)[name](weights)


def final_table(scopes: Mapping[str, Scope], bins: int) -> pd.DataFrame:
    """Tabulate the metrics of each arm trained on all patients, out of fold and on the test cases.

    Parameters
    ----------
    scopes : mapping
        From `scopes_of`.
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
                level = scope.resampled.confidence
                found = estimate_of(scope.replicates(metric, key, among), level)
                found = within_range(distance_estimate(found, level) if name == "ece" else found, name)
                numbers = found.as_json().values()
                rows.append((key.recipe, scope.name, key.arm, name, *numbers, int(among.sum())))
    return pd.DataFrame(rows, columns=FINAL)


def of_sites(scope: Scope) -> bool:
    """Tell whether the scope consists of left-out sites."""
    return scope.name == LEFT_OUT or scope.name.startswith(SITE)


def after_all(scope: Scope) -> list[Key]:
    """List the trainings on all patients that predict cases of this scope."""
    return [key for key in scope.runs.probabilities if key.fraction == 1 and scope.evaluated([key]).any()]


def difference_table(scopes: Mapping[str, Scope], bins: int, of: Collection[str] = METRICS) -> pd.DataFrame:
    """Compare the arms trained on all patients, on the same cases and the same draws of patients.

    Parameters
    ----------
    scopes : mapping
        From `scopes_of`.
    bins : int
        Of the calibration error.
    of : collection of str
        The compared metrics, a subset of `METRICS`; on left-out sites only those in `OF_SITES`.

    Returns
    -------
    pandas.DataFrame
        Columns `DIFFERENCES`; positive if the arm is better than its reference. `calibration_slope` is compared by
        its distance from 1. `folds` counts the folds, or the sites, that both arms predict.
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
    """Transform a metric so that a higher value is better."""
    if name == "calibration_slope":
        return -np.abs(values - 1)
    return values if name == "auc" else -values


def domain_table(scopes: Mapping[str, Scope]) -> pd.DataFrame:
    """Tabulate the AUC of each arm on each new domain, and its gap to the out-of-fold AUC.

    Parameters
    ----------
    scopes : mapping
        From `scopes_of`; the domains are the left-out sites and the test cases if these are "external".

    Returns
    -------
    pandas.DataFrame
        Columns `DOMAINS`. `site` of the external cases is empty unless they come from one site. In a multilabel task
        the out-of-fold AUC uses the labels for which the domain has both answers.
    """
    rows = []
    for scope in scopes.values():
        if scope.name == EXTERNAL or scope.name.startswith(SITE):
            rows += [row for key in after_all(scope) for row in gap_of(scopes[INTERNAL], scope, key)]
    return pd.DataFrame(rows, columns=DOMAINS)


def gap_of(internal: Scope, domain: Scope, key: Key) -> Iterator[dict[str, object]]:
    """Compare an arm's AUC on one domain with its out-of-fold AUC; yield nothing without out-of-fold predictions."""
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
    """Set the labels of other cases (m, C) to NaN where some cases (n, C) do not have both answers."""
    if labels.ndim == 1:
        return others
    both = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return np.where(both, others, np.nan)
