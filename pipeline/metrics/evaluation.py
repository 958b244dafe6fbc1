"""Evaluated cases: labelled cases with their predictions, and the tables that summarise them."""

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
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.guards import refuse_missing_cases
from pipeline.metrics.summary import as_number, per_class, reliability, summarise

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = discrimination.Labels

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class TaskSpec:
    """Classes and kind of task of a cohort.

    Attributes
    ----------
    classes : list of str
        In the order of the logits.
    task : str
        "multiclass": each case has one class; "ordinal": each case has one of several ordered grades; "multilabel":
        each label is present or absent, independently of the others.
    """

    classes: list[str]
    task: str = "multiclass"


@dataclass(frozen=True)
class EvaluatedCases:
    """Labelled cases with their predicted probabilities, before and after calibration.

    Attributes
    ----------
    cases : pandas.DataFrame
        n rows with `case`, `patient` and `site`, and with `calibrator`, the digest of the calibrator that was applied.
    labels : (n,) int or (n, K) float
        True class numbers; of a multilabel task 1, 0, or NaN for not known.
    uncalibrated, calibrated : (n, K)
        Probabilities whose rows sum to one; of a multilabel task one independent probability per label.
    calibrators : mapping
        Digest to calibrator.
    baselines : mapping of (n, K)
        Name to predictions made without the image.
    parts : mapping of (n, K)
        Of a model that takes columns, the predictions from the columns alone and from the image alone.
    """

    cases: pd.DataFrame
    labels: Labels
    uncalibrated: Floats
    calibrated: Floats
    calibrators: Mapping[str, Calibrator]
    baselines: Mapping[str, Floats] = field(default_factory=dict)
    parts: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def patients(self) -> NDArray[np.str_]:
        """Give the patient of each case (n,), the unit of every interval."""
        return np.asarray(self.cases["patient"], dtype=np.str_)

    @property
    def folds(self) -> NDArray[np.str_]:
        """Give the fold that evaluates each case (n,)."""
        return np.asarray(self.cases["fold"], dtype=np.str_)

    @property
    def cross_fitted(self) -> bool:
        """Tell whether folds were calibrated by different calibrators, each fitted on the others."""
        return len(self.calibrators) > 1

    def part(self, mask: NDArray[np.bool_]) -> "EvaluatedCases":
        """Select the cases of a mask (n,)."""
        return replace(
            self,
            cases=self.cases[mask],
            labels=self.labels[mask],
            uncalibrated=self.uncalibrated[mask],
            calibrated=self.calibrated[mask],
            baselines={name: known[mask] for name, known in self.baselines.items()},
            parts={name: known[mask] for name, known in self.parts.items()},
        )

    def by(self, calibrator: Calibrator) -> "EvaluatedCases":
        """Calibrate the same cases by one calibrator."""
        known = evaluated_by(calibrator, self.cases, self.labels)
        return replace(known, baselines=self.baselines, parts=self.parts)


def evaluated_by(calibrator: Calibrator, cases: pd.DataFrame, labels: Labels) -> EvaluatedCases:
    """Turn the logits of labelled cases, fused with columns by a fusion, into predictions by one calibrator."""
    cases = calibrator.fused(cases) if isinstance(calibrator, Fusion) else cases
    logits, digest = logits_of(cases), digest_of(calibrator)
    uncalibrated, calibrated = identity_for(labels).apply(logits), calibrator.apply(logits)
    return EvaluatedCases(
        cases.assign(calibrator=digest), labels, uncalibrated, calibrated, calibrators={digest: calibrator}
    )


def evaluated_across(cases: pd.DataFrame, labels: Labels, method: str) -> EvaluatedCases:
    """Turn the logits of several folds into predictions, each fold with a calibrator fitted on the other folds.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `fold`, `patient`, `logit_0`, `logit_1`, ...
    method : str
        As in `calibrators.selection.cross_fitted`.
    """
    logits, folds = logits_of(cases), cases["fold"].to_numpy(dtype=str)
    calibrated, calibrators = cross_fitted(
        method, logits, labels, folds=folds, patients=cases["patient"].to_numpy(dtype=str)
    )
    digests = {fold: digest_of(one) for fold, one in calibrators.items()}
    evaluated = cases.assign(calibrator=cases["fold"].map(digests))
    by_digest = {digests[fold]: one for fold, one in calibrators.items()}
    return EvaluatedCases(evaluated, labels, identity_for(labels).apply(logits), calibrated, calibrators=by_digest)


def calibrators_of_folds(pooled: EvaluatedCases) -> dict[str, Calibrator]:
    """Give the calibrator that evaluates each fold."""
    digests = dict(zip(pooled.folds, pooled.cases["calibrator"], strict=True))
    return {fold: pooled.calibrators[digest] for fold, digest in sorted(digests.items())}


def other_folds(pooled: EvaluatedCases) -> dict[str, EvaluatedCases]:
    """Give for each fold the cases of all other folds, with predictions of the calibrator that evaluates this fold.

    That calibrator was not fitted on the fold.
    """
    calibrators = calibrators_of_folds(pooled)
    return {fold: pooled.part(pooled.folds != fold).by(one) for fold, one in calibrators.items()}


def logits_of(cases: pd.DataFrame) -> Floats:
    """Extract the logits (n, K) from a table of cases."""
    return np.asarray(cases.filter(regex=r"^logit_\d+$"), dtype=np.float64)


def mean_of_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average the logits of several models on the same cases; `model_sha256` becomes a hash of all their hashes.

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
    """Convert labels to class numbers (n,)."""
    return np.array([classes.index(label) for label in cases["label"]], dtype=np.int64)


def by_fold(pooled: EvaluatedCases) -> dict[str, EvaluatedCases]:
    """Split pooled cases by fold."""
    return {fold: pooled.part(pooled.folds == fold) for fold in sorted(set(pooled.folds.tolist()))}


def auc_of_folds(pooled: EvaluatedCases, probabilities: Floats, bootstrap: Bootstrap) -> dict[str, Any]:
    """Compute the mean AUC over folds, its difference from the pooled AUC, and the mean AUC of the site alone.

    Each fold is evaluated by its own model. If the scores of these models are offset, scores of different folds are not
    comparable and the pooled AUC is too low. `pooled_is_off` is true if the interval of the difference excludes 0.

    Parameters
    ----------
    pooled : EvaluatedCases
        With the baseline "site".
    probabilities : (n, K)
        The predictions to evaluate.
    bootstrap : Bootstrap
    """
    weights = bootstrap.weights(pooled.patients)
    masks = [pooled.folds == fold for fold in sorted(set(pooled.folds.tolist()))]

    def of_folds(some: Floats, predictions: Floats = probabilities) -> Floats:
        found = np.stack([aucs_of(predictions[mask], pooled.labels[mask], some[:, mask]) for mask in masks])
        return np.asarray(np.nanmean(np.where(np.isfinite(found).any(axis=0), found, 0), axis=0))

    def apart(some: Floats) -> Floats:
        return of_folds(some) - aucs_of(probabilities, pooled.labels, some)

    offset = estimate(apart, weights, bootstrap.confidence)
    site = of_folds(weights[:1], pooled.baselines["site"])[0]
    return {
        "auc_mean_of_folds": as_number(float(of_folds(weights[:1])[0])),
        "auc_of_site_alone": as_number(site),
        "auc_of_folds_less_pooled": offset.as_json(),
        "pooled_is_off": offset.lower is not None and not offset.lower <= 0 <= (offset.upper or 0),
    }


def aucs_of(probabilities: Floats, labels: Labels, weights: Floats) -> Floats:
    """Compute the macro AUC (R,): over classes by `discrimination.macro_auc`, over labels by `multilabel.macro_auc`."""
    if labels.ndim == 2:
        return multilabel.macro_auc(probabilities, labels, weights)
    return discrimination.macro_auc(probabilities, labels, weights)


def summary_of(
    evaluated: EvaluatedCases,
    probabilities: Floats,
    spec: TaskSpec,
    *,
    bins: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Compute the metrics that suit the task, by `summary.summarise` or `multilabel.summarise_labels`."""
    labels, patients = evaluated.labels, evaluated.patients
    cross_fitted = evaluated.cross_fitted and probabilities is evaluated.calibrated
    bootstrap = bootstrap.over(patients, evaluated.folds, cross_fitted=cross_fitted)
    if spec.task == "multilabel":
        return multilabel.summarise_labels(
            probabilities, labels, patients, spec.classes, bins=bins, bootstrap=bootstrap
        )
    ordinal = spec.task == "ordinal"
    return summarise(probabilities, labels, patients, bins=bins, bootstrap=bootstrap, ordinal=ordinal)


def class_table(evaluated: EvaluatedCases, spec: TaskSpec, bootstrap: Bootstrap) -> pd.DataFrame:
    """Tabulate the metrics of each class against the rest, or of each label."""
    table = multilabel.per_label if spec.task == "multilabel" else per_class
    bootstrap = bootstrap.over(evaluated.patients, evaluated.folds)
    return table(evaluated.calibrated, evaluated.labels, evaluated.patients, spec.classes, bootstrap=bootstrap)


def roc_table(evaluated: EvaluatedCases) -> pd.DataFrame:
    """Tabulate the corners of the calibrated ROC curve; of a multilabel task over all known pairs (micro average)."""
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
    """Tabulate the reliability diagram of every scope before and after calibration ("internal_uncalibrated", ...)."""
    return pd.concat(
        reliability(getattr(evaluated, state), evaluated.labels, bins).assign(scope=f"{scope}_{state}")
        for scope, evaluated in scopes.items()
        for state in ("uncalibrated", "calibrated")
    )


def prediction_table(evaluated: EvaluatedCases, scope: str) -> pd.DataFrame:
    """Tabulate every case of a set with its probabilities before and after calibration."""
    table = evaluated.cases.assign(scope=scope)
    for number in range(evaluated.calibrated.shape[1]):
        table[f"uncalibrated_{number}"] = evaluated.uncalibrated[:, number]
        table[f"probability_{number}"] = evaluated.calibrated[:, number]
    return table
