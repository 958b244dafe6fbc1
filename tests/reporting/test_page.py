import re

import pytest

from pipeline.reporting.figures import show_interval
from pipeline.reporting.plots import Axes, Bar, Line, chart, nice_range


def test_a_curve_lies_where_its_numbers_say():
    svg = chart("t", Axes("x", "y"), [Line("a", [(0, 0), (1, 1)], 1)])
    ((x1, y1), (x2, y2)) = [map(float, pair.split(",")) for pair in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert x1 < x2 and y1 > y2  # upwards on paper is a falling y


def test_text_in_a_plot_is_escaped():
    svg = chart("<script>", Axes("<b>", "&"), [Line("<script>alert(1)</script>", [(0, 0)], 1)], [Bar(0, 0, 1, 2)])
    assert "<script>" not in svg and "&lt;script&gt;" in svg


def test_a_figure_is_shown_with_its_interval_or_as_not_computable():
    shown = show_interval({"value": 0.812, "lower": 0.7, "upper": 0.9})
    assert shown.startswith("0.81 ") and "(0.70 to 0.90)" in shown
    assert "not computable" in show_interval(None)
    assert show_interval({"value": 0.5, "lower": None, "upper": None}) == "0.50"


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [0.2, 5.0]])
def test_a_range_is_never_empty(values):
    low, high = nice_range(values)
    assert low < high and all(low < value < high for value in values)
