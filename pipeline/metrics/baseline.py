"""Baselines without images: predictions from the site, age or sex alone, which the model must improve on."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from pipeline.metrics import discrimination, multilabel
from pipeline.metrics.bootstrap import estimate_all
from pipeline.metrics.discrimination import Labels
from pipeline.metrics.levels import factor_of
from pipeline.metrics.paired_tests import delong, paired_difference
from pipeline.metrics.subgroups import COLUMN, as_text, is_measured
from pipeline.metrics.summary import counts_of, in_columns, limits_of

Floats = NDArray[np.float64]
Metric = Callable[[Floats], Floats]

C = 1.0  # inverse regularisation strength as in scikit-learn; fixed, since baselines are not tuned
POOLED, WITHIN = "all cases together", "mean of folds"
BASELINES = [
    *("baseline", "over", "n", "patients", "events"),
    *limits_of("auc", "model_auc", "difference"),
    *("standard_error", "minimum_detectable_difference", "p_delong"),
]


def baselines_of(names: Sequence[str]) -> dict[str, list[str]]:
    """List each baseline with the columns of a table of cases that it uses.

    Examples
    --------
    >>> baselines_of(["age", "sex"])
    {'site': ['site'], 'age, sex': ['column_age', 'column_sex'], 'site, age, sex': ['site', 'column_age', 'column_sex']}
    """
    further = [f"{COLUMN}{name}" for name in names]
    if not further:
        return {"site": ["site"]}
    joined = ", ".join(names)
    return {"site": ["site"], joined: further, f"site, {joined}": ["site", *further]}


def prediction_from_columns(
    train: pd.DataFrame, train_labels: Labels, evaluated: pd.DataFrame, n_classes: int
) -> Floats:
    """Predict cases by a logistic regression on table columns, fitted on the training cases of their fold.

    Words are one-hot encoded, a missing one as a category of its own; numbers are standardised and enter linearly, a
    missing one as the median with an indicator. The ridge penalty has a fixed `C`.

    Parameters
    ----------
    train, evaluated : pandas.DataFrame
        The same columns of m training cases and of n cases to evaluate. The training cases decide which columns are
        numbers.
    train_labels : (m,) int or (m, K) float
        Class numbers; of a multilabel task 1, 0, and NaN for not known.
    n_classes : int

    Returns
    -------
    (n, K)
        Rows sum to one; of a multilabel task one half for a label that is not known for any training case.
    """
    train, evaluated = train.apply(as_text), evaluated.apply(as_text)
    if train_labels.ndim == 1:
        return _fitted_prediction(train, train_labels, evaluated, n_classes)
    prediction = np.full((len(evaluated), n_classes), 0.5)
    for number, column in enumerate(train_labels.T):
        known = np.isfinite(column)
        if known.any():
            prediction[:, number] = _fitted_prediction(train[known], column[known].astype(np.int64), evaluated, 2)[:, 1]
    return prediction


def _fitted_prediction(
    train: pd.DataFrame, labels: NDArray[np.int64], evaluated: pd.DataFrame, n_classes: int
) -> Floats:
    """Predict probabilities (n, K); classes without training cases get 0."""
    present = np.unique(labels)
    prediction = np.zeros((len(evaluated), n_classes))
    if len(present) == 1:
        prediction[:, present] = 1
        return prediction
    numbers = [column for column in train if is_measured(train[column])]
    model = _regression(numbers, [column for column in train if column not in numbers])
    model.fit(_with_numbers(train, numbers), labels)
    prediction[:, present] = model.predict_proba(_with_numbers(evaluated, numbers))
    return prediction


def number_from_columns(train: pd.DataFrame, numbers: Floats, evaluated: pd.DataFrame) -> Floats:
    """Predict numbers (n,) by a ridge regression on table columns, encoded as for `prediction_from_columns`.

    Parameters
    ----------
    train, evaluated : pandas.DataFrame
        The same columns of m training cases and of n cases to evaluate; without columns, the mean is predicted.
    numbers : (m,)
        Numbers of the training cases.
    """
    if train.shape[1] == 0:
        return np.full(len(evaluated), numbers.mean())
    train, evaluated = train.apply(as_text), evaluated.apply(as_text)
    measured = [column for column in train if is_measured(train[column])]
    model = _regression(measured, [column for column in train if column not in measured], Ridge(1 / C))
    return np.asarray(model.fit(_with_numbers(train, measured), numbers).predict(_with_numbers(evaluated, measured)))


def encoder_of(train: pd.DataFrame) -> Callable[[pd.DataFrame], Floats]:
    """Encode columns of training cases as `prediction_from_columns` does; the result encodes a table as (n, k)."""
    train = train.apply(as_text)
    measured = [column for column in train if is_measured(train[column])]
    encode = _encoding(measured, [column for column in train if column not in measured])
    encode.fit(_with_numbers(train, measured))

    def encoded(table: pd.DataFrame) -> Floats:
        found = encode.transform(_with_numbers(table.apply(as_text), measured))
        return np.asarray(found.toarray() if hasattr(found, "toarray") else found, dtype=np.float64)

    return encoded


def _with_numbers(table: pd.DataFrame, numbers: Sequence[str]) -> pd.DataFrame:
    return table.assign(**{column: pd.to_numeric(table[column], errors="coerce") for column in numbers})


def _regression(numbers: list[str], words: list[str], last: Any = None) -> Pipeline:
    return make_pipeline(_encoding(numbers, words), last or LogisticRegression(C=C, max_iter=1000))


def _encoding(numbers: list[str], words: list[str]) -> ColumnTransformer:
    measured = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    return ColumnTransformer([("words", OneHotEncoder(handle_unknown="ignore"), words), ("numbers", measured, numbers)])


def baseline_table(
    model: Floats,
    baselines: Mapping[str, Floats],
    labels: Labels,
    patients: NDArray[np.str_],
    *,
    weights: Floats,
    confidence: float,
    folds: NDArray[np.str_] | None = None,
) -> pd.DataFrame:
    """Compare the AUC of the model with that of each baseline on the same cases.

    Pooled predictions of several folds mix models of different offsets, which biases the AUC of a baseline most: a fold
    with more held-out events has fewer training events, so its predictions are lower where they should be higher, and
    the AUC of the site alone falls below 0.5. So with `folds` every baseline has a second row, the mean AUC within
    folds, in which offsets cancel; if both rows differ, rely on that one.

    Parameters
    ----------
    model : (n, K)
    baselines : mapping of (n, K)
        By name, see `prediction_from_columns`.
    labels : (n,) int or (n, K) float
        Class numbers; of a multilabel task 1, 0, and NaN for not known.
    patients : (n,) str
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    folds : (n,) str, optional
        The fold that held each case out; None if one model evaluated all cases.

    Returns
    -------
    pandas.DataFrame
        Columns `BASELINES`. `over` is `POOLED` or `WITHIN`; AUCs are macro averages over classes or labels;
        `difference` is model minus baseline on the same replicates, `standard_error` its standard deviation over them,
        and `minimum_detectable_difference` is found with a power of 80 %. For two classes, pooled, `p_delong` tests the
        same difference without resampling (`paired_tests.delong`, clustered by patient).
    """
    counts = counts_of_known(labels, patients, model.shape[1])
    ways = {POOLED: _auc} | ({WITHIN: partial(_auc_within, folds)} if folds is not None else {})
    delongs = {name: _delong(model, one, labels, patients, confidence=confidence) for name, one in baselines.items()}
    rows = [
        {"baseline": name, "over": over, **counts}
        | _compared(partial(auc, model, labels), partial(auc, prediction, labels), weights, confidence)
        | {"p_delong": delongs[name] if over == POOLED else np.nan}
        for name, prediction in baselines.items()
        for over, auc in ways.items()
    ]
    return pd.DataFrame(rows, columns=BASELINES)


def pooled_and_within(
    folds: NDArray[np.str_], drawn: Callable[[NDArray[np.bool_]], dict[str, Floats]]
) -> dict[str, dict[str, Floats]]:
    """Compute metrics on all cases together and, of several folds, their means within folds.

    The model of each fold has an offset of its own, which biases metrics of pooled predictions but cancels within folds
    (see `baseline_table`).

    Parameters
    ----------
    folds : (n,)
        The fold that evaluates each case.
    drawn : callable
        From marks (n,) of cases to metrics by name, each (R,).

    Returns
    -------
    dict
        The metrics by `POOLED` and, of several folds, by `WITHIN`.
    """
    found, names = {POOLED: drawn(np.ones(len(folds), dtype=np.bool_))}, np.unique(folds)
    if len(names) > 1:
        with np.errstate(invalid="ignore"):  # replicates without a patient of a fold
            of_fold = [drawn(folds == name) for name in names]
        found[WITHIN] = {key: _mean_of_folds(np.stack([one[key] for one in of_fold])) for key in found[POOLED]}
    return found


def _compared(model: Metric, baseline: Metric, weights: Floats, confidence: float) -> dict[str, Any]:
    found = estimate_all({"auc": baseline, "model_auc": model}, weights, confidence)
    apart = paired_difference(model, baseline, weights, confidence).as_json()
    limits = in_columns({**{name: one.as_json() for name, one in found.items()}, "difference": apart})
    return limits | {"standard_error": apart["se"], "minimum_detectable_difference": apart["minimum_detectable"]}


def _delong(model: Floats, baseline: Floats, labels: Labels, patients: NDArray[np.str_], *, confidence: float) -> float:
    if labels.ndim == 2 or model.shape[1] > 2:
        return float("nan")
    z = delong(model[:, 1], baseline[:, 1], labels == 1, patients).z / np.sqrt(factor_of(confidence))
    return float(2 * norm.sf(abs(z)))


def _auc(probabilities: Floats, labels: Labels, weights: Floats) -> Floats:
    return (multilabel.macro_auc if labels.ndim == 2 else discrimination.macro_auc)(probabilities, labels, weights)


def _auc_within(folds: NDArray[np.str_], probabilities: Floats, labels: Labels, weights: Floats) -> Floats:
    """Compute the mean AUC (R,) over the folds that have one; these are the same folds for model and baseline."""
    inside = [folds == fold for fold in np.unique(folds)]
    return _mean_of_folds(np.stack([_auc(probabilities[mask], labels[mask], weights[:, mask]) for mask in inside]))


def _mean_of_folds(of_fold: Floats) -> Floats:
    """Average values (F, R) over the folds that have one; NaN (R,) where no fold has."""
    there = np.isfinite(of_fold)
    return discrimination.ratio(np.where(there, of_fold, 0).sum(axis=0), there.sum(axis=0).astype(np.float64))


def counts_of_known(labels: Labels, patients: NDArray[np.str_], n_classes: int) -> dict[str, int]:
    """Count cases with a known label, their patients, and events as in `summary.counts_of`."""
    if labels.ndim == 1:
        return counts_of(labels, patients, n_classes)
    used = np.isfinite(labels).any(axis=1)
    return {"n": int(used.sum()), "patients": len(set(patients[used])), "events": int((labels == 1).sum())}
