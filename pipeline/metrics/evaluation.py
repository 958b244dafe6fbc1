"""Cases with what was predicted for them, and the tables that are made of both."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics import calibration, discrimination, multilabel
from pipeline.metrics.bootstrap import Bootstrap, estimate
from pipeline.metrics.calibrators.calibrator import Calibrator, digest_of, identity_for
from pipeline.metrics.calibrators.selection import cross_fitted
from pipeline.metrics.guards import refuse_missing_cases
from pipeline.metrics.summary import as_number, per_class, reliability, summarise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = discrimination.Labels

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class TaskSpec:
    """What the labels of a cohort mean.

    Attributes
    ----------
    classes : list of str
        In the order of the logits.
    task : str
        "multiclass": each case is of one class; "ordinal": of one of several grades in order; "multilabel": each
        class is there or not, by itself.
    """

    classes: list[str]
    task: str = "multiclass"


@dataclass(frozen=True)
class EvaluatedCases:
    """Cases with what was predicted for them, before and after calibration.

    Attributes
    ----------
    cases : pandas.DataFrame
        n rows with `case`, `patient` and `site`, and with `calibrator`, the digest of the map that was applied.
    labels : (n,) int or (n, K) float
        Numbers of the true classes; of a multilabel task 1, 0, or NaN where not known.
    uncalibrated, calibrated : (n, K)
        Rows sum to one; of a multilabel task each number stands by itself.
    calibrators : mapping
        The maps by their digest.
    baselines : mapping of (n, K)
        Predictions that saw no image, by name.
    """

    cases: pd.DataFrame
    labels: Labels
    uncalibrated: Floats
    calibrated: Floats
    calibrators: Mapping[str, Calibrator]
    baselines: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def patients(self) -> NDArray[np.str_]:
        """The patient of each case (n,), the unit of every interval."""
        return np.asarray(self.cases["patient"], dtype=np.str_)

    @property
    def folds(self) -> NDArray[np.str_]:
        """The fold that evaluates each case (n,)."""
        return np.asarray(self.cases["fold"], dtype=np.str_)

    def part(self, mask: NDArray[np.bool_]) -> "EvaluatedCases":
        """Keep the cases that a mask (n,) marks."""
        kept = (self.cases[mask], self.labels[mask], self.uncalibrated[mask], self.calibrated[mask])
        return EvaluatedCases(*kept, self.calibrators, {name: known[mask] for name, known in self.baselines.items()})

    def by(self, calibrator: Calibrator) -> "EvaluatedCases":
        """Predict the same cases by one map."""
        known = evaluated_by(calibrator, self.cases, self.labels)
        return replace(known, baselines=self.baselines)


def evaluated_by(calibrator: Calibrator, cases: pd.DataFrame, labels: Labels) -> EvaluatedCases:
    """Turn the logits of labelled cases into predictions, all of them by one map."""
    logits, digest = logits_of(cases), digest_of(calibrator)
    uncalibrated, calibrated = identity_for(labels).apply(logits), calibrator.apply(logits)
    return EvaluatedCases(cases.assign(calibrator=digest), labels, uncalibrated, calibrated, {digest: calibrator})


def evaluated_across(cases: pd.DataFrame, labels: Labels, method: str) -> EvaluatedCases:
    """Turn the logits of cases of several folds into predictions, each fold by a map fitted on the others.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `fold`, `patient`, `logit_0`, `logit_1`, ...
    method : str
        As `calibration_choice.cross_fitted` takes it.
    """
    logits, folds = logits_of(cases), cases["fold"].to_numpy(dtype=str)
    calibrated, maps = cross_fitted(method, logits, labels, folds, cases["patient"].to_numpy(dtype=str))
    digests = {fold: digest_of(one) for fold, one in maps.items()}
    evaluated = cases.assign(calibrator=cases["fold"].map(digests))
    by_digest = {digests[fold]: one for fold, one in maps.items()}
    return EvaluatedCases(evaluated, labels, identity_for(labels).apply(logits), calibrated, by_digest)


def calibrators_of_folds(pooled: EvaluatedCases) -> dict[str, Calibrator]:
    """Give the map that evaluates each fold."""
    digests = dict(zip(pooled.folds, pooled.cases["calibrator"], strict=True))
    return {fold: pooled.calibrators[digest] for fold, digest in sorted(digests.items())}


def other_folds(pooled: EvaluatedCases) -> dict[str, EvaluatedCases]:
    """Give for each fold the cases of all others, prediction by the map that evaluates it: it never saw the fold."""
    maps = calibrators_of_folds(pooled)
    return {fold: pooled.part(pooled.folds != fold).by(one) for fold, one in maps.items()}


def logits_of(cases: pd.DataFrame) -> Floats:
    """Take the logits out of a table: (n, K)."""
    return np.asarray(cases.filter(regex=r"^logit_\d+$"), dtype=np.float64)


def mean_of(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average the logits of several models on the same cases; the model is then called by the hash of all of them.

    Raises
    ------
    MissingCases
        If a case is missing in a table.
    """
    first, *others = (table.sort_values("case", ignore_index=True) for table in tables)
    if not others:
        return first
    for table in others:
        refuse_missing_cases(first["case"], table["case"])
    mean = np.mean([logits_of(table) for table in (first, *others)], axis=0)
    logits = mean.astype(np.float32).astype(np.float64)  # as the ensemble gives them
    digest = hashlib.sha256("".join(str(table["model_sha256"].max()) for table in tables).encode()).hexdigest()
    columns = {f"logit_{number}": column for number, column in enumerate(logits.T)}
    return first.assign(fold=ENSEMBLE, model_sha256=digest, **columns)


def label_numbers(cases: pd.DataFrame, classes: list[str]) -> Ints:
    """Turn labels into numbers (n,), in the order of the classes."""
    return np.array([classes.index(label) for label in cases["label"]], dtype=np.int64)


def by_fold(pooled: EvaluatedCases) -> dict[str, EvaluatedCases]:
    """Take pooled cases apart again by their fold."""
    return {fold: pooled.part(pooled.folds == fold) for fold in sorted(set(pooled.folds.tolist()))}


def auc_of_folds(pooled: EvaluatedCases, probabilities: Floats, bootstrap: Bootstrap) -> dict[str, Any]:
    """Set beside the pooled AUC the mean over folds, how far both are apart, and what the site alone gives.

    Folds are models of their own; where their scores are offset, cases of different folds do not compare, and the
    pooled AUC is too low. `pooled_is_off` marks where the interval of the difference excludes 0.

    Parameters
    ----------
    pooled : EvaluatedCases
        With the baseline "site".
    probabilities : (n, K)
        The predictions whose folds are averaged.
    bootstrap : Bootstrap
    """
    weights = bootstrap.weights(pooled.patients)
    masks = [pooled.folds == fold for fold in sorted(set(pooled.folds.tolist()))]

    def of_folds(some: Floats) -> Floats:
        found = np.stack([aucs_of(probabilities[mask], pooled.labels[mask], some[:, mask]) for mask in masks])
        return np.asarray(np.nanmean(np.where(np.isfinite(found).any(axis=0), found, 0), axis=0))

    def apart(some: Floats) -> Floats:
        return of_folds(some) - aucs_of(probabilities, pooled.labels, some)

    offset = estimate(apart, weights, bootstrap.confidence)
    site = aucs_of(pooled.baselines["site"], pooled.labels, weights[:1])[0]
    return {
        "auc_mean_of_folds": as_number(float(of_folds(weights[:1])[0])),
        "auc_of_site_alone": as_number(site),
        "auc_of_folds_less_pooled": offset.as_json(),
        "pooled_is_off": offset.lower is not None and not offset.lower <= 0 <= (offset.upper or 0),
    }


def aucs_of(probabilities: Floats, labels: Labels, weights: Floats) -> Floats:
    """Compute the AUC as `metrics.macro_auc` does, or the mean over labels that stand each by itself: (R,)."""
    if labels.ndim == 2:
        return multilabel.macro_auc(probabilities, labels, weights)
    return discrimination.macro_auc(probabilities, labels, weights)


def summary_of(
    evaluated: EvaluatedCases,
    probabilities: Floats,
    labelling: TaskSpec,
    *,
    bins: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Compute the metrics of a set of cases that suit its task; the rest as `summary.summarise`."""
    labels, patients = evaluated.labels, evaluated.patients
    if labelling.task == "multilabel":
        return multilabel.summarise_labels(
            probabilities, labels, patients, labelling.classes, bins=bins, bootstrap=bootstrap
        )
    ordinal = labelling.task == "ordinal"
    return summarise(probabilities, labels, patients, bins=bins, bootstrap=bootstrap, ordinal=ordinal)


def class_table(evaluated: EvaluatedCases, labelling: TaskSpec, bootstrap: Bootstrap) -> pd.DataFrame:
    """Tabulate each class against the rest, or each label by itself."""
    table = multilabel.per_label if labelling.task == "multilabel" else per_class
    return table(evaluated.calibrated, evaluated.labels, evaluated.patients, labelling.classes, bootstrap=bootstrap)


def roc_table(evaluated: EvaluatedCases) -> pd.DataFrame:
    """Tabulate the corners of the calibrated ROC curve; that of all known pairs of a multilabel task (micro)."""
    confidence, events = calibration.evaluated_confidence(evaluated.calibrated, evaluated.labels)
    false_positive, true_positive = discrimination.roc_curve(confidence, events)
    return pd.DataFrame({"false_positive_rate": false_positive, "true_positive_rate": true_positive})


def roc_tables(scopes: Mapping[str, EvaluatedCases]) -> pd.DataFrame:
    """Tabulate the ROC curve of every scope."""
    tables = [roc_table(evaluated) for evaluated in scopes.values()]
    for table, scope in zip(tables, scopes, strict=True):
        table.insert(0, "scope", scope)
    return pd.concat(tables)


def reliability_tables(scopes: Mapping[str, EvaluatedCases], bins: int) -> pd.DataFrame:
    """Tabulate the reliability of every scope, before and after calibration ("internal_uncalibrated", ...)."""
    predictions = {
        f"{scope}_{state}": (getattr(evaluated, state), evaluated.labels)
        for scope, evaluated in scopes.items()
        for state in ("uncalibrated", "calibrated")
    }
    return pd.concat([reliability(*known, bins).assign(scope=scope) for scope, known in predictions.items()])


def prediction_table(evaluated: EvaluatedCases, scope: str) -> pd.DataFrame:
    """Tabulate every case of a set with its probabilities before and after calibration."""
    table = evaluated.cases.assign(scope=scope)
    for number in range(evaluated.calibrated.shape[1]):
        table[f"uncalibrated_{number}"] = evaluated.uncalibrated[:, number]
        table[f"probability_{number}"] = evaluated.calibrated[:, number]
    return table
