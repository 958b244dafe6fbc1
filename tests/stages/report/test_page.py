import inspect
import re

import pytest

from pipeline.errors import UserError
from pipeline.metrics.wording import ALIKE
from pipeline.schema import Params, Release
from pipeline.stages.release import gates, number_gates, time_gates
from pipeline.stages.report.numbers import show_interval
from pipeline.stages.report.page import HERE
from pipeline.stages.report.places import OF_GATES
from pipeline.stages.report.plain_words import of_hundred_cases
from pipeline.stages.report.plots import Area, Axes, Bar, Column, Line, chart, cut_below, nice_range, round_ticks
from pipeline.stages.report.released import released
from pipeline.stages.report.verdicts import shown
from tests.stages.report.page import text_of


def test_a_curve_lies_where_its_numbers_say():
    svg = chart("t", Axes("x", "y"), [Line("a", [(0, 0), (1, 1)], 1)])
    ((x1, y1), (x2, y2)) = [map(float, pair.split(",")) for pair in re.search(r'points="([^"]+)"', svg)[1].split()]
    assert x1 < x2 and y1 > y2  # upwards on paper is a falling y


def test_page_without_a_bundle_says_which_stage_writes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="data/released/mine is not there yet: .* stage release"):
        released(Params.model_construct(release=Release(name="mine")))


def test_text_in_a_plot_is_escaped():
    svg = chart("<script>", Axes("<b>", "&"), [Line("<script>alert(1)</script>", [(0, 0)], 1)], [Bar(0, 0, 1, 2)])
    assert "<script>" not in svg and "&lt;script&gt;" in svg


def test_a_metric_is_shown_with_its_interval_or_as_not_computable():
    shown = show_interval({"value": 0.812, "lower": 0.7, "upper": 0.9})
    assert shown.startswith("0.81 ") and "(0.70 to 0.90)" in shown
    assert "not computable" in show_interval(None)
    assert show_interval({"value": 0.5, "lower": None, "upper": None}) == "0.50"
    assert show_interval({"value": -0.001, "lower": None, "upper": None}) == "0.00"  # no negative zero


def test_an_interval_without_width_says_that_it_is_none():
    perfect = {"value": 1.0, "lower": 1.0, "upper": 1.0}
    assert text_of(show_interval(perfect)) == "1.00 (too few events for an interval)"
    assert text_of(show_interval(perfect, 3, ALIKE)) == "1.000 (the same in every draw)"
    assert of_hundred_cases(1.0, 1.0, 1.0) == "100 (too few events for an interval)"
    assert of_hundred_cases(0.9, 0.8, 1.0) == "90 (80 to 100)"
    assert text_of(shown({"value": 2.0, "lower": 2.0, "upper": 2.0})) == "+2.000 (too few events for an interval)"
    assert text_of(shown({"value": 2.0, "lower": 1.0, "upper": None})) == "+2.000 (from +1.000)"


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0], [0.2, 5.0]])
def test_a_range_is_never_empty(values):
    low, high = nice_range(values)
    assert low < high and all(low < value < high for value in values)


@pytest.mark.parametrize(
    ("limits", "whole", "ticks"),
    [
        ((0, 1), False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((0.05, 0.5), False, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ((-0.078, 0.73), False, [0, 0.2, 0.4, 0.6]),
        ((0, 3), True, [0, 1, 2, 3]),
        ((0, 30), True, [0, 5, 10, 15, 20, 25, 30]),
        ((0.46, 0.512), False, [0.46, 0.47, 0.48, 0.49, 0.5, 0.51]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(limits, whole, ticks):
    assert round_ticks(limits, 6, whole) == pytest.approx(ticks)


def test_the_name_of_y_keeps_clear_of_the_longest_tick():
    svg = chart("t", Axes("x", "y", y_range=(-0.0052, 0.0048)), [])
    ends = re.findall(r'<text class="tick" x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]+)</text>', svg)
    assert "-0.004" in [label for _, label in ends]
    assert all(float(end) - 5.8 * len(label) > 18 for end, label in ends)  # the name stands around x = 12


def test_a_falling_curve_is_cut_where_it_leaves_the_frame():
    assert cut_below([(0, 1), (1, 0), (2, -4)], -1) == [(0, 1), (1, 0), (1.25, -1)]
    assert cut_below([(0, 1), (1, 0)], -1) == [(0, 1), (1, 0)] and cut_below([(0, 1)], 2) == []


def test_a_band_goes_along_its_lower_edge_and_back_along_the_upper_one():
    svg = chart("t", Axes("x", "y"), [], areas=[Area([(0, 0.25, 0.5), (1, 0.5, 1)], 2)])
    points = [tuple(map(float, pair.split(","))) for pair in re.search(r'area c2" points="([^"]+)"', svg)[1].split()]
    assert [x for x, _ in points] == [46, 328, 328, 46]
    heights = [y for _, y in points]
    assert heights[0] > heights[1] > heights[2] and heights[3] == heights[1]


def test_columns_grow_from_zero_both_ways_and_ticks_have_no_sign():
    axes = Axes("", "cases", y_range=(-10, 10), y_whole=True, unsigned=True)
    svg = chart("t", axes, [], columns=[Column(0, 0.5, 0, 10, 1), Column(0, 0.5, -5, 0, 5)])
    (up, tall), (down, small) = [
        (float(y), float(height))
        for y, height in re.findall(r'<rect [^>]*y="([\d.]+)" width="[^"]+" height="([\d.]+)"', svg)
    ]
    assert up + tall == pytest.approx(down, abs=0.2) and tall == pytest.approx(2 * small, abs=0.2)
    assert ">10</text>" in svg and ">-10</text>" not in svg


def test_every_gate_that_a_metric_decides_leads_to_it():
    source = "".join(map(inspect.getsource, (gates, number_gates, time_gates)))
    names = re.findall(r'(?:gate_of|at_least|lowest_of_sets)\((?:shown, )?"([^"]+)"|name(?:, \w+)? = "([^"]+)"', source)
    named = {one or other for one, other in names}
    assert len(named) == 20 and named - {"card"} == set(OF_GATES)


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_enough_contrast_in_light_and_dark(scheme):
    block = re.findall(r":root \{(.*?)\}", (HERE / "page.css").read_text(), re.S)[scheme]
    known = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [(text, behind) for text in ("ink", "soft", "c1", "c2", "good") for behind in ("paper", "panel")]
    pairs += [("warn", "warn-paper"), ("paper", "good")]
    assert not [pair for pair in pairs if contrast(known[pair[0]], known[pair[1]]) < 4.5]
    lines = [f"c{number}" for number in range(1, 7)]
    assert not [name for name in lines if contrast(known[name], known["paper"]) < 3]
