import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.metrics import log_loss

from pipeline.assessing.calibrators import Temperature, cross_fitted, fit_temperature


def overconfident(n, temperature, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes)) * 2
    labels = np.array([rng.choice(n_classes, p=row) for row in softmax(logits, axis=1)])
    return logits * temperature, labels


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
        np.testing.assert_array_equal(Temperature(value).apply(logits).argmax(axis=1), logits.argmax(axis=1))


def test_scikit_learn_finds_the_same_map():
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator
    from sklearn.linear_model import LogisticRegression

    logits, labels = overconfident(500, 1.7)
    scores = LogisticRegression(max_iter=500).fit(logits, labels)
    scores.coef_, scores.intercept_ = np.eye(3), np.zeros(3)  # its decision function is now the logits themselves
    oracle = CalibratedClassifierCV(FrozenEstimator(scores), method="temperature").fit(logits, labels)
    ours = fit_temperature(logits, labels).apply(logits)
    np.testing.assert_allclose(ours, oracle.predict_proba(logits), atol=2e-3)


def test_logits_that_say_nothing_are_calibrated_to_nearly_equal_chances():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(100, 2)) * 5, rng.integers(0, 2, 100)
    labels[:50] = logits[:50].argmin(axis=1)
    assert np.abs(fit_temperature(logits, labels).apply(logits) - 0.5).max() < 0.06


def test_no_case_is_judged_by_its_own_fit():
    """Changing every label of a fold changes nothing in that fold's own probabilities."""
    logits, labels = overconfident(90, 2.0, 2)
    folds = np.repeat(["0", "1", "2"], 30)
    before, temperatures = cross_fitted(logits, labels, folds)
    flipped = np.where(folds == "1", 1 - labels, labels)
    after, others = cross_fitted(logits, flipped, folds)
    np.testing.assert_array_equal(after[folds == "1"], before[folds == "1"])
    assert others["1"] == temperatures["1"] and others["0"] != temperatures["0"]


def test_one_fold_cannot_be_cross_fitted():
    with pytest.raises(ValueError, match="two folds"):
        cross_fitted(np.zeros((3, 2)), np.zeros(3, dtype=int), np.array(["0"] * 3))


def several_labels(n, temperature, unknown=0.3, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 2, (n, 3))
    labels = (rng.random(logits.shape) < expit(logits)).astype(float)
    labels[rng.random(logits.shape) < unknown] = np.nan
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_one_temperature_is_found_over_all_known_pairs_of_case_and_label(temperature):
    logits, labels = several_labels(8000, temperature)
    found = fit_temperature(logits, labels)
    assert found.value == pytest.approx(temperature, rel=0.05) and found.activation == "sigmoid"
    known = np.isfinite(labels)
    np.testing.assert_allclose(found.apply(logits), expit(logits / found.value))
    losses = [log_loss(labels[known], expit(logits[known] / (found.value * f))) for f in (0.97, 1, 1.03)]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_a_logit_of_a_pair_that_is_not_known_moves_no_temperature():
    logits, labels = several_labels(200, 1.5)
    wild = np.where(np.isnan(labels), 50.0, logits)
    assert fit_temperature(wild, labels) == fit_temperature(logits, labels)


def test_one_label_by_itself_has_the_temperature_of_two_classes():
    logits, labels = several_labels(300, 1.5, unknown=0)
    both = np.stack([np.zeros(300), logits[:, 0]], axis=1)
    of_two = fit_temperature(both, labels[:, 0].astype(int))
    alone = fit_temperature(logits[:, :1], labels[:, :1])
    assert alone.value == pytest.approx(of_two.value, rel=1e-6)
    np.testing.assert_allclose(alone.apply(logits[:, :1])[:, 0], of_two.apply(both)[:, 1], rtol=1e-6)


def test_several_labels_are_cross_fitted_as_classes_are():
    logits, labels = several_labels(90, 2.0)
    folds = np.repeat(["0", "1", "2"], 30)
    probabilities, temperatures = cross_fitted(logits, labels, folds)
    expected = fit_temperature(logits[folds != "1"], labels[folds != "1"])
    assert temperatures["1"] == expected.value
    np.testing.assert_array_equal(probabilities[folds == "1"], expected.apply(logits[folds == "1"]))
