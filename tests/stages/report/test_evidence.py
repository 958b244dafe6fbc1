"""The section on evidence, from tables that are written by hand."""

import json
import re

import pandas as pd
import pytest

from pipeline import paths
from pipeline.stages.report.evidence import amount, enough_data, wide
from pipeline.stages.report.glossary import TERMS
from pipeline.stages.report.verdicts import multiplicity, promises, shown, summary
from tests.stages.conftest import project  # noqa: F401  (a fixture, as is `reported`)
from tests.stages.report.conftest import (
    ARMS,
    COLUMNS,
    RECORD,
    course,
    difference,
    domain,
    drawn,
    final,
    headings,
    limits,
    measured,
    point,
    shots,
    speed,
    verdict,
)
from tests.stages.report.page import rows_of, text_of
from tests.stages.running import run


def test_what_was_not_measured_has_ten_badges_no_metric_and_no_heading(nothing):
    markup = drawn(nothing)
    assert "Adaptation: not measured." in markup and "Transfer: not measured." in markup
    assert markup.count('class="badge not-measured">not measured<') == 10 == markup.count('class="badge')
    assert headings(markup) == [] and "<svg" not in markup and "not computable" not in markup
    assert "No network was trained for this" in text_of(markup)


def test_everything_that_was_measured_has_its_heading_and_its_charts(all_of_it):
    markup = drawn(all_of_it, budget=5000, passes_spent=4000, rates={"0": 0.01})
    assert headings(markup) == [
        *("Fewer labels", "Shorter training, less overfitting", "New domains", "Better result", "Few-shot"),
        *("Zero-shot", "Three challenges"),
    ]
    assert "image passes (evidence.budget), of which 4,000 were spent" in text_of(markup)
    assert "0.01 (fold 0)" in markup and "None" not in text_of(markup)
    titles = re.findall("<title>(.*?)</title>", markup)
    assert len(titles) == 3 + 2 + 1 and markup.count('class="whisker"') == 4 + 1


def test_verdicts_are_told_in_one_sentence_with_harms_first():
    words = ("helped", "no evidence", "no evidence", "helped", "not measured")
    rows = [verdict(number, "adaptation", word) for number, word in enumerate(words, 1)]
    rows[3] |= {"scope": "left out", "metric": "auc"}
    rows.insert(3, verdict(4, "adaptation", "hurt", scope="external", metric="log_loss"))
    assert summary(rows, "adaptation") == (
        "Adaptation: harmed new domains (external test set, log-loss); helped with fewer labels, new domains (sites "
        "left out of training, AUC); no evidence for shorter training, less overfitting; not measured: better result."
    )
    assert summary(rows, "transfer") == "Transfer: not measured."


def test_a_verdict_names_its_set_and_metric(nothing):
    harm = measured(4, "adaptation", "hurt", -0.25, 0.1) | {"scope": "external", "metric": "log_loss"}
    gain = measured(4, "adaptation", "helped", 0.25, 0.1) | {"scope": "left out", "metric": "auc"}
    said = text_of(drawn(nothing | {"verdicts": [harm, gain]}))
    assert "hurt external test set, log-loss lower by: -0.250 (-0.350 to -0.150)" in said
    assert said.index("hurt external") < said.index("sites left out of training, AUC higher by: +0.250 (+0.150 to")


def test_the_number_of_wrong_verdicts_by_chance_is_told(nothing):
    rows = [verdict(number, "adaptation", "no evidence") for number in (1, 2, 3, 5)]
    assert multiplicity(rows, 0.95) == multiplicity([*rows, verdict(4, "transfer", "not measured")], 0.95)
    assert "these 4 verdicts" in multiplicity(rows, 0.95) and "0.2 of them" in multiplicity(rows, 0.95)
    assert multiplicity(rows[:1], 0.95) == ""
    assert multiplicity(rows, 0.95) in text_of(drawn(nothing | {"verdicts": rows}))


@pytest.mark.parametrize(("ends", "bold"), [((1.25, None), True), ((0.7, 2.4), False), ((0.4, 0.8), True)])
def test_a_ratio_is_bold_only_if_its_interval_leaves_one_out(all_of_it, ends, bold):
    all_of_it["label_efficiency"][0] |= dict(zip(("lower", "upper"), ends, strict=True))
    words = all_of_it["label_efficiency"][0]["words"]
    assert (f"<strong>{words}</strong>" in drawn(all_of_it)) == bold


def test_each_promise_has_both_comparisons_in_any_order():
    rows = [verdict(number, comparison) for comparison in ("transfer", "adaptation") for number in (5, 1, 4, 2, 3)]
    found = promises(rows)
    assert [promise["number"] for promise in found] == [1, 2, 3, 4, 5]
    assert {tuple(promise["cells"]) for promise in found} == {("adaptation", "transfer")}
    assert {len(cells) for promise in found for cells in promise["cells"].values()} == {1}


def test_verdict_comes_with_metric_interval_and_detectable_difference(nothing):
    rows = [measured(1, "adaptation", "no evidence", 0.03125, 0.125), measured(2, "adaptation", "helped", 2.5, 1.0)]
    markup = drawn(nothing | {"verdicts": rows})
    assert '<span class="badge no-evidence">no evidence</span>' in markup
    said = text_of(markup)
    assert "difference: +0.031 (-0.094 to +0.156)" in said and "Detectable: 0.062. Training, n = 40 cases of 30" in said
    assert "1. Fewer labels As good with fewer" in said and "2. Shorter training" in said
    assert "Speed-up, in image passes: 2.50 (1.50 to 3.50)" in said and "as it came" in said


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


def test_the_external_site_comes_last_and_a_site_without_an_auc_has_words(nothing):
    rows = [domain("a", "adapted", 0.7, kind="external"), domain("b", "adapted", 0.6)]
    rows += [domain("c", "adapted", 0.5) | dict.fromkeys(("auc", "auc_lower", "auc_upper", "gap"))]
    markup = drawn(nothing | {"domains": rows})
    table = rows_of(markup, "New domains")
    assert [row[0] for row in table[1:4]] == ["b", "c", "a external test set"]
    assert table[2].count("not computable") == 2 and markup.count('class="whisker"') == 2 + 1
    assert "Worst site: b for adapted (AUC 0.60)." in text_of(markup)


def test_cases_of_several_external_sites_are_not_called_one_site(nothing):
    rows = [domain(None, "adapted", 0.7, kind="external"), domain(None, "adapted", 0.6)]
    table = rows_of(drawn(nothing | {"domains": rows}), "New domains")
    assert [row[0] for row in table[1:3]] == ["(none)", "all external cases external test set"]


def test_times_of_two_arms_are_together_and_common_words_appear_once(nothing):
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


def test_arms_that_never_fit_equally_well_have_words_instead_of_metrics(all_of_it):
    assert "+0.250 (-0.125 to +0.625)" in text_of(drawn(all_of_it))
    empty = dict.fromkeys(("train_loss", "arm_gap", "reference_gap", "difference", "lower", "upper"))
    all_of_it["overfitting"][0] |= empty | {"minimum_detectable": None, "words": "no equal training loss"}
    said = text_of(drawn(all_of_it))
    assert "adapted against ImageNet no equal training loss" in said and "not computable" not in said


@pytest.mark.parametrize(("value", "said"), [(0.0471, "0.0471"), (4.2, "4.2"), (1234567.8, "1,234,568"), (None, "")])
def test_amounts_are_written_with_as_many_digits_as_they_need(value, said):
    assert amount(value) == said


def test_metrics_of_an_arm_share_a_row_and_a_missing_one_is_empty(nothing):
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
    assert table[3][:4] == ["test set", "adapted", "40", "0.500 (0.450 to 0.550)"]


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
    rows = [final(scope, "adapted", metric, 0.5) for scope in ("internal", "test") for metric in ("auc", "ece")]
    found = wide(rows, ("scope", "arm"))
    assert [list(row["metrics"]) for row in found] == [["auc", "ece"]] * 2


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
    row = {"state": "measured", "model": "a-clip", "scope": "internal", "metric": "auc", "n": 40, "words": None}
    all_of_it["zero_shot"] = [row | limits(0.625, 0.125)]
    said = text_of(drawn(all_of_it))
    assert "a-clip, internal, n = 40: AUC 0.625 (0.500 to 0.750)." in said and "not available" not in said


def test_few_shot_methods_are_drawn_apart_with_their_paired_differences(all_of_it):
    all_of_it["few_shot"] += [shots("adapted", "prototype", number, 0.6) for number in (1, 10)]
    markup = drawn(all_of_it)
    titles = re.findall("<title>Few-shot curve, (.*?)</title>", markup)
    assert titles == ["nearest neighbours", "nearest class mean"]
    table = rows_of(markup[markup.index("Few-shot") :], "As a table")
    assert ["nearest neighbours", "adapted minus ImageNet", "1", "+0.062 (+0.052 to +0.072)", "100"] in table


def test_every_term_of_the_evidence_is_explained(all_of_it):
    hovered = set(re.findall('<a class="term" href=".*?" title="(.*?)">', drawn(all_of_it, budget=1)))
    assert len(hovered) > 7 and hovered <= set(TERMS.values())


def test_the_section_needs_no_script_and_no_network(all_of_it):
    markup = drawn(all_of_it)
    assert not re.search("<script|http:|https:|url[(]|<link|@import", markup)


@pytest.mark.parametrize("name", COLUMNS)
def test_the_tables_above_have_the_columns_that_the_stage_writes(all_of_it, name):
    assert all_of_it[name] and all(set(row) <= set(COLUMNS[name]) for row in all_of_it[name])


def test_a_stage_that_has_not_run_is_named():
    assert "the stage has not run (medadapt evidence)" in text_of(drawn(None))


def write(tables):
    """Write the tables as the stage does: a header only where nothing was measured."""
    for name, rows in tables.items():
        paths.write_table(pd.DataFrame(rows) if rows else pd.DataFrame(columns=["arm"]), paths.evidence(name))
    paths.write_json(RECORD, paths.EVIDENCE / "record.json")


def test_the_page_reads_what_the_stage_wrote(reported, all_of_it):
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
    assert "Adaptation: helped with fewer labels, shorter training" in said and "None" not in said and "nan" not in said


def test_the_page_is_drawn_from_headers_alone(reported, nothing):
    write(nothing)
    assert json.loads((paths.EVIDENCE / "record.json").read_text())["budget"] == 0
    reported()
    assert paths.REPORT.read_text().count('class="badge not-measured"') == 10


def test_enough_data_is_answered_in_sentences():
    patients = [{"challenge": "data", "name": f"patients with {name}", "value": 25.6} for name in ("cyst", "node")]
    said = enough_data(
        [*patients, {"challenge": "knowledge"}], [{"arm": "adapted", "recipe": "probe", "words": "more"}]
    )
    assert said[0] == "On average, a fold trains on 25.6 patients with cyst and 25.6 patients with node."
    assert said[1] == "Adapted (probe on frozen features): more."
    assert enough_data(patients, [])[1].endswith("was not measured.") and enough_data([], []) == []
