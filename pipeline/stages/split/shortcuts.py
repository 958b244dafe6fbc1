"""Measure confounders before training: what a model could learn instead of the disease (shortcut learning)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.stages.split.hashed_folds import assign_by_hash, is_large

FOLDS = 5
Rows = tuple[NDArray[np.int_], NDArray[np.int_]]  # of the training and of the held-out cases


@dataclass(frozen=True)
class Guess:
    """How well a variable that should not matter predicts another one in held-out patients.

    Attributes
    ----------
    measure : str
        "AUC" (the mean over several labels), "balanced accuracy", "R²" for a number, or "C-index" for a time.
    value : float
        Its value; at `chance` or slightly below if there is no association.
    chance : float
        The value without any association.
    n : int
        Number of cases.
    cramers_v : float or None
        Bias-corrected association in [0, 1], only of site and label, and only with enough patients.
    """

    measure: str
    value: float
    chance: float
    n: int
    cramers_v: float | None = None


def site_predicts_label(cases: pd.DataFrame, seed: int = 0) -> Guess | None:
    """Predict the label of held-out patients from the site alone (`CategoricalNB` with equal class priors).

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`, `label`, `side`. Only labelled development cases of a known site, of classes with
        at least five patients, are used.

    Returns
    -------
    Guess or None
        AUC for two classes, otherwise balanced accuracy; None if fewer than two sites or two classes remain.
    """
    rows = cases[(cases["side"] == "development") & (cases["label"] != "") & (cases["site"] != "")]
    rows = rows[_frequent(rows, "label")]
    classes, truth = np.unique(rows["label"].to_numpy(dtype=str), return_inverse=True)
    sites, site = np.unique(rows["site"].to_numpy(dtype=str), return_inverse=True)
    if len(sites) < 2 or len(classes) < 2:
        return None
    model = CategoricalNB(fit_prior=False, min_categories=len(sites))
    groups, method, folds = rows["patient"], "predict_proba", _folds(rows["patient"], truth, seed)
    scores = cross_val_predict(model, site[:, None], truth, groups=groups, cv=folds, method=method)
    once = rows.drop_duplicates(["patient", "site", "label"])
    v = cramers_v(pd.crosstab(once["site"], once["label"]).to_numpy())
    if len(classes) == 2:
        return Guess("AUC", float(roc_auc_score(truth, scores[:, 1])), 0.5, len(rows), cramers_v=v)
    value = float(balanced_accuracy_score(truth, scores.argmax(axis=1)))
    return Guess("balanced accuracy", value, 1 / len(classes), len(rows), cramers_v=v)


def site_predicts_number(cases: pd.DataFrame, seed: int = 0) -> Guess | None:
    """Predict the number of held-out patients by the mean of their site.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`, `number`, `side`, as for `site_predicts_label`; sites with at least five patients are
        used.

    Returns
    -------
    Guess or None
        R², 0 or slightly below if sites do not differ; None if fewer than two sites remain.
    """
    rows = cases[(cases["side"] == "development") & cases["number"].notna() & (cases["site"] != "")]
    rows = rows[_frequent(rows, "site")]
    sites, site = np.unique(rows["site"].to_numpy(dtype=str), return_inverse=True)
    truth = rows["number"].to_numpy(dtype=float)
    if len(sites) < 2 or np.ptp(truth) == 0:
        return None
    columns = np.eye(len(sites))[site]
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    found = cross_val_predict(LinearRegression(fit_intercept=False), columns, truth, groups=rows["patient"], cv=folds)
    return Guess("R²", float(r2_score(truth, found)), 0.0, len(rows))


def site_predicts_time(cases: pd.DataFrame, seed: int = 0) -> Guess | None:
    """Predict the risk of held-out patients by the rate of the event at their site: events by time of follow-up.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`, `number` (the time), `event`, `side`, as for `site_predicts_number`.

    Returns
    -------
    Guess or None
        Harrell's C-index, where pairs of one rate count half; None if fewer than two sites remain, or no pair can be
        compared.
    """
    rows = cases[(cases["side"] == "development") & cases["number"].notna() & (cases["site"] != "")]
    rows = rows[_frequent(rows, "site")]
    if rows["site"].nunique() < 2:
        return None
    time, event = rows["number"].to_numpy(dtype=float), rows["event"].to_numpy(dtype=bool)
    rate, site = np.zeros(len(rows)), rows["site"].to_numpy(dtype=str)
    for train, held in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(rows, groups=rows["patient"]):
        for name in np.unique(site[held]):
            there = train[site[train] == name]
            rate[held[site[held] == name]] = event[there].sum() / max(time[there].sum(), 1e-12)
    comparable = (time[:, None] < time[None, :]) & event[:, None]
    if not comparable.any():
        return None
    agreed = (rate[:, None] > rate[None, :]) + 0.5 * (rate[:, None] == rate[None, :])
    return Guess("C-index", float(agreed[comparable].mean()), 0.5, len(rows))


def site_predicts_labels(cases: pd.DataFrame, targets: pd.DataFrame, seed: int = 0) -> dict[str, Guess | None]:
    """Predict each label of a multilabel cohort from the site alone.

    Parameters
    ----------
    cases : pandas.DataFrame
        As for `site_predicts_label`.
    targets : (n, n_labels) pandas.DataFrame
        One column per label: 1 present, 0 absent, NaN not known (left out).

    Returns
    -------
    dict
        The result for each label.
    """
    said = {1.0: "present", 0.0: "absent"}
    return {
        str(name): site_predicts_label(cases.assign(label=targets[name].map(said).fillna("")), seed) for name in targets
    }


def mean_over_labels(guesses: Mapping[str, Guess | None]) -> Guess | None:
    """Average the AUC over the labels that have one; `n` is that of the label with the most cases.

    The mean is used because the maximum would exceed 0.5 even without any association.
    """
    known = [guess for guess in guesses.values() if guess]
    if not known:
        return None
    measure = f"AUC (mean of {len(known)} of {len(guesses)} labels)"
    return Guess(measure, float(np.mean([one.value for one in known])), 0.5, max(one.n for one in known))


def intensity_predicts_site(cases: pd.DataFrame, intensities: NDArray[np.floating[Any]], seed: int = 0) -> Guess | None:
    """Predict the site of held-out patients by a logistic regression on standardised intensity statistics.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`; sites with at least five patients are used.
    intensities : (n, m) float array
        Intensity statistics of each case.

    Returns
    -------
    Guess or None
        Balanced accuracy; None if fewer than two sites remain.
    """
    used = (_frequent(cases, "site") & (cases["site"] != "")).to_numpy()
    rows = cases[used]
    sites, site = np.unique(rows["site"].to_numpy(dtype=str), return_inverse=True)
    if len(sites) < 2:
        return None
    folds = _folds(rows["patient"], site, seed)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    guessed = cross_val_predict(model, intensities[used], site, groups=rows["patient"], cv=folds)
    return Guess("balanced accuracy", float(balanced_accuracy_score(site, guessed)), 1 / len(sites), len(rows))


def _frequent(cases: pd.DataFrame, column: str) -> pd.Series:
    return cases.groupby(column)["patient"].transform("nunique") >= FOLDS


def _folds(patients: "pd.Series[str]", truth: NDArray[np.int_], seed: int) -> StratifiedGroupKFold | list[Rows]:
    """Choose folds of patients; many are assigned by hash, as in `split`, in a fraction of the time."""
    if not is_large(patients.tolist()):
        return StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    part = assign_by_hash(patients.tolist(), truth[:, None] == np.unique(truth), FOLDS, seed)
    return [(np.flatnonzero(part != one), np.flatnonzero(part == one)) for one in range(FOLDS)]


def cramers_v(counts: NDArray[np.int_]) -> float | None:
    """Compute Cramer's V of an (r, k) contingency table with the bias correction of Bergsma 2013.

    None where there are no more cases than rows or columns.
    """
    n, (r, k) = int(counts.sum()), counts.shape
    if n <= max(r, k):
        return None
    phi2 = chi2_contingency(counts, correction=False).statistic / n
    above_chance = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    fewest = min(size - (size - 1) ** 2 / (n - 1) for size in (r, k))
    return float(np.sqrt(above_chance / (fewest - 1)))
