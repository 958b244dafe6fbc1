"""The report's section on adaptation, from records and metrics that are written by hand instead of trained."""

import json
import re

import pandas as pd
import pytest

from pipeline import paths
from tests.stages.by_hand import record, searched, trained_by_hand
from tests.stages.report.page import rows_of, text_of
from tests.stages.running import FOLDS, run

LIMITS = ("", "_lower", "_upper")


def limits(name, value, lower, upper):
    return dict(zip((f"{name}{limit}" for limit in LIMITS), (value, lower, upper), strict=True))


def write(rows, file):
    """Put rows below the header that calibrate wrote, which is all there is without a search or a site left out."""
    paths.write_table(pd.DataFrame(rows), file)


def candidate(scope, name, n=20, **rest):
    counts = {"scope": scope, "candidate": name, "chosen_in": 2, "n": n, "patients": 15, "events": 9}
    metrics = limits("auc", 0.75, 0.5, 0.9) | limits("log_loss", 0.6, 0.4, 0.8)
    return counts | metrics | {"oracle": False} | limits("regret", None, None, None) | rest


def test_adaptation_is_described_with_the_images_that_it_saw(reported):
    said = text_of(reported())
    roles = pd.read_csv(paths.split("final"))["role"]
    training, unlabelled = (roles == "train").sum(), (roles == "unlabelled").sum()
    assert unlabelled > 0
    assert "Encoder tiny (ImageNet; a file; licence: Apache-2.0)" in said
    assert (
        "Method of the released model: adabn: the encoder's normalisation statistics" in said
        and "50% of the way" in said
    )
    assert f"saw {training + unlabelled} images without their labels: {training} of training cases" in said
    assert f"{unlabelled} of unlabelled cases" in said
    assert "(site outside)" in said and "With adapt.target: unlabelled it saw no evaluated image" in said
    assert "Site seen unlabelled:" in said


def test_evaluated_images_that_were_seen_are_counted(reported):
    roles = pd.read_csv(paths.split("final"))["role"]
    record("final", target="evaluated", evaluated_seen=True, images_seen=int((roles != "validation").sum()))
    said = text_of(reported())
    assert f"{(roles == 'test').sum()} of evaluated cases" in said and "it saw evaluated images" in said
    assert f": {(roles == 'train').sum()} of training cases" in said


def test_what_is_not_there_leaves_no_heading_behind(reported):
    markup = reported()
    assert re.findall("<h3>(.*?)</h3>", markup) == ["Cost"]
    assert "never recognised" not in markup and "Test-time" not in markup and "Three-dimensional" not in markup


def test_test_time_adaptation_and_inflated_filters_are_described(reported):
    record("final", test_time_steps=3, test_time_rate=0.001, filter_depth=5)
    said = text_of(reported())
    assert "3 steps (rate 0.001)" in said and "depth of 5 slices" in said
    record("final", test_time_steps=0, test_time_rate=0.001, filter_depth=1)
    said = text_of(reported())
    assert "Test-time" not in said and "Three-dimensional" not in said


def test_cost_is_summed_over_the_folds_that_recorded_it(reported):
    for fold, seconds in (("0", 2.5), ("final", 4.0)):
        paths.write_json({"seconds": seconds, "peak_mib": int(seconds * 200)}, paths.cost("adapt", fold))
    header, *rows = rows_of(reported(), "Cost")
    assert header == ["Fold", "Method", "Images seen", "Seconds", "Peak memory, MiB"]
    seen = {fold: str(paths.read_json(paths.adaptation(fold))["images_seen"]) for fold in FOLDS}
    assert rows[0] == ["0", "adabn", seen["0"], "2.5", "500"]
    assert rows[1] == ["1", "adabn", seen["1"], "not recorded"]
    assert rows[-1] == ["total of 2", "", "", "6.5", "800 at most"]


def epoch(number, held_out, rank=8.0):
    losses = {"train_loss": 2.0, "held_out_loss": held_out, "control_loss": 2.0}
    return {"epoch": number, **losses, "rank": rank, "learning_rate": 0.0}


@pytest.mark.parametrize(
    ("losses", "kept"),
    [([2.5, 1.5, 1.75], 1), ([2.5, 2.25, 2.125], 0)],
    ids=["one that beats the control", "none that does"],
)
def test_curve_of_learning_without_labels_marks_the_selected_epoch(reported, losses, kept):
    curve = [epoch(*row) for row in zip(range(3), losses, strict=True)]
    record("1", method="simclr", curve=curve, kept_epoch=kept, encoder_moved=kept > 0)
    markup = reported()
    assert markup.count("<svg") == 1 and "Learning without labels, fold 1" in markup
    rows = rows_of(markup, "As a table")
    assert [row[0] for row in rows[1:]] == [f"{number}{' (kept)' * (number == kept)}" for number in range(3)]
    assert [row[2] for row in rows[1:]] == [f"{loss:.3f}" for loss in losses]
    assert (f"epoch {kept} kept" if kept else "none beat the control") in text_of(markup)


def test_the_search_tells_the_choices_and_hides_each_fold_in_details(reported):
    for fold in ("0", "1", "final"):
        record(fold, asked="auto", method="none" if fold == "1" else "adabn", search=searched(why="<b>surer</b>"))
    markup = reported()
    assert "Requested: auto; selected for the released model: adabn" in text_of(markup)
    assert rows_of(markup, "How the method was selected")[1:] == [
        ["none", "1 of 3", "1"],
        ["adabn", "2 of 3", "0, final"],
    ]
    assert markup.count("<summary>Search of fold") == 3 and "<details open" not in markup
    rows = rows_of(markup, "Search of fold 1")
    assert rows[1][:4] == ["none", "0", "0.500", "0.500 (0.500)"]
    assert rows[2][:4] == ["adabn", "0.5", "0.250", "-0.125 (0.062)"]
    assert rows[2][6:] == ["not computable", "yes", "<b>surer</b>"] and "<b>surer" not in markup


def test_oracle_choice_and_regret_are_beside_the_search_for_every_set(reported):
    record("final", asked="auto", search=searched())
    auto = candidate("internal", "auto", **limits("regret", -0.0625, -0.125, 0.0))
    outer = candidate("external", "auto", n=8, **limits("regret", None, None, None))
    internal = [candidate("internal", "none"), candidate("internal", "adabn", oracle=True), auto]
    write([*internal, candidate("external", "none", n=8, oracle=True), outer], paths.SEARCH)
    scores = [("source_loss", 0.5, 2), ("deep_embedded_validation", None, 1)]
    rows = [(scope, *score) for scope in ("internal", "external") for score in scores]
    write(
        [dict(zip(("scope", "validator", "kendall_tau", "candidates"), row, strict=True)) for row in rows],
        paths.VALIDATORS,
    )
    markup = reported()
    said = text_of(markup)
    assert "the internal cases (n = 20, 9 events, 15 patients), an oracle would have selected adabn" in said
    assert "regret of auto is -0.062 (-0.125 to 0.000) nats" in said
    assert "the external cases (n = 8, 9 events, 15 patients), an oracle would have selected none" in said
    assert "regret of auto is not computable" in said
    evaluated = rows_of(markup, "Every candidate on the internal cases")
    assert evaluated[2] == ["adabn (oracle)", "2", "20 (9)", "0.75 (0.50 to 0.90)", "0.600 (0.400 to 0.800)"]
    header, *orders = rows_of(markup, "An oracle is selected by the labels")
    assert header[1:] == ["Kendall's tau, internal (candidates)", "Kendall's tau, external (candidates)"]
    assert orders[0] == ["source loss", "0.50 (2)", "0.50 (2)"]
    assert orders[1] == ["embedded validation", "not computable (1)", "not computable (1)"]


def left_out(site, unlabelled, **rest):
    metrics = limits("auc", 0.75, 0.5, 0.9) | limits("log_loss", 0.6, 0.4, 0.8)
    metrics |= limits("calibration_slope", 1.5, 0.5, 2.5) | {"worst_recall": 0.25, "state": "calibrated"}
    known = {"site": site, "unlabelled": unlabelled, "fold": f"fold-of-{site}", "n": 12, "patients": 9, "events": 6}
    return known | metrics | rest


def test_each_site_left_out_stands_with_its_images_seen_and_unseen(reported):
    west = left_out("west", "none there", **limits("auc", None, None, None))
    seen = left_out("NA", "seen", **limits("auc", 0.8125, 0.625, 0.9375))
    write([left_out("NA", "unseen"), west, seen], paths.LEFT_OUT)
    rows = rows_of(reported(), "Sites left out")[1:]
    rest = ["0.600 (0.400 to 0.800)", "1.50 (0.50 to 2.50)", "0.25", "calibrated"]
    assert rows[0] == ["NA", "seen", "12 (6)", "9", "0.81 (0.62 to 0.94)", *rest]
    assert rows[1] == ["unseen", "12 (6)", "9", "0.75 (0.50 to 0.90)", *rest]
    assert rows[2] == ["west", "none there", "12 (6)", "9", "not computable", *rest]


def test_class_that_is_never_recognised_is_a_warning(reported):
    write([{"scope": "fold_0", "class": "ill", "n": 12, "recall": 0.0}], paths.COLLAPSES)
    markup = reported()
    assert 'class="banner"' in markup
    said = text_of(markup)
    assert "None of the 12 cases of class ill was recognised (fold 0; recall 0, 95 % interval up to 0.24)" in said
    assert "dann" not in said
    assert 'ill (fold 0, n = 12): see <a href="#adaptation">' in paths.REPORT.read_text()
    record("1", method="dann", strength=1.0)
    assert "known failure of dann where sites differ in prevalence, and dann was used in fold 1." in text_of(reported())
    for fold in FOLDS:
        record(fold, method="dann", strength=1.0)
    said = text_of(reported())
    assert "dann was used in every fold" in said and "with weight 1 in the loss" in said


def test_page_reads_what_calibrate_writes_of_a_search_and_of_sites(reported, project):
    names = ["without-inside", "blind-inside"]
    project(split__folds=[*FOLDS, *names])
    run("split")
    for name in names:
        record(name, unlabelled_sites=[])
        trained_by_hand(name, seed=3)
    for fold in FOLDS:
        record(fold, asked="auto", search=searched())
        logits = pd.read_csv(paths.predictions(fold), keep_default_na=False)[["case", "role", "logit_0", "logit_1"]]
        candidates = [logits.assign(candidate="none", logit_0=0.0), logits.assign(candidate="adabn")]
        paths.write_table(pd.concat(candidates), paths.search(fold))
    run("calibrate")
    markup = reported()
    said = text_of(markup)
    assert "an oracle would have selected adabn" in said and "regret of auto is 0.000 (the same in every draw)" in said
    assert [row[0] for row in rows_of(markup, "Every candidate on the internal")[1:]] == [
        "none",
        "adabn (oracle)",
        "auto",
    ]
    assert len(rows_of(markup, "Sites left out")) == 3
    assert json.loads(paths.fold_metrics("0").read_text())["n"] > 0


def test_the_page_needs_no_script_and_no_network(reported):
    record("1", method="byol", curve=[epoch(0, 2.5), epoch(1, 1.5)], kept_epoch=1)
    markup = reported()
    assert "<script" not in markup and "http" not in markup and not re.search(r"<[^>]+\son\w+=", markup)
