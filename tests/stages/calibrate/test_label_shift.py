"""Another prevalence, against samples in which it is one."""

import numpy as np
import pytest

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.stages.calibrate import label_shift
from pipeline.stages.calibrate.label_shift import at_prevalence, prevalence_table


def drawn(n, prevalence, seed=0):
    """Predictions that are right at this prevalence, of scores normal in both classes (so labels alone are shifted)."""
    rng = np.random.default_rng(seed)
    events = rng.random(n) < prevalence
    odds = np.exp(1.5 * (rng.normal(size=n) + 1.5 * events - 0.75)) * prevalence / (1 - prevalence)
    return odds / (1 + odds), events


def ones(n):
    return np.ones((3, n))  # the sample, and two replicates that drew it again


def test_at_prevalence_equals_a_sample_of_that_prevalence():
    prediction, events = drawn(60000, 0.5)
    there, really = drawn(60000, 0.1, seed=1)
    table = (
        prevalence_table(prediction, events, prevalences=[0.1], threshold=0.15, weights=ones(60000), confidence=0.95)
        .set_index("corrected")
        .loc[True]
    )
    direct = prevalence_table(
        there, really, prevalences=[float(really.mean())], threshold=0.15, weights=ones(60000), confidence=0.95
    ).iloc[0]
    for metric in ("log_loss", "brier", "ppv", "npv", "net_benefit"):
        assert table[metric] == pytest.approx(direct[metric], rel=0.03, abs=0.002)


def test_predictions_that_are_not_corrected_pay_for_it():
    prediction, events = drawn(20000, 0.5)
    table = prevalence_table(
        prediction, events, prevalences=[0.05], threshold=0.1, weights=ones(20000), confidence=0.95
    ).set_index("corrected")
    assert table.loc[True, "log_loss"] < table.loc[False, "log_loss"] - 0.1
    assert table.loc[True, "net_benefit"] > table.loc[False, "net_benefit"]


def test_the_predictive_values_are_bayes_rule():
    prediction, events = drawn(500, 0.4)
    found = prevalence_table(
        prediction, events, prevalences=[0.02], threshold=0.5, weights=ones(500), confidence=0.95
    ).iloc[0]
    sensitivity, specificity = (prediction[events] >= 0.5).mean(), (prediction[~events] < 0.5).mean()
    positive, negative = sensitivity * 0.02, (1 - specificity) * 0.98
    assert found["ppv"] == pytest.approx(positive / (positive + negative), abs=1e-6)
    assert found["npv"] == pytest.approx(specificity * 0.98 / (specificity * 0.98 + 0.02 - positive), abs=1e-6)
    assert found["net_benefit"] == pytest.approx(positive - negative, abs=1e-6)


def test_at_the_prevalence_they_have_nothing_changes():
    prediction, events = drawn(400, 0.3)
    table = prevalence_table(
        prediction, events, prevalences=[float(events.mean())], threshold=0.2, weights=ones(400), confidence=0.95
    )
    both, labels = np.stack([1 - prediction, prediction], axis=1), events.astype(np.int64)
    assert table["log_loss"].tolist() == pytest.approx(
        [discrimination.log_loss(both, labels, ones(400))[0]] * 2, abs=1e-6
    )
    assert table["brier"].tolist() == pytest.approx([discrimination.brier(both, labels, ones(400))[0]] * 2, abs=1e-6)


def test_predictions_fitted_elsewhere_are_corrected_from_there():
    prediction, _ = drawn(400, 0.3)
    labels, both = (np.arange(400) % 2).astype(np.int64), np.stack([1 - prediction, prediction], axis=1)
    found, _ = at_prevalence(both, labels, ones(400), np.array([0.7, 0.3]), fitted=np.array([0.7, 0.3]))
    np.testing.assert_allclose(found, both)
    moved, _ = at_prevalence(both, labels, ones(400), np.array([0.7, 0.3]))
    odds = prediction / (1 - prediction) * 3 / 7
    np.testing.assert_allclose(moved[:, 1], odds / (1 + odds))


def test_every_replicate_has_the_declared_prevalence_in_every_class():
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), 90), np.arange(90) % 3
    weights, declared = cluster_weights(np.arange(90).astype(str), 50, 0), np.array([0.7, 0.2, 0.1])
    found, shares = at_prevalence(probabilities, labels, weights, declared)
    np.testing.assert_allclose(shares @ np.eye(3)[labels], np.tile(declared, (51, 1)))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    order = np.array([2, 0, 1])
    renamed, _ = at_prevalence(probabilities[:, order], np.argsort(order)[labels], weights, declared[order])
    np.testing.assert_allclose(renamed, found[:, order])


def test_a_replicate_without_a_class_has_no_metric():
    probabilities, weights = np.full((4, 2), 0.5), np.array([[1.0, 1, 1, 1], [2, 2, 0, 0]])
    _, shares = at_prevalence(probabilities, np.array([0, 0, 1, 1]), weights, np.array([0.9, 0.1]))
    assert np.isfinite(shares[0]).all()
    assert np.isnan(discrimination.log_loss(probabilities, np.array([0, 0, 1, 1]), shares)[1])


def test_an_invalid_prevalence_is_an_error_and_no_events_give_no_table():
    prediction, events = drawn(50, 0.4)
    for prevalence in (0.0, 1.0, 1.2):
        with pytest.raises(ValueError, match="a share above 0"):
            prevalence_table(
                prediction, events, prevalences=[prevalence], threshold=0.2, weights=ones(50), confidence=0.95
            )
    none = prevalence_table(
        prediction, np.zeros(50, dtype=bool), prevalences=[0.2], threshold=0.2, weights=ones(50), confidence=0.95
    )
    assert (list(none.columns), len(none)) == (label_shift.AT_PREVALENCE, 0)


def test_images_that_repeat_a_patient_do_not_shrink_an_interval():
    prediction, events = drawn(150, 0.4)
    patients = np.arange(150).astype(str)
    widths = []
    for times in (1, 3):
        known = [np.repeat(one, times) for one in (prediction, events, patients)]
        row = prevalence_table(
            known[0],
            known[1],
            prevalences=[0.1],
            threshold=0.2,
            weights=cluster_weights(known[2], 300, 0),
            confidence=0.95,
        ).iloc[1]
        widths.append(row["brier_upper"] - row["brier_lower"])
    assert widths[0] == pytest.approx(widths[1], abs=2e-6)
