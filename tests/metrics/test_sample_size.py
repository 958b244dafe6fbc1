"""Sample sizes against closed forms, and against the standard errors that they promise."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from pipeline.metrics.sample_size import (
    auc_error,
    patients_for_development,
    patients_for_parameters,
    patients_for_width,
    patients_until,
    slope_information,
)

UNIFORM = (np.arange(20000) + 0.5) / 20000


def test_uniform_predictions_have_the_information_of_the_closed_form():
    """SE(slope) = sqrt(18 / ((pi^2 - 6) n)), so that a patient gives (pi^2 - 6) / 18."""
    assert slope_information(UNIFORM) == pytest.approx((np.pi**2 - 6) / 18, rel=1e-3)


def test_the_patients_for_a_slope_have_the_width_asked():
    events = UNIFORM > 0.5
    n = patients_for_width("calibration_slope", UNIFORM, events, auc=5 / 6, width=0.4)
    assert 2 * norm.ppf(0.975) * np.sqrt(18 / ((np.pi**2 - 6) * n)) == pytest.approx(0.4, rel=1e-2)


def test_the_patients_for_the_ratio_of_events_have_the_error_asked():
    """SE(ln O:E)^2 = (1 - share) / (n share): a prevalence of .22 and an error of .051 need 1,363 patients."""
    events = np.arange(100) < 22
    width = 2 * np.sinh(norm.ppf(0.975) * 0.051)
    n = patients_for_width("observed_expected", np.full(100, 0.22), events, auc=0.8, width=width)
    assert n == pytest.approx(1363, abs=2)


def test_the_patients_for_an_auc_have_the_error_asked():
    events = np.arange(100) < 30
    n = patients_for_width("auc", np.full(100, 0.3), events, auc=0.8, width=0.1)
    assert auc_error(0.8, n, 0.3) <= 0.05 / norm.ppf(0.975) < auc_error(0.8, n - 2, 0.3)
    assert patients_for_width("auc", np.full(100, 0.3), events, auc=1.0, width=0.1) is None
    assert patients_for_width("auc", np.full(100, 0.3), events & False, auc=0.8, width=0.1) is None


def test_four_times_the_patients_halve_the_distance_to_a_limit():
    assert patients_until(100, 0.9, 0.7, 0.8) == pytest.approx(400, abs=1)
    assert patients_until(100, 1.2, 2.4, 1.8) == pytest.approx(400, abs=1)
    assert patients_until(100, 0.75, 0.7, 0.8) is None


@pytest.mark.parametrize(("parameters", "n"), [(24, 662), (0, 221)])
def test_the_patients_for_development_are_those_of_pmsampsize(parameters, n):
    """Its example: Cox and Snell's R2 .288, prevalence .174; criterion 2 asks for 662 patients, criterion 3 for 221."""
    assert patients_for_parameters(parameters, 0.288, 0.174) == n


def test_predictions_that_are_shrunk_as_wanted_need_as_many_patients_again():
    """Predictions with a slope of .9 are those of the patients that Riley's first criterion asks for."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1.5, 200_000)
    events, stated = rng.random(len(x)) < expit(x), expit(x / 0.9)
    assert patients_for_development(stated, events, 5000) == pytest.approx(5000, rel=0.1)
    assert patients_for_development(expit(x / 0.5), events, 5000) > 20_000
    assert patients_for_development(expit(x / 1.3), events, 5000) == 385  # under-confident: the overall risk alone


def test_predictions_that_separate_or_do_not_rank_have_no_size():
    events = np.arange(40) < 20
    assert patients_for_development(np.where(events, 0.9, 0.1), events, 100) is None
    assert patients_for_development(np.tile([0.9, 0.1, 0.2, 0.8], 10), events, 100) is None
    assert patients_for_development(np.full(40, 0.3), events & False, 100) is None
