import numpy as np
import pytest

from pipeline.metrics.bootstrap import BLOCK, Estimate, cluster_weights, estimate, in_blocks, loss_estimate


def mean_of(values):
    return lambda weights: (weights @ values) / weights.sum(axis=1)


def test_the_first_row_is_the_sample_and_images_are_drawn_by_patient():
    weights = cluster_weights(np.array(["a", "a", "b", "c"]), 200, 0)
    assert weights.shape == (201, 4) and (weights[0] == 1).all()
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[1:, 0] != weights[1:, 2]).any()


def test_the_same_seed_draws_the_same_patients():
    patients = np.arange(30).astype(str)
    np.testing.assert_array_equal(cluster_weights(patients, 50, 3), cluster_weights(patients, 50, 3))
    assert (cluster_weights(patients, 50, 3) != cluster_weights(patients, 50, 4)).any()


def test_weights_drawn_in_blocks_are_those_of_one_multinomial_draw():
    patients, replicates = np.repeat(np.arange(40), 3).astype(str), 2 * BLOCK + 7
    names, rows = np.unique(patients, return_inverse=True)
    drawn = np.random.default_rng(5).multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    np.testing.assert_array_equal(cluster_weights(patients, replicates, 5)[1:], drawn[:, rows])


def test_five_equal_images_a_patient_are_not_five_observations():
    """Naive drawing covers 61 % (theory 61.9 %); drawing patients covers about 95 %."""
    covered = {"patients": 0, "images": 0}
    for seed in range(200):
        values = np.repeat(np.random.default_rng(seed).normal(size=60), 5)
        patients = {"patients": np.repeat(np.arange(60), 5).astype(str), "images": np.arange(300).astype(str)}
        for unit in covered:
            found = estimate(mean_of(values), cluster_weights(patients[unit], 400, seed), 0.95)
            covered[unit] += found.lower <= 0 <= found.upper
    assert covered["patients"] / 200 == pytest.approx(0.945, abs=0.045)
    assert covered["images"] / 200 == pytest.approx(0.62, abs=0.1)


def test_doubling_the_data_set_does_not_narrow_the_interval():
    values, patients = np.random.default_rng(0).normal(size=50), np.arange(50).astype(str)
    once = estimate(mean_of(values), cluster_weights(patients, 1000, 0), 0.95)
    twice = estimate(mean_of(np.tile(values, 2)), cluster_weights(np.tile(patients, 2), 1000, 0), 0.95)
    assert twice.value == pytest.approx(once.value)
    assert twice.upper - twice.lower == pytest.approx(once.upper - once.lower)


def test_a_metric_that_does_not_exist_says_so():
    weights = cluster_weights(np.array(["a", "b"]), 100, 0)
    assert estimate(lambda w: np.full(len(w), np.nan), weights, 0.95) == Estimate(None, None, None)

    def rarely(w):
        return np.where(np.arange(len(w)) % 10 == 0, 1.0, np.nan)

    assert estimate(rarely, weights, 0.95) == Estimate(1.0, None, None)


def test_in_blocks_equals_all_replicates_at_once():
    weights, seen = np.random.default_rng(0).random((2 * BLOCK + 3, 7)), []

    def curve(some):
        seen.append(len(some))
        return some @ np.arange(14).reshape(7, 2)

    np.testing.assert_allclose(in_blocks(curve, weights), weights @ np.arange(14).reshape(7, 2))
    assert seen == [BLOCK, BLOCK, 3]


def test_a_mean_loss_has_symmetric_limits_on_the_logarithmic_scale():
    drawn = np.exp(np.random.default_rng(0).normal(np.log(0.5), 0.1, 20000))
    found = loss_estimate(np.r_[0.5, drawn], 0.95)
    assert [found.lower, found.upper] == pytest.approx([0.5 * np.exp(-0.196), 0.5 * np.exp(0.196)], rel=0.01)
    assert loss_estimate(np.r_[0.0, drawn], 0.95).value == 0
    assert loss_estimate(np.full(5, np.nan), 0.95) == Estimate(None, None, None)
