import re
from dataclasses import fields

import pandas as pd
import pytest

from pipeline.learning.training.selection import Tried
from pipeline.metrics.shares import wilson
from pipeline.schema import Adapt
from pipeline.stages.adapt.selection import Step
from pipeline.stages.report.adaptation import (
    METHODS,
    VALIDATORS,
    choices,
    costs,
    how_far,
    in_words,
    left_out_sites,
    never_recognised,
    searches,
)
from pipeline.stages.report.diagrams import training_curve, unlabelled_curve
from pipeline.stages.report.glossary import TERMS, explain
from pipeline.stages.report.numbers import metric_of, show_number
from pipeline.stages.report.page import HERE
from tests.stages.report.literals import values_of


def test_every_method_that_can_be_asked_for_has_words():
    asked = values_of(Adapt.model_fields["method"].annotation)
    assert len(asked) > 8 and asked - {"auto"} <= set(METHODS)


def test_every_score_of_the_search_is_a_term_that_is_explained():
    assert set(VALIDATORS.values()) <= set(TERMS)


@pytest.mark.parametrize(
    ("method", "strength", "said"),
    [
        ("none", 0.5, ""),
        ("adabn", 0.0, "at strength 0, which changes nothing"),
        ("simclr", 0.25, "25% of the way"),
        ("dann", 0.1, "with weight 0.1 in the loss"),
        ("coral", 0.0, "at strength 0, which changes nothing"),
    ],
)
def test_a_strength_is_a_share_of_the_way_or_the_weight_of_a_term(method, strength, said):
    assert how_far(method, strength) == said


def test_an_old_record_without_what_came_later_counts_as_not_done():
    words = in_words({"method": "coral", "strength": 1.0})
    assert words["asked"] == "coral" and words["is_term"]
    assert (words["filter_depth"], words["test_time_steps"]) == (1, 0)


def test_a_total_counts_only_the_folds_that_recorded_their_cost():
    records = {fold: {"method": "adabn", "images_seen": 7} for fold in "ab"}
    found = costs(records, {"a": {"seconds": 2.5, "peak_mib": 100}, "b": None})
    assert (found["recorded"], found["seconds"], found["peak_mib"]) == (1, 2.5, 100)
    assert costs(records, {"a": None, "b": None})["recorded"] == 0


def test_candidates_have_the_order_of_the_search():
    steps = [{"method": name} for name in ("none", "nyul", "adabn")]
    records = {
        "0": {"method": "adabn", "search": steps},
        "1": {"method": "none", "search": []},
        "2": {"method": "none"},
    }
    assert choices(searches(records)) == [
        {"candidate": "none", "folds": []},
        {"candidate": "nyul", "folds": []},
        {"candidate": "adabn", "folds": ["0"]},
    ]


def test_the_two_rows_of_a_site_stand_together_wherever_they_stood():
    limits = {
        f"{name}{end}": 0.5 for name in ("auc", "log_loss", "calibration_slope") for end in ("", "_lower", "_upper")
    }
    rows = [
        {"site": site, "unlabelled": seen, **limits} for site, seen in (("b", "unseen"), (None, "seen"), ("b", "seen"))
    ]
    found = left_out_sites(rows)
    assert [(site["site"], [row["unlabelled"] for row in site["rows"]]) for site in found] == [
        ("(none)", ["seen"]),
        ("b", ["seen", "unseen"]),
    ]


@pytest.mark.parametrize(("template", "record"), [("adaptation.html", Step), ("finetuning.html", Tried)])
def test_table_of_a_choice_needs_only_what_its_record_holds(template, record):
    asked = set(re.findall(r"\bstep\.(\w+)", (HERE / template).read_text()))
    assert {"why", "kept"} <= asked <= {field.name for field in fields(record)}


@pytest.mark.parametrize("n", [1, 7, 200])
def test_the_limit_of_a_share_of_none_is_wilsons(n):
    (row,) = never_recognised([{"scope": "internal", "class": "ill", "n": n, "recall": 0.0}], {})["rows"]
    assert row["at_most"] == pytest.approx(wilson(0, n)[1], rel=1e-12)


@pytest.mark.parametrize("empty", [None, float("nan")])
def test_an_empty_field_is_no_metric(empty):
    row = {"auc": empty, "auc_lower": empty, "auc_upper": empty}
    assert metric_of(row, "auc") is None
    assert metric_of(row | {"auc": 0.5}, "auc") == {"value": 0.5, "lower": None, "upper": None}
    assert "not computable" in show_number(None)


def test_term_is_explained_and_escaped_and_an_unknown_one_is_an_error():
    shown = explain("candidate", "<b>")
    assert shown == f'<abbr title="{TERMS["candidate"]}">&lt;b&gt;</abbr>'
    with pytest.raises(KeyError):
        explain("no such term")


def mark_and_ticks(svg):
    """Find the epoch at which the upright mark stands on the scale of the ticks below, and what these say."""
    ticks = re.findall(r'class="tick" x="([\d.]+)" y="\d+" text-anchor="middle">([^<]+)<', svg)
    left, right = float(ticks[0][0]), float(ticks[-1][0])
    mark = float(re.search(r'class="interval c3" x1="([\d.]+)"', svg)[1])
    return (mark - left) / (right - left) * int(ticks[-1][1]), [text for _, text in ticks]


@pytest.mark.parametrize(("last", "kept"), [(6, 3), (7, 7), (12, 0)])
def test_mark_is_at_the_selected_epoch_and_ticks_are_whole_epochs(last, kept):
    losses = {"train_loss": 2.0, "held_out_loss": 3.0, "control_loss": 4.0, "rank": 5.0}
    drawn = unlabelled_curve("0", [{"epoch": epoch, **losses} for epoch in range(last + 1)], kept)
    place, ticks = mark_and_ticks(drawn["svg"])
    assert place == pytest.approx(kept, abs=0.02)
    assert all(tick.isdigit() for tick in ticks) and ticks[0] == "0" and last - 1 <= int(ticks[-1]) <= last
    assert drawn["svg"].count("<polyline") == 3 and drawn["caption"].endswith(f"of {last} run")


def test_a_training_curve_marks_its_best_epoch():
    table = pd.DataFrame({"epoch": [0, 1, 2], "train_loss": [3, 2, 1], "validation_loss": [3, 1, 2]})
    drawn = training_curve("1", table.assign(best=[False, True, False]))
    assert mark_and_ticks(drawn["svg"])[0] == pytest.approx(1, abs=0.02)
    assert drawn["caption"] == "Fold 1: epoch 1 kept of 2 run"
