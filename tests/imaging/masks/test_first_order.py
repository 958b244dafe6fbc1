import numpy as np
import pytest
from scipy.stats import kurtosis, median_abs_deviation, skew

from pipeline.imaging.masks.first_order import NAMES, first_order_features
from tests.imaging.masks.digital_phantom import FIRST_ORDER, INSIDE, PHANTOM


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_the_digital_phantom_has_the_values_of_ibsi(name):
    value, tolerance = FIRST_ORDER[name]
    assert first_order_features(PHANTOM[INSIDE], bins=6)[name] == pytest.approx(value, abs=tolerance)


def test_moments_equal_those_of_scipy():
    values = np.random.default_rng(0).gamma(2, 100, 500)
    found = first_order_features(values)
    assert found["skewness"] == pytest.approx(skew(values)) and found["kurtosis"] == pytest.approx(kurtosis(values))
    assert found["mad"] != pytest.approx(median_abs_deviation(values))  # the mean of deviations, not their median


def test_equal_values_have_no_spread_and_one_bin():
    found = first_order_features(np.full(20, 7))
    assert list(found) == list(NAMES)
    assert (found["variance"], found["entropy"], found["uniformity"], found["kurtosis"]) == (0, 0, 1, 0)


def test_entropy_of_even_values_is_the_logarithm_of_the_bins():
    assert first_order_features(np.arange(3200))["entropy"] == pytest.approx(5)


def test_a_mean_of_zero_leaves_the_coefficient_of_variation_undefined():
    assert np.isnan(first_order_features(np.array([-1, 1]))["cov"])
