"""The charts of the section on evidence."""

import re

import pytest

from pipeline.stages.report.evidence_charts import (
    banded,
    first_reached,
    forest,
    log_ticks,
    mean_of,
    of_arms,
    time_chart,
)
from tests.stages.report.conftest import course, domain, point, ticks


def test_arms_stand_in_one_order_and_an_unknown_one_comes_last():
    rows = [{"arm": arm} for arm in ("other", "scratch", "adapted")]
    assert [arm for arm, _ in of_arms(rows)] == ["adapted", "scratch", "other"]


def test_equal_ratios_of_patients_are_equally_far_apart():
    rows = [point("adapted", patients, 0.6) for patients in (100, 1, 10)]  # in any order
    svg = banded("t", rows, "patients", "patients", "AUC")
    places = [float(x) for x in re.findall(r'class="dot c1" cx="([\d.]+)"', svg)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2) and places[0] < places[1]
    assert {text: x for x, text in ticks(svg)} == pytest.approx(
        {"1": places[0], "10": places[1], "100": places[2]}, abs=0.2
    )
    assert svg.count("<polygon") == 1 and 'class="interval' not in svg


def test_a_curve_of_one_point_has_an_interval_instead_of_a_band():
    svg = banded("t", [point("adapted", 100, 0.6), point("imagenet", 100, 0.5)], "patients", "patients", "AUC")
    assert svg.count('class="interval') == 2 and "<polygon" not in svg and svg.count("<circle") == 2


def test_a_metric_that_does_not_exist_is_not_drawn():
    rows = [point("adapted", 10, 0.6), point("adapted", 100, 0.7) | dict.fromkeys(("value", "lower", "upper"))]
    assert banded("t", rows, "patients", "patients", "AUC").count("<circle") == 1
    assert "<circle" not in banded("t", rows[1:], "patients", "patients", "AUC")


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (90, 2e6, [100, 1e3, 1e4, 1e5, 1e6]),
        (1, 20, [1, 2, 5, 10, 20]),
        (32, 95, [40, 50, 60, 70, 80, 90]),
        (0.95, 1.1, [1]),
    ],
)
def test_ticks_of_a_logarithmic_axis_are_round_numbers_within_it(low, high, found):
    assert log_ticks(low, high) == pytest.approx(found)


def test_large_numbers_of_passes_are_written_short():
    rows = [row | {"passes": row["passes"] * 100} for row in course("adapted")]
    assert [text for _, text in ticks(time_chart(rows))] == ["10k", "100k", "1M"]


def test_the_mean_of_folds_is_drawn_where_all_of_them_are():
    assert mean_of([[(0, 0), (2, 2)], [(1, 3), (3, 5)]]) == [(1, 2.0), (2, 3.0)]
    assert mean_of([[(0, 0), (1, 1)], [(2, 0), (3, 1)]]) == []
    svg = time_chart(course("adapted", "0") + course("adapted", "1", ((0.9, 0.4), (0.5, 0.4), (0.2, 0.1))))
    heights = {
        colour: [float(pair.split(",")[1]) for pair in points.split()]
        for colour, points in re.findall(r'class="curve (c\d+)" points="([^"]+)"', svg)
    }
    first = re.search(r'c11" points="[\d.]+,([\d.]+) ', svg)[1]
    assert heights["c1"][0] == pytest.approx((float(first) + heights["c11"][0]) / 2, abs=0.2)


def test_a_training_loss_counts_where_it_is_first_reached():
    rows = course("adapted", losses=((0.9, 0.8), (0.5, 0.6), (0.6, 0.1), (0.5, 0.2), (0.4, 0.7)))
    assert first_reached(rows) == [(0.4, 0.7), (0.5, 0.6), (0.9, 0.8)]


def test_sites_share_one_scale_and_each_whisker_lies_where_its_metrics_say():
    plot = forest([domain("north", "adapted", 0.6), domain("south", "imagenet", 0.8)])
    dots = [float(re.search(r'cx="([\d.]+)"', svg)[1]) for svg in plot["drawn"]]
    ends = [re.search(r'class="curve c\d" x1="([\d.]+)" x2="([\d.]+)"', svg).groups() for svg in plot["drawn"]]
    assert all(float(low) < dot < float(high) for dot, (low, high) in zip(dots, ends, strict=True))
    inside = [float(re.search(r'class="inside c\d" x1="([\d.]+)"', svg)[1]) for svg in plot["drawn"]]
    assert inside[0] == inside[1] == dots[1]  # 0.8 is the internal AUC of both
    scale = {text: x for x, text in ticks(plot["axis"])}
    assert scale["0.6"] == pytest.approx(dots[0], abs=0.2) and scale["0.8"] == pytest.approx(dots[1], abs=0.2)
