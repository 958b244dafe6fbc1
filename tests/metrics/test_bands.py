import numpy as np

from pipeline.metrics.bands import band


def test_each_point_has_the_percentiles_of_its_own_replicates():
    replicates = np.arange(101.0)
    values = np.stack([np.append(7, replicates), np.append(-1, -replicates)], axis=1)
    found = band("risk", values, 0.9)
    assert list(found) == ["risk", "risk_lower", "risk_upper"]
    np.testing.assert_allclose(found["risk"], [7, -1])
    np.testing.assert_allclose(found["risk_lower"], [5, -95])
    np.testing.assert_allclose(found["risk_upper"], [95, -5])


def test_band_is_empty_without_a_value_or_with_few_replicates():
    values = np.ones((11, 2))
    values[0, 0] = np.nan
    values[1:8, 1] = np.nan
    found = band("gain", values, 0.95)
    np.testing.assert_array_equal(found["gain"], [np.nan, 1])
    np.testing.assert_array_equal(found["gain_lower"], [np.nan, np.nan])


def test_a_curve_without_points_is_an_empty_table():
    assert [len(column) for column in band("risk", np.empty((5, 0)), 0.95).values()] == [0, 0, 0]
