"""Metrics and intervals in words."""

import pytest

from pipeline.metrics.wording import ALIKE, TOO_FEW, UNSTABLE, interval_in_words, is_unstable, metric_in_words


@pytest.mark.parametrize(
    ("lower", "upper", "said"),
    [
        (0.7, 0.9, "0.70 to 0.90"),
        (0.7, None, "from 0.70"),
        (None, 0.9, "up to 0.90"),
        (None, None, ""),
        (1, 1, TOO_FEW),
    ],
)
def test_an_interval_says_its_limits_or_that_it_has_no_width(lower, upper, said):
    assert interval_in_words(lower, upper) == said


@pytest.mark.parametrize("metric", [None, {"value": None, "lower": None, "upper": None}])
def test_a_metric_that_could_not_be_computed_is_named_so(metric):
    assert metric_in_words(metric) == "-" and metric_in_words(metric, absent="not computable") == "not computable"


def test_a_metric_without_limits_stands_alone():
    assert metric_in_words({"value": 0.5, "lower": None, "upper": None}, style=".1f") == "0.5"
    assert metric_in_words({"value": 0.5, "lower": 0.5, "upper": 0.5}, same=ALIKE) == f"0.500 ({ALIKE})"


def test_a_metric_without_a_finite_value_is_unstable():
    separated = {"value": None, "lower": 3.1, "upper": None}
    assert is_unstable(separated) and not is_unstable({"value": None, "lower": None, "upper": None})
    assert metric_in_words(separated, style=".1f") == f"{UNSTABLE} (from 3.1)"
    assert metric_in_words({"value": None, "lower": None, "upper": -3.1}, style=".1f") == f"{UNSTABLE} (up to -3.1)"
