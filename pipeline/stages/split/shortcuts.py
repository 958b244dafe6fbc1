"""Shortcuts: what a model could learn instead of the disease, measured before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2_contingency
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.naive_bayes import CategoricalNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


@dataclass(frozen=True)
class Guess:
    """How well something that should not matter predicts, in held-out patients.

    Attributes
    ----------
    measure : str
        "AUC" (of several labels the mean) or "balanced accuracy"; without any relation its `value` lies at `chance`
        or a little below.
    n : int
        Cases.
    cramers_v : float or None
        0 (no relation) to 1, corrected for bias; only between site and label, and only with enough patients.
    """

    measure: str
    value: float
    chance: float
    n: int
    cramers_v: float | None = None


def site_predicts_label(cases: pd.DataFrame, seed: int = 0) -> Guess | None:
    """Predict the label of held-out patients from the site alone (`CategoricalNB`, classes taken as equally common).

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient`, `site`, `label`, `side`; labelled development cases of known site are used, of classes
        with at least five patients.

    Returns
    -------
    Guess or None
        AUC for two classes, otherwise balanced accuracy; None where one site or one class is left.
    """
    rows = cases[(cases["side"] == "development") & (cases["label"] != "") & (cases["site"] != "")]
    rows = rows[_frequent(rows, "label")]
    classes, truth = np.unique(rows["label"].to_numpy(dtype=str), return_inverse=True)
    sites, site = np.unique(rows["site"].to_numpy(dtype=str), return_inverse=True)
    if len(sites) < 2 or len(classes) < 2:
        return None
    model = CategoricalNB(fit_prior=False, min_categories=len(sites))
    scores = _held_out(model, site[:, None], truth, rows["patient"], seed, "predict_proba")
    once = rows.drop_duplicates(["patient", "site", "label"])
    v = cramers_v(pd.crosstab(once["site"], once["label"]).to_numpy())
    if len(classes) == 2:
        return Guess("AUC", float(roc_auc_score(truth, scores[:, 1])), 0.5, len(rows), v)
    value = float(balanced_accuracy_score(truth, scores.argmax(axis=1)))
    return Guess("balanced accuracy", value, 1 / len(classes), len(rows), v)


def site_predicts_labels(cases: pd.DataFrame, targets: pd.DataFrame, seed: int = 0) -> dict[str, Guess | None]:
    """Ask of every label of a multilabel cohort, by itself, whether the site gives it away.

    Parameters
    ----------
    cases : pandas.DataFrame
        As `site_predicts_label` takes them.
    targets : (n, n_labels) pandas.DataFrame
        A column per label: 1 where it is there, 0 where it is not, NaN where it is not known (those are left out).

    Returns
    -------
    dict
        From label to its AUC.
    """
    said = {1.0: "present", 0.0: "absent"}
    return {
        str(name): site_predicts_label(cases.assign(label=targets[name].map(said).fillna("")), seed) for name in targets
    }


def mean_over_labels(guesses: Mapping[str, Guess | None]) -> Guess | None:
    """Take the mean AUC over the labels that have one; `n` is of the label with the most cases.

    The mean and not the highest, whose value without any relation would lie above .5.
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

    Returns
    -------
    Guess or None
        None where one site is left.
    """
    used = (_frequent(cases, "site") & (cases["site"] != "")).to_numpy()
    rows = cases[used]
    sites, site = np.unique(rows["site"].to_numpy(dtype=str), return_inverse=True)
    if len(sites) < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    guessed = _held_out(model, intensities[used], site, rows["patient"], seed, "predict")
    return Guess("balanced accuracy", float(balanced_accuracy_score(site, guessed)), 1 / len(sites), len(rows))


def _frequent(cases: pd.DataFrame, column: str) -> pd.Series:
    return cases.groupby(column)["patient"].transform("nunique") >= FOLDS


def _held_out(
    model: Any, features: NDArray[Any], truth: NDArray[Any], patients: pd.Series, seed: int, method: str
) -> NDArray[Any]:
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return np.asarray(cross_val_predict(model, features, truth, groups=patients, cv=folds, method=method))


def cramers_v(counts: NDArray[np.int_]) -> float | None:
    """Relate two columns by their (r, k) table of counts, without the upward bias of small samples (Bergsma 2013)."""
    n, (r, k) = int(counts.sum()), counts.shape
    if n <= max(r, k):
        return None
    phi2 = chi2_contingency(counts, correction=False).statistic / n
    above_chance = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    fewest = min(size - (size - 1) ** 2 / (n - 1) for size in (r, k))
    return float(np.sqrt(above_chance / (fewest - 1)))
