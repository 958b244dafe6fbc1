"""The section on evidence, from tables that are written by hand."""

import json
import re

import pandas as pd
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline import paths
from pipeline.assessing.evidence import (
    curves,
    differences,
    episodes,
    extrapolation,
    label_efficiency,
    overfitting,
    training_time,
    verdicts,
)
from pipeline.reporting.evidence import OF_EVIDENCE, TABLES, amount, evidence_section, wide
from pipeline.reporting.evidence_charts import banded, first_reached, forest, log_ticks, mean_of, of_arms, time_chart
from pipeline.reporting.figures import figure_of, show_interval, show_number
from pipeline.reporting.page import HERE
from pipeline.reporting.verdicts import promises, shown, summary
from tests.stages.conftest import project  # noqa: F401  (a fixture, as is `reported`)
from tests.stages.test_report_adaptation import reported, rows_of, text_of  # noqa: F401
from tests.stages.test_stages import run

NAMES = ("fewer labels", "shorter training", "less overfitting", "new domains", "better result")
RECORD = {
    **{"budget": 0, "passes_spent": 0, "fractions": [0.1], "draws": 3, "episodes": 100, "auc_goal": 0.9},
    **{"method": "adabn", "rates": {}, "confidence": 0.95},
}
ARMS = ("adapted", "imagenet", "scratch")
COLUMNS = {  # as the stage writes them
    "verdicts": verdicts.VERDICTS,
    "learning_curve": curves.LEARNING_CURVE,
    "label_efficiency": label_efficiency.LABEL_EFFICIENCY,
    "extrapolation": extrapolation.EXTRAPOLATION,
    "trajectories": training_time.TRAJECTORIES,
    "time_to_quality": training_time.TIME_TO_QUALITY,
    "overfitting": overfitting.OVERFITTING,
    "domains": differences.DOMAINS,
    "final": differences.FINAL,
    "differences": differences.DIFFERENCES,
    "few_shot": episodes.FEW_SHOT,
    "few_shot_differences": episodes.DIFFERENCES,
}


def limits(value, half, name=""):
    ends = (value, value - half, value + half)
    return dict(zip((name or "value", f"{name}_lower".lstrip("_"), f"{name}_upper".lstrip("_")), ends, strict=True))


def verdict(promise, comparison, word="not measured", **found):
    empty = dict.fromkeys(("recipe", "figure", "value", "lower", "upper", "minimum_detectable", "n", "patients"))
    row = {"promise": promise, "name": NAMES[promise - 1], "comparison": comparison, "verdict": word, "why": None}
    return empty | row | found


def measured(promise, comparison, word, value, half):
    found = {"recipe": "trained", "minimum_detectable": 0.0625, "n": 40, "patients": 30, "why": "as it came"}
    return verdict(promise, comparison, word, **found, **limits(value, half))


def point(arm, patients, value, of=None, figure="auc", recipe="probe"):
    draws = {"fraction": patients / 100, "patients": float(patients), "draws": 1 if patients == 100 else 3, "n": 40}
    return {"recipe": recipe, "arm": arm, "of": of, "figure": figure} | draws | limits(value, 0.05)


def course(arm, fold="0", losses=((0.9, 0.8), (0.5, 0.6), (0.2, 0.7))):
    rows = enumerate(losses)
    return [
        {"arm": arm, "fold": fold, "epoch": epoch, "passes": 10.0 ** (epoch + 2)}
        | {"train_loss": train, "inner_loss": test, "test_loss": test}
        for epoch, (train, test) in rows
    ]


def speed(unit, ratio, lower=1.25, words=None, arm="adapted", reference="imagenet"):
    times = {"arm_value": 2.0, "reference_value": 2.0 * ratio, "ratio": ratio, "lower": lower, "upper": 2 * ratio}
    counted = {"reached": 3, "folds": 4, "minimum_detectable": 1.5, "words": words}
    return {"arm": arm, "reference": reference, "unit": unit} | times | counted


def domain(site, arm, auc, kind="left_out"):
    counts = {"recipe": "probe", "arm": arm, "kind": kind, "site": site, "n": 20, "events": 8, "internal_auc": 0.8}
    return counts | limits(auc, 0.1, "auc") | limits(0.8 - auc, 0.1, "gap")


def final(scope, arm, figure, value):
    return {"recipe": "probe", "scope": scope, "arm": arm, "figure": figure, "n": 40} | limits(value, 0.05)


def difference(scope, figure, value, comparison="adaptation"):
    row = {"recipe": "probe", "scope": scope, "comparison": comparison, "figure": figure, "n": 40}
    return row | limits(value, 0.05) | {"minimum_detectable": 0.0625}


def shots(arm, method, number, value):
    return {"arm": arm, "method": method, "shots": number, "episodes": 100, "n": 40} | limits(value, 0.02)


@pytest.fixture
def nothing():
    """Tables of an evidence stage that measured nothing."""
    tables = {name: [] for name in TABLES}
    rows = [verdict(promise, comparison) for promise in range(1, 6) for comparison in ("adaptation", "transfer")]
    return tables | {"verdicts": rows}


@pytest.fixture
def all_of_it(nothing):
    """Tables in which everything was measured."""
    words = {"recipe": "probe", "arm": "adapted", "words": "as the curve says"}
    ratio = {"reference": "imagenet", "ratio": 2.0, "lower": 1.25, "upper": None, "patients": 50.0}
    overfit = {"arm": "adapted", "reference": "imagenet", "train_loss": 0.3, "arm_gap": 0.25, "reference_gap": 0.5}
    overfit |= {"difference": 0.25, "lower": -0.125, "upper": 0.625, "minimum_detectable": 0.5, "n": 40, "words": None}
    unknown = {"value": None, "lower": None, "upper": None, "n": None, "model": None, "scope": None, "figure": None}
    challenge = {
        "challenge": "knowledge",
        "name": "LogME",
        "arm": "imagenet",
        "value": -0.62,
        "words": "higher is better",
    }
    pairs = [("", None), ("mild", "mild"), ("severe", "severe")]
    return nothing | {
        "verdicts": [measured(promise, "adaptation", "helped", 2.5, 1.0) for promise in range(1, 6)]
        + [verdict(promise, "transfer", why="no budget") for promise in range(1, 6)],
        "learning_curve": [
            point(arm, patients, 0.7 + patients / 1000, of)
            for _, of in pairs
            for arm in ARMS[:2]
            for patients in (10, 100)
        ]
        + [point("adapted", 100, 0.4, figure="log_loss")],
        "label_efficiency": [words | ratio | {"reference_patients": 100.0}],
        "extrapolation": [words | {"goal": 0.9, "patients": 100.0, "more": 40, "lower": 20, "upper": None}],
        "trajectories": [row for arm in ARMS for fold in "01" for row in course(arm, fold)],
        "time_to_quality": [speed("epochs", 2.0), speed("passes", 3.0)],
        "overfitting": [overfit],
        "domains": [domain(site, arm, 0.7) for site in ("north", "south") for arm in ARMS[:2]],
        "final": [final("internal", arm, "auc", 0.8) for arm in ARMS[:2]],
        "differences": [difference("internal", "auc", 0.125), difference("site north", "auc", 0.0)],
        "few_shot": [shots(arm, "knn", number, 0.6) for arm in ARMS[:2] for number in (1, 10)],
        "few_shot_differences": [{"method": "knn", "shots": 1, "episodes": 100} | limits(0.0625, 0.01)],
        "zero_shot": [unknown | {"state": "not available", "words": "no model was named"}],
        "challenges": [challenge],
    }


def drawn(tables, **record):
    """Render the section as the page does."""
    environment = Environment(loader=FileSystemLoader(HERE), undefined=StrictUndefined, autoescape=select_autoescape())
    environment.filters |= {"interval": show_interval, "number": show_number, "figure": figure_of}
    evidence = tables and evidence_section(tables, RECORD | record)
    return environment.get_template("evidence.html").render(evidence=evidence)


def headings(markup):
    return re.findall("<h3>(.*?)</h3>", markup)


def ticks(svg):
    return [(float(x), text) for x, text in re.findall(r'class="tick" x="([\d.]+)" y="\d+" [^>]*middle">([^<]+)<', svg)]


def test_what_was_not_measured_has_ten_badges_no_figure_and_no_heading(nothing):
    markup = drawn(nothing)
    assert "Adaptation: not measured." in markup and "Transfer: not measured." in markup
    assert markup.count('class="badge not-measured">not measured<') == 10 == markup.count('class="badge')
    assert headings(markup) == [] and "<svg" not in markup and "not computable" not in markup
    assert "No network was trained for this" in text_of(markup)


def test_everything_that_was_measured_has_its_heading_and_its_charts(all_of_it):
    markup = drawn(all_of_it, budget=5000, passes_spent=4000, rates={"0": 0.01})
    assert headings(markup) == [
        *("Fewer labels", "Shorter training, less overfitting", "New domains", "Better result", "Few shots"),
        *("Zero shots", "Three challenges"),
    ]
    assert "image passes (evidence.budget), of which 4,000 were spent" in text_of(markup)
    assert "0.01 (fold 0)" in markup and "None" not in text_of(markup)
    titles = re.findall("<title>(.*?)</title>", markup)
    assert len(titles) == 3 + 2 + 1 and markup.count('class="whisker"') == 4 + 1


def test_verdicts_are_counted_in_one_sentence():
    words = ("helped", "no evidence", "no evidence", "hurt", "not measured")
    rows = [verdict(number, "adaptation", word) for number, word in enumerate(words, 1)]
    assert summary(rows, "adaptation") == (
        "Adaptation: helped with 1 of 5 promises (fewer labels), hurt 1 (new domains), "
        "no evidence for 2 (shorter training, less overfitting), not measured for 1 (better result)."
    )
    assert summary(rows[1:], "adaptation").startswith("Adaptation: helped with none of 4 promises, hurt 1")
    assert summary(rows, "transfer") == "Transfer: not measured."


def test_each_promise_has_both_comparisons_side_by_side_in_whatever_order_they_came():
    rows = [verdict(number, comparison) for comparison in ("transfer", "adaptation") for number in (5, 1, 4, 2, 3)]
    found = promises(rows)
    assert [promise["number"] for promise in found] == [1, 2, 3, 4, 5]
    assert {tuple(cell["comparison"] for cell in promise["cells"]) for promise in found} == {("adaptation", "transfer")}


def test_a_verdict_stands_with_its_figure_its_interval_and_what_was_detectable(nothing):
    rows = [measured(1, "adaptation", "no evidence", 0.03125, 0.125), measured(2, "adaptation", "helped", 2.5, 1.0)]
    markup = drawn(nothing | {"verdicts": rows})
    assert '<span class="badge no-evidence">no evidence</span>' in markup
    said = text_of(markup)
    assert "difference: +0.031 (-0.094 to +0.156)" in said and "Detectable: 0.062. Training, n = 40 cases of 30" in said
    assert "1. Fewer labels As good with fewer" in said and "2. Shorter training" in said
    assert "Times as fast, in image passes: 2.50 (1.50 to 3.50)" in said and "as it came" in said


@pytest.mark.parametrize(
    ("ends", "said"),
    [((1.5, 3.5), "2.50 (1.50 to 3.50)"), ((1.5, None), "2.50 (from 1.50)"), ((None, 3.5), "2.50 (up to 3.50)")],
)
def test_an_interval_may_be_open_at_one_end(ends, said):
    assert text_of(shown({"ratio": 2.5, "lower": ends[0], "upper": ends[1]}, ".2f", "ratio")) == said
    assert text_of(shown({"ratio": 2.5, "lower": None, "upper": None}, ".2f", "ratio")) == "2.50"
    assert text_of(shown({"ratio": None, "lower": None, "upper": None}, ".2f", "ratio")) == "not computable"


def test_an_interval_may_end_at_zero():
    assert text_of(shown({"value": 0.5, "lower": 0.0, "upper": 1.0}, ".1f")) == "0.5 (0.0 to 1.0)"


def test_names_from_the_cohort_stay_text(all_of_it):
    evil = "<script>alert(1)</script>"
    all_of_it["domains"] = [domain(evil, arm, 0.5 + number / 10) for number, arm in enumerate(ARMS)]
    all_of_it["domains"] += [domain("north", arm, 0.9) for arm in ARMS]
    all_of_it["differences"].append(difference(f"site {evil}", "auc", 0.1))
    all_of_it["learning_curve"] += [point("adapted", 10, 0.6, of=evil), point("adapted", 100, 0.7, of=evil)]
    all_of_it["challenges"][0] |= {"name": evil, "words": evil}
    all_of_it["label_efficiency"][0]["words"] = evil
    all_of_it["verdicts"][0] |= {"why": evil}
    all_of_it["trajectories"] += course("adapted", evil)
    markup = drawn(all_of_it)
    assert "<script" not in markup and markup.count("&lt;script&gt;") >= 8
    assert f"Worst site: {evil} for adapted (AUC 0.50)" in text_of(markup)


def test_an_arm_that_is_missing_leaves_no_curve_and_no_row(all_of_it):
    legend = set(re.findall(r'class="legend"[^>]*>([^<]+)', drawn(all_of_it)))
    assert legend == {"adapted", "ImageNet", "from scratch"}
    only = {name: [row for row in rows if row.get("arm", "adapted") == "adapted"] for name, rows in all_of_it.items()}
    markup = drawn(only)
    assert set(re.findall(r'class="legend"[^>]*>([^<]+)', markup)) == {"adapted"}
    assert markup.count('class="whisker"') == 2 + 1 and "from scratch</td>" not in markup


def test_arms_stand_in_one_order_and_an_unknown_one_comes_last():
    rows = [{"arm": arm} for arm in ("other", "scratch", "adapted")]
    assert [arm for arm, _ in of_arms(rows)] == ["adapted", "scratch", "other"]


def test_equal_ratios_of_patients_are_equally_far_apart_and_ticks_stand_where_they_say():
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


def test_a_figure_that_does_not_exist_is_not_drawn():
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


def test_sites_share_one_scale_and_each_whisker_lies_where_its_figures_say():
    plot = forest([domain("north", "adapted", 0.6), domain("south", "imagenet", 0.8)])
    dots = [float(re.search(r'cx="([\d.]+)"', svg)[1]) for svg in plot["drawn"]]
    ends = [re.search(r'class="curve c\d" x1="([\d.]+)" x2="([\d.]+)"', svg).groups() for svg in plot["drawn"]]
    assert all(float(low) < dot < float(high) for dot, (low, high) in zip(dots, ends, strict=True))
    inside = [float(re.search(r'class="inside c\d" x1="([\d.]+)"', svg)[1]) for svg in plot["drawn"]]
    assert inside[0] == inside[1] == dots[1]  # 0.8 is the internal AUC of both
    scale = {text: x for x, text in ticks(plot["axis"])}
    assert scale["0.6"] == pytest.approx(dots[0], abs=0.2) and scale["0.8"] == pytest.approx(dots[1], abs=0.2)


def test_the_external_site_comes_last_and_a_site_without_an_auc_has_words(nothing):
    rows = [domain("a", "adapted", 0.7, kind="external"), domain("b", "adapted", 0.6)]
    rows += [domain("c", "adapted", 0.5) | dict.fromkeys(("auc", "auc_lower", "auc_upper", "gap"))]
    markup = drawn(nothing | {"domains": rows})
    table = rows_of(markup, "New domains")
    assert [row[0] for row in table[1:4]] == ["b", "c", "a locked, external"]
    assert table[2].count("not computable") == 2 and markup.count('class="whisker"') == 2 + 1
    assert "Worst site: b for adapted (AUC 0.60)." in text_of(markup)


def test_cases_of_several_external_sites_are_not_called_a_site_without_a_name(nothing):
    rows = [domain(None, "adapted", 0.7, kind="external"), domain(None, "adapted", 0.6)]
    table = rows_of(drawn(nothing | {"domains": rows}), "New domains")
    assert [row[0] for row in table[1:3]] == ["(none)", "all external cases locked, external"]


def test_times_of_two_arms_stand_together_and_what_is_said_of_all_is_said_once(nothing):
    rows = [speed(unit, 2.0, lower=None, words="not reached in 1 of 4") for unit in ("epochs", "passes")]
    rows += [speed("epochs", 4.0, arm="imagenet", reference="scratch")]
    rows += [speed("seconds", 5.0) | {"reached": 4}]  # of another file, so it comes last
    markup = drawn(nothing | {"time_to_quality": rows})
    table = rows_of(markup, "Shorter training")[1:]
    assert [row[:2] for row in table if len(row) == 7] == [
        ["adapted against ImageNet", "epochs"],
        ["ImageNet against from scratch", "epochs"],
    ]
    assert [row[0] for row in table if len(row) < 7] == ["image passes", "seconds", "not reached in 1 of 4"]
    assert table[0][4] == "2.00 (up to 4.00)" and table[2][-1] == "4 of 4 folds"


def test_arms_that_never_fit_equally_well_have_words_instead_of_figures(all_of_it):
    assert "+0.250 (-0.125 to +0.625)" in text_of(drawn(all_of_it))
    empty = dict.fromkeys(("train_loss", "arm_gap", "reference_gap", "difference", "lower", "upper"))
    all_of_it["overfitting"][0] |= empty | {"minimum_detectable": None, "words": "no equal training loss"}
    said = text_of(drawn(all_of_it))
    assert "adapted against ImageNet no equal training loss" in said and "not computable" not in said


@pytest.mark.parametrize(("value", "said"), [(0.0471, "0.0471"), (4.2, "4.2"), (1234567.8, "1,234,568"), (None, "")])
def test_amounts_are_written_with_as_many_digits_as_they_need(value, said):
    assert amount(value) == said


def test_figures_of_an_arm_stand_in_one_row_and_one_that_is_missing_leaves_its_cell_empty(nothing):
    rows = [
        final("internal", "imagenet", "ece", 0.5),
        final("internal", "adapted", "ece", 0.25),
        final("internal", "adapted", "auc", 0.75),
    ]
    table = rows_of(drawn(nothing | {"final": [*rows, final("test", "adapted", "auc", 0.5)]}), "Better result")
    assert table[1] == [
        *("internal validation", "adapted", "40"),
        *("0.750 (0.700 to 0.800)", "", "", "", "0.250 (0.200 to 0.300)"),
    ]
    assert table[2][0] == "ImageNet"  # after the adapted arm, whatever the order of the table
    assert table[3][:4] == ["locked test set", "adapted", "40", "0.500 (0.450 to 0.550)"]


def test_differences_at_single_sites_are_folded_away(all_of_it):
    markup = drawn(all_of_it)
    (row,) = rows_of(markup, "Paired differences")[1:]
    assert row[:2] == ["internal validation", "adapted against ImageNet"]
    assert row[3] == "+0.125 (+0.075 to +0.175) detectable 0.062"
    assert [row[0] for row in rows_of(markup, "<summary>Site by site</summary>")] == ["Set", "north"]


def test_classes_are_folded_away_and_all_of_them_together_stand_open(all_of_it):
    markup = drawn(all_of_it)
    opened, folded = markup.split("<summary>Class by class")
    assert opened.count("<title>Learning curve") == 1 and folded.count("<title>Learning curve") == 2
    table = rows_of(markup, "<summary>As a table, probe")
    assert table[0][0] == "Class" and [row[0] for row in table[1:]] == ["all"] * 4 + ["mild"] * 4 + ["severe"] * 4
    assert table[2] == ["all", "adapted", "100 %", "100", "1", "40", "0.800 (0.750 to 0.850)", "0.400 (0.350 to 0.450)"]


def test_a_long_table_becomes_wide_without_losing_a_row():
    rows = [final(scope, "adapted", figure, 0.5) for scope in ("internal", "test") for figure in ("auc", "ece")]
    found = wide(rows, ("scope", "arm"))
    assert [list(row["figures"]) for row in found] == [["auc", "ece"]] * 2


def test_label_efficiency_and_extrapolation_are_told_in_words(all_of_it):
    said = text_of(drawn(all_of_it))
    assert "against ImageNet: as the curve says; ratio 2.00 (from 1.25); 50 instead of 100 patients" in said
    assert "Adapted (probe on frozen features): as the curve says" in said
    unknown = dict.fromkeys(("ratio", "lower", "upper", "patients"))
    all_of_it["label_efficiency"][0] |= unknown | {"words": "one fraction is no curve"}
    said = text_of(drawn(all_of_it))
    assert "one fraction is no curve" in said and "ratio 2.00" not in said


def test_zero_shots_are_measured_or_said_to_be_not_available(all_of_it):
    assert "not available no model was named" in text_of(drawn(all_of_it))
    row = {"state": "measured", "model": "a-clip", "scope": "internal", "figure": "auc", "n": 40, "words": None}
    all_of_it["zero_shot"] = [row | limits(0.625, 0.125)]
    said = text_of(drawn(all_of_it))
    assert "a-clip, internal, n = 40: AUC 0.625 (0.500 to 0.750)." in said and "not available" not in said


def test_few_shot_methods_are_drawn_apart_with_their_paired_differences(all_of_it):
    all_of_it["few_shot"] += [shots("adapted", "prototype", number, 0.6) for number in (1, 10)]
    markup = drawn(all_of_it)
    titles = re.findall("<title>Few-shot curve, (.*?)</title>", markup)
    assert titles == ["nearest neighbours", "nearest class mean"]
    table = rows_of(markup[markup.index("Few shots") :], "As a table")
    assert ["nearest neighbours", "adapted less ImageNet", "1", "+0.062 (+0.052 to +0.072)", "100"] in table


def test_every_term_is_explained_in_the_list_too(all_of_it):
    markup = drawn(all_of_it, budget=1)
    hovered = set(re.findall('<abbr title="(.*?)">', markup))
    assert len(hovered) > 7 and hovered <= set(OF_EVIDENCE.values())
    assert dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", markup)) == OF_EVIDENCE


def test_the_section_needs_no_script_and_no_network(all_of_it):
    markup = drawn(all_of_it)
    assert not re.search("<script|http:|https:|url[(]|<link|@import", markup)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_tables_above_have_the_columns_that_the_stage_writes(all_of_it, name):
    assert all_of_it[name] and all(set(row) <= set(COLUMNS[name]) for row in all_of_it[name])


def test_a_stage_that_has_not_run_is_named():
    assert "the stage has not run (python -m pipeline evidence)" in text_of(drawn(None))


def write(tables):
    """Write the tables as the stage does: a header only where nothing was measured."""
    for name, rows in tables.items():
        paths.write_table(pd.DataFrame(rows) if rows else pd.DataFrame(columns=["arm"]), paths.evidence(name))
    paths.write_json(RECORD, paths.EVIDENCE / "record.json")


def test_the_page_reads_what_the_stage_wrote(reported, all_of_it):  # noqa: F811
    reported()
    assert "the stage has not run" in paths.REPORT.read_text()
    all_of_it["domains"] += [domain("NA", arm, 0.6) for arm in ARMS[:2]]
    write(all_of_it)
    paths.write_table(pd.DataFrame([speed("seconds", 7.0)]), paths.COST / "evidence_time.csv")
    run("report")
    page = paths.REPORT.read_text()
    section = page[page.index('<h2 id="evidence">') : page.index('<h2 id="release">')]
    assert section.count("<svg") == drawn(all_of_it).count("<svg") and '<a href="#evidence">' in page
    said = text_of(section)
    assert "NA 20 (8) adapted" in said and "seconds 2 14 7.00 (1.25 to 14.00)" in said
    assert "Adaptation: helped with 5 of 5 promises" in said and "None" not in said and "nan" not in said


def test_the_page_is_drawn_from_headers_alone(reported, nothing):  # noqa: F811
    write(nothing)
    assert json.loads((paths.EVIDENCE / "record.json").read_text())["budget"] == 0
    reported()
    assert paths.REPORT.read_text().count('class="badge not-measured"') == 10
