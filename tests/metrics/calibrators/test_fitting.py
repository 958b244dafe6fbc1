import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_softmax, softmax
from sklearn.calibration import CalibratedClassifierCV, _SigmoidCalibration
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pipeline.metrics.calibrators import fitting
from pipeline.metrics.calibrators.fitting import (
    METHODS,
    Temperature,
    Unsuitable,
    fit,
    fit_temperature,
    suitable,
)
from tests.metrics.calibrators.simulated import (
    EVERY_MAP,
    OF_THREE,
    OF_TWO,
    cases_of,
    drawn,
    overconfident,
    overconfident_of_two,
    several_labels,
)

DIRICHLET = np.array([[0.6, 0.1, -0.1], [0.1, 0.5, 0.1], [-0.1, -0.1, 0.8]])  # off the diagonal a column sums to 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_temperature_that_was_put_in_is_found(temperature, n_classes):
    logits, labels = overconfident(20_000, temperature, n_classes)
    assert fit_temperature(logits, labels).value == pytest.approx(temperature, rel=0.05)


def test_the_log_loss_has_its_minimum_there():
    logits, labels = overconfident(300, 2.0)
    best = fit_temperature(logits, labels).value
    losses = [log_loss(labels, Temperature(best * factor).apply(logits)) for factor in (0.97, 1, 1.03)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_temperature_keeps_the_most_probable_class():
    logits, _ = overconfident(200, 1.0)
    for value in (0.1, 1, 30):
        assert_array_equal(Temperature(value).apply(logits).argmax(axis=1), logits.argmax(axis=1))


def test_scikit_learn_finds_the_same_temperature():
    logits, labels = overconfident(500, 1.7)
    scores = LogisticRegression(max_iter=500).fit(logits, labels)
    scores.coef_, scores.intercept_ = np.eye(3), np.zeros(3)  # its decision function is now the logits themselves
    oracle = CalibratedClassifierCV(FrozenEstimator(scores), method="temperature").fit(logits, labels)
    ours = fit_temperature(logits, labels).apply(logits)
    assert_allclose(ours, oracle.predict_proba(logits), atol=2e-3)


def test_scikit_learn_of_two_classes_says_half_of_the_inverse_temperature():
    """It makes [-x, x] of the margin x; so 1 / beta_ is not the temperature there, and half of 1 / beta_ is."""
    logits, labels = overconfident_of_two(2000)
    scores = LogisticRegression().fit(logits, labels)
    scores.coef_, scores.intercept_ = np.array([[-1.0, 1.0]]), np.zeros(1)
    oracle = CalibratedClassifierCV(FrozenEstimator(scores), method="temperature").fit(logits, labels)
    inverse = oracle.calibrated_classifiers_[0].calibrators[0].beta_
    assert fit_temperature(logits, labels).value == pytest.approx(1 / (2 * inverse), rel=2e-3)


def test_logits_that_say_nothing_are_calibrated_to_nearly_equal_chances():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(100, 2)) * 5, rng.integers(0, 2, 100)
    labels[:50] = logits[:50].argmin(axis=1)
    assert np.abs(fit_temperature(logits, labels).apply(logits) - 0.5).max() < 0.06


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_one_temperature_is_found_over_all_known_pairs_of_case_and_label(temperature):
    logits, labels = several_labels(8000, temperature)
    found = fit_temperature(logits, labels)
    assert found.value == pytest.approx(temperature, rel=0.05) and found.activation == "sigmoid"
    known = np.isfinite(labels)
    assert_allclose(found.apply(logits), expit(logits / found.value))
    losses = [log_loss(labels[known], expit(logits[known] / (found.value * f))) for f in (0.97, 1, 1.03)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_one_label_by_itself_has_the_temperature_of_two_classes():
    logits, labels = several_labels(300, 1.5, unknown=0)
    both = np.stack([np.zeros(300), logits[:, 0]], axis=1)
    of_two = fit_temperature(both, labels[:, 0].astype(int))
    alone = fit_temperature(logits[:, :1], labels[:, :1])
    assert alone.value == pytest.approx(of_two.value, rel=1e-6)
    assert_allclose(alone.apply(logits[:, :1])[:, 0], of_two.apply(both)[:, 1], rtol=1e-6)


def test_doubled_logits_have_temperature_two_and_slope_one_half():
    logits, labels = overconfident_of_two(20_000)
    assert fit("temperature", logits, labels).value == pytest.approx(2, rel=0.05)
    platt, beta = fit("platt", logits, labels), fit("beta", logits, labels)
    assert platt.weights[0] == pytest.approx(0.5, abs=0.02) and platt.intercepts[1] == pytest.approx(0, abs=0.05)
    assert_allclose(beta.weights, 0.5, atol=0.04)
    assert beta.intercepts[1] == pytest.approx(0, abs=0.1)


def test_a_shift_of_the_margin_is_the_intercept_with_its_sign_turned():
    logits, labels = overconfident_of_two(20_000, temperature=1)
    platt = fit("platt", logits + np.array([0, 0.5]), labels)
    assert platt.weights[0] == pytest.approx(1, abs=0.04) and platt.intercepts[1] == pytest.approx(-0.5, abs=0.05)


@pytest.mark.parametrize(
    ("method", "weights"),
    [("platt", 0.5 * np.eye(3)), ("vector", np.diag([0.4, 0.7, 1.1])), ("dirichlet", DIRICHLET)],
)
def test_the_map_of_three_classes_that_was_put_in_is_found(method, weights):
    logits, _ = overconfident(40_000, 1.0)
    intercepts = np.array([0, 0.5, -0.5])
    labels = drawn(softmax(log_softmax(logits, axis=1) @ weights.T + intercepts, axis=1))
    found = fit(method, logits, labels)
    full = {"platt": lambda w: w[0] * np.eye(3), "vector": np.diag, "dirichlet": np.array}[method](found.weights)
    assert_allclose(full, weights, atol=0.06)
    assert_allclose(found.intercepts, intercepts, atol=0.1)


@pytest.mark.parametrize("n", [40, 500])
def test_platt_of_two_classes_is_that_of_scikit_learn(n):
    logits, labels = overconfident_of_two(n)
    ours, oracle = fit("platt", logits, labels), _SigmoidCalibration().fit(logits[:, 1], labels)
    assert_allclose([ours.weights[0], ours.intercepts[1]], [-oracle.a_, -oracle.b_], atol=1e-5)


def test_beta_equals_logistic_regression_on_both_log_probabilities():
    logits, labels = overconfident_of_two(500)
    both = log_softmax(logits, axis=1) * [-1, 1]
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(both, labels)
    ours = fit("beta", logits, labels)
    assert_allclose([*ours.weights, ours.intercepts[1]], [*oracle.coef_[0], oracle.intercept_[0]], atol=1e-4)


def test_dirichlet_without_penalty_equals_multinomial_regression(monkeypatch):
    monkeypatch.setattr(fitting, "SPREAD_OFF_DIAGONAL", 1e6)
    monkeypatch.setattr(fitting, "SPREAD_OF_INTERCEPTS", 1e6)
    logits, labels = overconfident(2000, 2.0)
    known = log_softmax(logits, axis=1)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(known, labels)
    assert_allclose(fit("dirichlet", logits, labels).apply(logits), oracle.predict_proba(known), atol=1e-4)


def test_dirichlet_has_the_lowest_log_loss_with_the_penalty_of_kull():
    logits, labels = overconfident(150, 2.0)
    found, n, k = fit("dirichlet", logits, labels), len(logits), 3
    strengths = k * (k - 1) / (2 * n * 0.1**2), k / (2 * n)

    def penalised(weights, intercepts):
        loss = log_loss(labels, softmax(log_softmax(logits, axis=1) @ weights.T + intercepts, axis=1))
        off = weights[~np.eye(k, dtype=bool)]
        return loss + strengths[0] * (off**2).mean() + strengths[1] * (intercepts**2).mean()

    # The first intercept is written as 0; what was penalised has mean 0.
    weights, intercepts = np.array(found.weights), found.intercepts - np.mean(found.intercepts)
    best, rng = penalised(weights, intercepts), np.random.default_rng(0)
    steps = rng.normal(size=(50, k, k + 1)) * 0.02
    assert all(penalised(weights + step[:, :k], intercepts + step[:, k]) > best for step in steps)


def test_isotonic_equals_scikit_learn_and_is_constant_beyond_its_knots():
    logits, labels = overconfident_of_two(1500)
    oracle = IsotonicRegression().fit(logits[:, 1], labels).predict(logits[:, 1])
    found = fit("isotonic", logits, labels)
    assert_allclose(found.apply(logits)[:, 1], np.clip(oracle, 1 / 1502, 1 - 1 / 1502), atol=1e-12)
    assert oracle.min() == 0 and oracle.max() == 1
    assert_allclose(found.apply(np.array([[99.0, 0.0], [0.0, 99.0]]))[:, 1], [1 / 1502, 1 - 1 / 1502])


@pytest.mark.parametrize("method", OF_TWO[1:])
def test_each_label_is_mapped_as_two_classes_where_it_is_known(method):
    logits, labels = several_labels(2000, 1.5)
    found = fit(method, logits, labels)
    assert found.activation == "sigmoid" and found.method == method
    for column in range(3):
        known, both = np.isfinite(labels[:, column]), np.stack([np.zeros(2000), logits[:, column]], axis=1)
        alone = fit(method, both[known], labels[known, column].astype(int))
        assert_allclose(found.apply(logits)[:, column], alone.apply(both)[:, 1])


@pytest.mark.parametrize("method", OF_TWO)
def test_a_logit_of_a_pair_that_is_not_known_moves_no_map(method):
    logits, labels = several_labels(2000, 1.5)
    wild = np.where(np.isnan(labels), 50.0, logits)
    assert fit(method, wild, labels) == fit(method, logits, labels)


@pytest.mark.parametrize("method", ["temperature", "platt", "beta"])
def test_predictions_that_are_all_wrong_are_not_turned_around(method):
    logits, labels = overconfident_of_two(300)
    found = fit(method, logits, 1 - labels).apply(np.array([[0.0, -3.0], [0.0, 3.0]]))[:, 1]
    assert found[0] < found[1] < found[0] + 0.2


@pytest.mark.parametrize(("task", "method"), EVERY_MAP)
def test_separated_classes_have_finite_maps_and_no_infinite_log_loss(task, method):
    logits, _ = cases_of(task, 1500)
    labels = (logits > 0).astype(float) if task == "labels" else logits.argmax(axis=1)
    found = fit(method, logits, labels)
    probabilities = found.apply(logits)
    chosen = probabilities[labels == 1] if task == "labels" else probabilities[np.arange(1500), labels]
    json.dumps(found.as_json(), allow_nan=False)
    assert np.isfinite(probabilities).all() and (chosen > 0).all()


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ((2, False, 999), ("none", "temperature", "platt", "beta")),
        ((2, False, 1000), ("none", *OF_TWO)),
        ((3, False, 49), ("none", "temperature", "platt")),
        ((3, False, 50), ("none", "temperature", "platt", "vector")),
        ((3, False, 80), ("none", *OF_THREE)),
        ((5, True, 1000), ("none", *OF_TWO)),
    ],
)
def test_suitable_lists_methods_in_ascending_number_of_parameters(case, expected):
    assert suitable(*case) == expected


@pytest.mark.parametrize(("task", "method"), [some for some in EVERY_MAP if some[1] != "isotonic"])
def test_parameters_are_counted_as_softmax_can_tell_them_apart(task, method):
    per_map = {"temperature": 1, "platt": 3 if task == "three" else 2, "vector": 5, "dirichlet": 8, "beta": 3}[method]
    several = 3 if task == "labels" and method != "temperature" else 1
    assert fit(method, *cases_of(task)).n_parameters == per_map * several


@pytest.mark.parametrize(
    ("method", "task", "change", "message"),
    [
        ("magic", "two", None, f"no calibration method 'magic'; choose one of none, {', '.join(METHODS)}"),
        ("isotonic", "two", lambda z, y: (z[:999], y[:999]), "isotonic needs 1000 cases .* 999; choose temperature"),
        ("isotonic", "labels", lambda z, y: (z[:1200], y[:1200]), "label 0: isotonic needs 1000 cases"),
        ("dirichlet", "three", lambda z, y: (z[:79], y[:79]), "dirichlet needs 80 cases"),
        (
            "vector",
            "two",
            None,
            "vector does not suit 2 classes; choose one of none, temperature, platt, beta, isotonic",
        ),
        (
            "beta",
            "three",
            None,
            "beta does not suit 3 classes; choose one of none, temperature, platt, vector, dirichlet",
        ),
        ("dirichlet", "labels", None, "dirichlet does not suit a multilabel task"),
        ("platt", "three", lambda z, y: (z[y != 1], y[y != 1]), "without a case of class 1; choose temperature"),
        ("beta", "labels", lambda z, y: (z, np.where(y == 1, np.nan, y)), "label 0: beta .* without a case of class 1"),
        ("temperature", "two", lambda z, y: (np.where(y[:, None] == 1, np.nan, z), y), "logits that are not finite"),
    ],
)
def test_a_method_that_does_not_suit_is_refused_with_the_cure(method, task, change, message):
    cases = cases_of(task)
    with pytest.raises(ValueError, match=message) as refused:
        fit(method, *(change(*cases) if change else cases))
    assert isinstance(refused.value, Unsuitable) == (method not in ("magic", "temperature"))
