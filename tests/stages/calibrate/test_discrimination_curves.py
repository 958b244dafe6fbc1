"""ROC and precision-recall curves against scikit-learn and against predictions whose curves are known."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.stages.calibrate.discrimination_curves import (
    RATES,
    THRESHOLDS,
    pr_band,
    precision_at,
    roc_band,
    roc_of_folds,
    sensitivity_at,
    threshold_table,
)
from pipeline.stages.calibrate.utility import net_benefit

FINE = (np.arange(20000) + 0.5) / 20000
METRICS = ("sensitivity", "specificity", "ppv", "npv", "net_benefit")


def cases(n=60, seed=3):
    """Tied scores, and weights as a bootstrap over patients gives them, some of them zero."""
    rng = np.random.default_rng(seed)
    events = rng.random(n) < 0.4
    scores = np.clip(rng.normal(0.4 + 0.2 * events, 0.2), 0, 1).round(1)
    return scores, events, cluster_weights(rng.integers(0, n // 2, n).astype(str), 20, seed)


def test_areas_under_the_curves_equal_scikit_learn_for_every_weighting():
    scores, events, weights = cases()
    roc, pr = sensitivity_at(scores, events, weights, FINE), precision_at(scores, events, weights, FINE)
    for row, of_roc, of_pr in zip(weights, roc, pr, strict=True):
        assert of_roc.mean() == pytest.approx(roc_auc_score(events, scores, sample_weight=row), abs=1e-4)
        assert of_pr.mean() == pytest.approx(average_precision_score(events, scores, sample_weight=row), abs=1e-4)


def test_the_corners_of_scikit_learn_lie_on_the_curves():
    scores, events, weights = cases()
    wrong, right, _ = roc_curve(events, scores, drop_intermediate=False)
    highest = {rate: right[wrong == rate].max() for rate in wrong}
    found = sensitivity_at(scores, events, weights[:1], np.array(list(highest)))[0]
    np.testing.assert_allclose(found, list(highest.values()), atol=1e-12)
    precision, recall, _ = precision_recall_curve(events, scores)
    first = {r: precision[recall == r].max() for r in recall if r > 0 and r < 1}  # of one recall the highest threshold
    found = precision_at(scores, events, weights[:1], np.array(list(first)))[0]
    np.testing.assert_allclose(found, list(first.values()), atol=1e-12)


def test_predictions_of_theory_have_the_curves_of_theory():
    """Events are of density 2s, the others of 2 (1 - s): sensitivity 1 - s^2 at a false-positive rate of (1 - s)^2."""
    scores, events = np.tile(FINE, 2), np.arange(40000) < 20000
    weights = np.concatenate([FINE, 1 - FINE])[None]
    expected = 1 - (1 - np.sqrt(RATES)) ** 2
    np.testing.assert_allclose(sensitivity_at(scores, events, weights, RATES)[0], expected, atol=2e-4)
    s = np.sqrt(1 - RATES[1:])  # at this recall
    np.testing.assert_allclose(
        precision_at(scores, events, weights, RATES[1:])[0], (1 - s**2) / (1 - s**2 + (1 - s) ** 2), atol=2e-4
    )


def test_random_scores_lie_on_the_diagonal_and_on_the_prevalence():
    scores, events, weights = np.full(10, 0.5), np.arange(10) < 3, np.ones((1, 10))
    np.testing.assert_allclose(sensitivity_at(scores, events, weights, RATES)[0], RATES, atol=1e-12)
    np.testing.assert_allclose(precision_at(scores, events, weights, RATES[1:])[0], 0.3)


def test_a_rate_or_a_recall_that_is_just_reached_counts_as_reached():
    """One score in ten after the other, events first: every tenth is a corner of a curve."""
    events, scores = np.tile([True, False], 10), np.arange(20, 0, -1).astype(float)
    tenths = RATES[RATES * 10 % 1 == 0]
    roc = sensitivity_at(scores, events, np.ones((1, 20)), tenths)[0]
    np.testing.assert_allclose(roc, np.minimum(tenths + 0.1, 1), atol=1e-12)
    precision = precision_at(scores, events, np.ones((1, 20)), tenths[1:])[0]
    np.testing.assert_allclose(precision, [found / (2 * found - 1) for found in range(1, 11)], atol=1e-12)


def test_a_weighting_without_events_is_left_out_of_the_band():
    scores, events = np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, False, True, False])
    weights = np.array([[1.0, 1, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]])
    assert np.isnan(sensitivity_at(scores, events, weights, RATES)[1]).all()
    assert np.isnan(precision_at(scores, events, weights, RATES[1:])[1]).all()
    table = roc_band(scores, events, weights, 0.95)
    assert (table["sensitivity_lower"] == table["sensitivity"]).all() and table["sensitivity"].iloc[0] == 0.5


@pytest.mark.parametrize(("table_of", "name"), [(roc_band, "sensitivity"), (pr_band, "precision")])
def test_a_second_image_of_every_patient_makes_no_band_narrower(table_of, name):
    scores, events, _ = cases()
    patients = np.arange(60).astype(str)
    single = table_of(scores, events, cluster_weights(patients, 200, 0), 0.95)
    double = table_of(np.tile(scores, 2), np.tile(events, 2), cluster_weights(np.tile(patients, 2), 200, 0), 0.95)
    np.testing.assert_allclose(double.drop(columns=["n", "events"]), single.drop(columns=["n", "events"]), atol=1e-12)
    assert set(double["n"]) == {120} and set(double["events"]) == {2 * events.sum()}
    inside = single.iloc[1:-1]
    assert (inside[f"{name}_upper"] - inside[f"{name}_lower"]).mean() > 0.05


def test_roc_of_folds_has_the_corners_of_folds_with_both_kinds_of_cases():
    scores, events, _ = cases()
    folds = np.repeat(["0", "1", "2"], 20)
    events = events & (folds != "2")
    table = roc_of_folds(scores, events, folds)
    assert set(table["fold"]) == {"0", "1"}
    wrong, right, _ = roc_curve(events[:20], scores[:20], drop_intermediate=False)
    own = table[table["fold"] == "0"]
    np.testing.assert_allclose(own[["false_positive_rate", "sensitivity"]], np.stack([wrong, right], axis=1))
    none = roc_of_folds(scores, np.zeros(60, bool), folds)
    assert none.empty and list(none) == list(table)


def test_the_counts_at_every_threshold_are_those_of_scikit_learn():
    scores, events, weights = cases()
    table = threshold_table(scores, events, weights, 0.95, patients=np.arange(len(scores)).astype(str))
    assert table["threshold"].tolist() == [number / 100 for number in range(1, 100)]
    for row in table.itertuples():
        tn, fp, fn, tp = confusion_matrix(events, scores >= row.threshold).ravel()
        assert (row.true_positives, row.false_positives, row.positives, row.negatives) == (tp, fp, tp + fn, tn + fp)
        known = (
            tp / (tp + fn),
            tn / (tn + fp),
            tp / (tp + fp) if tp + fp else np.nan,
            tn / (tn + fn) if tn + fn else np.nan,
        )
        np.testing.assert_allclose([row.sensitivity, row.specificity, row.ppv, row.npv], known)
    np.testing.assert_allclose(table["net_benefit"], net_benefit(scores, events, weights[:1], THRESHOLDS)[0])


def test_a_prediction_equal_to_a_threshold_is_positive():
    table = threshold_table(
        np.array([0.29, 0.57]), np.array([True, True]), np.ones((3, 2)), 0.95, patients=np.array(["a", "b"])
    )
    found = table.set_index("threshold")["true_positives"]
    assert (found[0.29], found[0.30], found[0.57], found[0.58]) == (2, 1, 1, 0)
    assert table["specificity"].isna().all() and all(f"{name}_lower" in table for name in METRICS)
