"""Calibration intercept and slope, and Wilson's interval, beside statsmodels."""

import numpy as np
import pytest

from pipeline.metrics import calibration
from pipeline.metrics.shares import wilson


def test_statsmodels_gives_the_same_intercept_and_slope_of_weighted_cases():
    statsmodels = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(0)
    p, weights = rng.random(400), rng.integers(0, 4, (3, 400)).astype(float)
    events = rng.random(400) < p**2 / (p**2 + (1 - p) ** 2)
    x, binomial = calibration.logit(p), statsmodels.families.Binomial()
    lines, in_the_large = [], []
    for row in weights:
        known = {"family": binomial, "freq_weights": row}
        lines.append(statsmodels.GLM(events, statsmodels.add_constant(x), **known).fit().params)
        in_the_large.append(statsmodels.GLM(events, np.ones(400), offset=x, **known).fit().params[0])
    np.testing.assert_allclose(calibration.logistic_line(p, events, weights), lines, atol=1e-6)
    np.testing.assert_allclose(calibration.calibration_in_the_large(p, events, weights), in_the_large, atol=1e-6)


@pytest.mark.parametrize(("events", "n"), [(0, 50), (3, 50), (50, 50), (1, 1)])
def test_statsmodels_gives_wilsons_interval(events, n):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    np.testing.assert_allclose(wilson(events, n), proportion.proportion_confint(events, n, method="wilson"), atol=1e-12)
