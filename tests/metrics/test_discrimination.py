"""Metrics against closed forms (prediction p uniform on (0, 1), y drawn from it) and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as oracle

from pipeline.metrics import discrimination
from tests.metrics.closed_form import ONE, OVERCONFIDENT, P, Y

TWO_CLASS = np.stack([1 - P, P], axis=1)
LABELS = Y.astype(np.int64)


def small(n=60, n_classes=2, seed=1):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(n_classes), n).round(2) + 1e-9
    return probabilities / probabilities.sum(axis=1, keepdims=True), rng.integers(0, n_classes, n)


def test_perfect_uniform_predictions_have_the_metrics_of_theory():
    assert discrimination.brier(TWO_CLASS, LABELS, ONE)[0] == pytest.approx(1 / 6, abs=1e-3)
    assert discrimination.log_loss(TWO_CLASS, LABELS, ONE)[0] == pytest.approx(1 / 2, abs=1e-3)
    assert discrimination.roc_auc(P, Y, ONE)[0] == pytest.approx(5 / 6, abs=1e-3)


def test_overconfident_predictions_have_the_metrics_of_theory():
    q = np.stack([1 - OVERCONFIDENT, OVERCONFIDENT], axis=1)
    assert discrimination.brier(q, LABELS, ONE)[0] == pytest.approx(3 * np.pi / 8 - 1, abs=1e-3)
    assert discrimination.log_loss(q, LABELS, ONE)[0] == pytest.approx(np.pi / 2 - 1, abs=1e-3)
    assert discrimination.roc_auc(OVERCONFIDENT, Y, ONE)[0] == pytest.approx(5 / 6, abs=1e-3)


def test_a_constant_prediction_errs_by_its_distance_from_the_prevalence():
    events = np.arange(1000) < 300
    c = np.full(1000, 0.42)
    one = np.ones((1, 1000))
    both = np.stack([1 - c, c], axis=1)
    assert discrimination.brier(both, events.astype(int), one)[0] == pytest.approx(0.21 + 0.12**2)
    assert discrimination.roc_auc(c, events, one)[0] == 0.5


@pytest.mark.parametrize("n_classes", [2, 5])
def test_metrics_equal_scikit_learns(n_classes):
    p, y = small(300, n_classes)
    one = np.ones((1, 300))
    found = p.argmax(axis=1)
    assert discrimination.accuracy(p, y, one)[0] == pytest.approx(oracle.accuracy_score(y, found))
    assert discrimination.log_loss(p, y, one)[0] == pytest.approx(oracle.log_loss(y, p))
    if n_classes == 2:
        assert discrimination.macro_auc(p, y, one)[0] == pytest.approx(oracle.roc_auc_score(y, p[:, 1]))
        assert discrimination.brier(p, y, one)[0] == pytest.approx(oracle.brier_score_loss(y, p[:, 1]))
        assert discrimination.sensitivity(p, y, one)[0] == pytest.approx(oracle.recall_score(y, found))
        assert discrimination.specificity(p, y, one)[0] == pytest.approx(oracle.recall_score(1 - y, 1 - found))
    else:
        assert discrimination.macro_auc(p, y, one)[0] == pytest.approx(oracle.roc_auc_score(y, p, multi_class="ovr"))
        assert discrimination.sensitivity(p, y, one)[0] == pytest.approx(oracle.balanced_accuracy_score(y, found))


def test_a_weight_is_a_repetition():
    p, y = small(40)
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, 40)
    repeated = np.repeat(np.arange(40), counts)
    one = np.ones((1, len(repeated)))
    scores, events, weights = p[:, 1], y == 1, counts[None].astype(float)
    pairs = [
        (
            discrimination.roc_auc(scores, events, weights),
            discrimination.roc_auc(scores[repeated], events[repeated], one),
        ),
        (
            discrimination.average_precision(scores, events, weights),
            discrimination.average_precision(scores[repeated], events[repeated], one),
        ),
        (discrimination.log_loss(p, y, weights), discrimination.log_loss(p[repeated], y[repeated], one)),
    ]
    for weighted, plain in pairs:
        np.testing.assert_allclose(weighted, plain, rtol=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_scikit_learns(ties):
    rng = np.random.default_rng(7)
    scores, events = rng.random(200), rng.random(200) < 0.3
    scores = scores.round(1) if ties else scores
    weights = np.vstack([np.ones(200), rng.integers(0, 3, 200)]).astype(float)
    expected = [oracle.average_precision_score(events, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(discrimination.average_precision(scores, events, weights), expected)


def test_average_precision_of_a_constant_score_is_the_prevalence():
    events = np.arange(10) < 3
    weights = np.vstack([np.ones(10), ~events]).astype(float)
    of_constant, without = discrimination.average_precision(np.full(10, 0.4), events, weights)
    assert of_constant == pytest.approx(0.3)
    assert np.isnan(without)


def test_auc_stays_under_any_rising_map_and_ties_count_half():
    p, y = small(100)
    one, events = np.ones((1, 100)), y == 1
    assert discrimination.roc_auc(p[:, 1] ** 3, events, one) == pytest.approx(
        discrimination.roc_auc(p[:, 1], events, one)
    )
    assert discrimination.roc_auc(np.array([0.5, 0.5]), np.array([True, False]), np.ones((1, 2)))[0] == 0.5


def test_metrics_do_not_depend_on_the_order_of_the_cases():
    p, y = small(100)
    order = np.random.default_rng(5).permutation(100)
    one = np.ones((1, 100))
    for metric in (discrimination.macro_auc, discrimination.log_loss, discrimination.brier, discrimination.accuracy):
        np.testing.assert_allclose(metric(p, y, one), metric(p[order], y[order], one))


def test_a_sample_of_one_class_has_no_auc():
    one = np.ones((1, 6))
    assert np.isnan(discrimination.roc_auc(np.arange(6.0), np.ones(6, dtype=bool), one)[0])


def test_the_roc_curve_has_the_area_of_the_auc():
    p, y = small(80)
    x, height = discrimination.roc_curve(p[:, 1], y == 1)
    assert (x[0], height[0], x[-1], height[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(height, x) == pytest.approx(discrimination.roc_auc(p[:, 1], y == 1, np.ones((1, 80)))[0])


@pytest.mark.parametrize("n_classes", [2, 4])
def test_kappa_of_grades_is_scikit_learns(n_classes):
    p, y = small(200, n_classes)
    y = np.where(np.arange(200) % 3 == 0, y, p.argmax(axis=1))
    expected = oracle.cohen_kappa_score(y, p.argmax(axis=1), weights="quadratic")
    assert discrimination.quadratic_kappa(p, y, np.ones((1, 200)))[0] == pytest.approx(expected)
    counts = np.random.default_rng(0).integers(0, 3, 200)
    weighted = oracle.cohen_kappa_score(y, p.argmax(axis=1), weights="quadratic", sample_weight=counts)
    assert discrimination.quadratic_kappa(p, y, counts[None].astype(float))[0] == pytest.approx(weighted)


def test_kappa_is_one_for_perfect_grades_and_nan_for_a_single_grade():
    y = np.array([0, 1, 2, 1])
    one = np.ones((1, 4))
    assert discrimination.quadratic_kappa(np.eye(3)[y], y, one)[0] == 1
    assert discrimination.quadratic_kappa(np.eye(3)[2 - y], y, one)[0] == -1
    assert np.isnan(discrimination.quadratic_kappa(np.eye(3)[[1, 1, 1, 1]], np.ones(4, dtype=int), one)[0])


def test_the_error_of_a_grade_is_that_of_its_median():
    p = np.array([[0.4, 0.3, 0.3], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.45, 0.1, 0.45]])
    y = np.array([0, 0, 0, 1])  # medians 1, 0 (the lower one of a tie), 2, 1
    assert discrimination.grade_error(p, y, np.ones((1, 4)))[0] == pytest.approx((1 + 0 + 2 + 0) / 4)
    assert discrimination.grade_error(p, y, np.array([[0, 0, 1.0, 3.0]]))[0] == pytest.approx(0.5)


def test_no_other_grade_is_expected_to_err_less_than_the_median():
    p, _ = small(50, 5)
    expected = np.abs(np.arange(5)[:, None] - np.arange(5)) @ p.T  # of each answer, for each case
    draws = np.tile(np.arange(5), 50)
    error = discrimination.grade_error(np.repeat(p, 5, axis=0), draws, p.ravel()[None])[0]
    assert error == pytest.approx(expected.min(axis=0).mean())
