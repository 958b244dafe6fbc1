"""ROC and precision-recall charts, shares and forests on rows that are written by hand."""

import re
from itertools import pairwise

import pytest

from pipeline.stages.report.assessment import forests_of, shares
from pipeline.stages.report.blocks import Block
from pipeline.stages.report.discrimination_charts import pr_chart, roc_chart
from pipeline.stages.report.forest import Whisker, forest_of

SIZES = {"n": 40, "events": 10}
AUC = {"value": 0.9, "lower": 0.8, "upper": 0.95}


def curve(x, y, *points):
    return [{x: at, y: value, f"{y}_lower": value / 2, f"{y}_upper": 1.0, **SIZES} for at, value in points]


def corners(*folds):
    points = ((0.0, 0.0), (0.5, 1.0), (1.0, 1.0))
    return [{"fold": fold, "false_positive_rate": x, "sensitivity": y} for fold in folds for x, y in points]


def test_a_roc_curve_begins_at_nothing_called_and_has_its_folds_behind_it():
    rows = curve("false_positive_rate", "sensitivity", (0.0, 0.5), (1.0, 1.0))
    drawn = roc_chart("internal_patients", rows, corners("r2", "0"), AUC, "patients")
    lines = re.findall(r'<polyline class="curve ([^"]+)" points="([^"]+)"', drawn["svg"])
    assert [kind for kind, _ in lines] == ["c11 f0", "c11 f1", "c1"] and drawn["folds"] == ["r2", "0"]
    (x1, y1), (x2, y2), _ = [map(float, point.split(",")) for point in lines[-1][1].split()]
    assert x1 == x2 and y1 > y2  # straight up from the corner
    assert "n = 40 patients, 10 events; AUC 0.90 <small>(0.80 to 0.95)</small>; thin: the folds" in drawn["caption"]
    alone = roc_chart("external", rows, [], None, "images")
    assert "thin" not in alone["caption"] and "not computable" in alone["caption"] and alone["folds"] == []


def test_chance_is_the_share_of_events_in_a_precision_recall_chart():
    rows = curve("recall", "precision", (0.25, 1.0), (1.0, 0.25))
    svg = pr_chart("external", rows, AUC, "images")["svg"]
    chance, precision = (re.search(rf'class="curve {kind}" points="([^"]+)"', svg)[1] for kind in ("c4 dashed", "c2"))
    heights = {point.split(",")[1] for point in chance.split()}
    assert len(heights) == 1 and precision.split()[-1].split(",")[1] in heights  # 10 of 40 is 0.25


def test_the_shares_of_a_threshold_add_up_to_all_cases():
    row = {"true_positives": 7.0, "false_positives": 4.0, "positives": 10.0, "negatives": 30.0}
    found = shares(row)
    assert found == {"sensitivity": (7, 10), "specificity": (26, 30), "ppv": (7, 11), "npv": (26, 29)}
    assert found["ppv"][1] + found["npv"][1] == 40


def group(scope, auc):
    return {"scope": scope, "auc": auc, "auc_lower": auc and auc - 0.1, "auc_upper": auc and auc + 0.1}


def test_every_subgroup_is_drawn_against_the_auc_of_its_own_set():
    whole = [
        {"scope": scope, "of": "ill", "state": state, "auc": auc}
        for scope, auc in (("internal", 0.8), ("external", 0.6))
        for state, auc in (("uncalibrated", 0.1), ("calibrated", auc))
    ]
    block = Block("", "ill", [group("internal", 0.8), group("internal", None), group("external", 0.6)])
    (drawn,), (scale,) = forests_of([block], whole)
    images = [row["drawn"] for row in drawn.rows]
    assert images[1] == "" and scale.startswith("<svg")
    for image, colour in ((images[0], "c1"), (images[2], "c2")):
        dot, mark = re.search(r'cx="([\d.]+)"', image)[1], re.search(r'class="inside c\d" x1="([\d.]+)"', image)[1]
        assert dot == mark and f"dot {colour}" in image
    assert forests_of([Block("", "ill", [group("internal", None)])], [])[1] == [""]


@pytest.mark.parametrize("width", [132, 230])
def test_a_forest_fills_its_width_and_has_ticks_that_do_not_touch(width):
    plot = forest_of([Whisker(0.5, 0.0, 1.0, None, 1)], width)
    x1, x2 = map(float, re.search(r'class="curve c1" x1="([\d.]+)" x2="([\d.]+)"', plot["drawn"][0]).groups())
    assert (x1, x2) == (12, width - 12)
    places = [float(x) for x in re.findall(r'class="tick" x="([\d.]+)"', plot["axis"])]
    assert len(places) >= 3 and all(right - left > 20 for left, right in pairwise(places))
