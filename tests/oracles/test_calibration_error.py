"""The calibration error beside netcal, torchmetrics and MONAI, and where torchmetrics and MAPIE are wrong."""

import numpy as np
import pytest
import torch

from pipeline.metrics import calibration

BINS = 15
TRUE_ERROR = np.log(2) / 2 - 1 / 4  # of `overconfident` predictions


def overconfident(n=2000, seed=0):
    """Predictions (n,) of temperature 1/2, and events (n,)."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p**2 / (p**2 + (1 - p) ** 2), rng.random(n) < p


def three_classes(n=500, seed=1):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), n)
    return probabilities, (rng.random((n, 1)) > probabilities.cumsum(axis=1)).sum(axis=1)


def ours(prediction, events, bins=BINS, mass=False):
    return calibration.calibration_error(prediction, events, np.ones((1, len(events))), bins, mass=mass)[0]


def tensors(*arrays):
    return [torch.tensor(array.astype(int) if array.dtype == bool else array) for array in arrays]


@pytest.mark.parametrize("mass", [False, True])
def test_netcal_gives_the_same_error_of_yes_and_no(mass):
    netcal = pytest.importorskip("netcal.metrics")
    prediction, events = overconfident()
    theirs = netcal.ECE(BINS, equal_intervals=not mass).measure(prediction, events.astype(int))
    assert ours(prediction, events, mass=mass) == pytest.approx(theirs, abs=1e-12)


def test_netcal_gives_the_same_error_of_the_top_label():
    netcal = pytest.importorskip("netcal.metrics")
    probabilities, labels = three_classes()
    top = calibration.evaluated_confidence(probabilities, labels)
    assert ours(*top) == pytest.approx(netcal.ECE(BINS).measure(probabilities, labels), abs=1e-12)


def test_torchmetrics_gives_the_same_errors_where_nobody_is_certain():
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    prediction, events = overconfident()
    of_one = theirs.binary_calibration_error(*tensors(prediction, events), n_bins=BINS)
    assert ours(prediction, events) == pytest.approx(float(of_one), abs=1e-7)
    squared = calibration.squared_error(prediction, events, np.ones((1, len(events))), BINS)[0]
    root = theirs.binary_calibration_error(*tensors(prediction, events), n_bins=BINS, norm="l2")
    assert squared == pytest.approx(float(root) ** 2, abs=1e-7)
    probabilities, labels = three_classes()
    top = calibration.evaluated_confidence(probabilities, labels)
    of_many = theirs.multiclass_calibration_error(*tensors(probabilities, labels), num_classes=3, n_bins=BINS)
    assert ours(*top) == pytest.approx(float(of_many), abs=1e-6)


def test_torchmetrics_puts_certainty_into_a_bin_of_its_own_beyond_the_last():
    """Its issue 3510: five cases in one bin of observed .8 and prediction .988 become two bins."""
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    prediction, events = np.array([1, 1, 1, 0.97, 0.97]), np.array([1, 1, 0, 1, 1], dtype=bool)
    assert ours(prediction, events) == pytest.approx(abs(0.8 - 0.988))
    wrong = theirs.binary_calibration_error(*tensors(prediction, events), n_bins=BINS)
    assert float(wrong) == pytest.approx((3 * abs(2 / 3 - 1) + 2 * abs(1 - 0.97)) / 5)


def test_monai_gives_the_same_error_of_each_class():
    pytest.importorskip("monai", minversion="1.6")
    from monai.metrics import CalibrationErrorMetric

    probabilities, labels = three_classes()
    metric = CalibrationErrorMetric(num_bins=BINS)
    columns = (probabilities.T, np.eye(3)[labels].T)
    metric(*tensors(*(np.ascontiguousarray(one)[None] for one in columns)))
    theirs = float(metric.aggregate())
    errors = [ours(prediction, labels == number) for number, prediction in enumerate(probabilities.T)]
    assert np.mean(errors) == pytest.approx(theirs, abs=1e-6)


def test_mapie_makes_one_bin_too_few():
    mapie = pytest.importorskip("mapie.metrics.calibration")
    prediction, events = overconfident()
    wrong = mapie.expected_calibration_error(events.astype(int), prediction, num_bins=BINS, split_strategy="uniform")
    assert wrong == pytest.approx(ours(prediction, events, bins=BINS - 1), abs=1e-12)
    assert wrong != pytest.approx(ours(prediction, events), abs=1e-6)


def test_mapie_finds_no_error_in_unsorted_predictions_that_are_far_off():
    mapie = pytest.importorskip("mapie.metrics.calibration")
    prediction, events = overconfident(20000)
    wrong = mapie.expected_calibration_error(
        events.astype(int), prediction, num_bins=BINS, split_strategy="array split"
    )
    assert wrong < 0.01 < TRUE_ERROR
    assert ours(prediction, events, mass=True) == pytest.approx(TRUE_ERROR, abs=0.01)


def test_mapie_finds_a_large_error_in_perfect_predictions_of_two_columns():
    mapie = pytest.importorskip("mapie.metrics.calibration")
    rng = np.random.default_rng(0)
    p = rng.random(20000)
    events = rng.random(20000) < p
    wrong = mapie.expected_calibration_error(events.astype(int), np.stack([1 - p, p], axis=1), num_bins=BINS)
    assert wrong > 0.2  # it takes the class for whether the more probable one was right
    assert ours(p, events) < 0.02
