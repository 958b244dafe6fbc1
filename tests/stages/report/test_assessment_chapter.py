"""The report's sections on calibration, decisions, certainty, subgroups and other places, as calibrate wrote them."""

import re

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.stages.calibrate.assessment import TABLES
from pipeline.stages.report.numbers import show_interval
from pipeline.stages.report.run import ASSESSED
from tests.stages.by_hand import (
    LABELS,
    labels_of_patients,
    predict_two_classes,
    relabel,
    right_more_often_than_not,
    write_predictions,
)
from tests.stages.clinic import RAW
from tests.stages.conftest import write_status
from tests.stages.report.page import rows_of, text_of
from tests.stages.running import FOLDS, run

RANKED = ("auc", "sensitivity", "specificity")
AUTO = {"calibrate__per_patient": "auto", "calibrate__method": "auto"}


def page():
    write_status()
    run("report")
    return paths.REPORT.read_text()


def section(markup, name):
    return re.search(rf'<h2 id="{name}">.*?(?=<h2 )', markup, re.S)[0]


def assessed(table):
    return pd.read_csv(paths.assessed(table), keep_default_na=False, na_values=[""])


@pytest.fixture
def reported(project):
    """A project of two classes, some patients with two images, that was calibrated with declared prevalences."""
    predict_two_classes(project, FOLDS, **AUTO, calibrate__prevalences=[0.1])
    run("calibrate")


def test_patients_stand_first_and_images_are_folded_away(reported):
    markup = page()
    internal, test = (
        paths.read_json(paths.pooled_metrics(f"{name}_patients_calibrated")) for name in ("internal", "external")
    )
    said = text_of(markup)
    assert f"an AUC of {internal['auc']['value']:.2f} " in said
    assert f"on {internal['n']} patients (one prediction per patient)" in said
    assert f"on {test['n']} patients (one prediction per patient)" in said
    calibration = section(markup, "calibration")
    assert "one prediction each, the mean of the logits of a patient's images" in text_of(calibration)
    first, folded = calibration.split("<summary>image by image</summary>")
    assert f"internal validation, n = {internal['n']} patients" in first and "images (" not in first
    images = paths.read_json(paths.pooled_metrics("internal_calibrated"))["n"]
    assert images > internal["n"] and f"internal validation, n = {images} images" in folded
    folds = rows_of(markup, '<h2 id="folds">')
    assert [row[0] for row in folds[-2:]] == ["pooled", "pooled, patients"]
    assert [row[1] for row in folds[-2:]] == [str(images), str(internal["n"])]


def test_the_table_of_calibration_says_what_the_metrics_say(reported):
    row = assessed("calibration").query("scope == 'internal_patients' and state == 'calibrated'").iloc[0]
    table = section(page(), "calibration")
    rows = {cells[0]: cells for cells in rows_of(table, "<figcaption>") if len(cells) == 5}
    shown = (
        f"{row['observed_expected']:.2f} ({row['observed_expected_lower']:.2f} to {row['observed_expected_upper']:.2f})"
    )
    assert rows["O:E"][2] == shown
    assert rows["ICI"][2].startswith(f"{row['ici']:.3f} (") and f"if perfect: {row['ici_null']:.3f}" in rows["ICI"][2]
    assert rows["MCB"][2].startswith(f"{row['mcb']:.4f}") and rows["DSC"][2].startswith(f"{row['dsc']:.4f}")
    before = assessed("calibration").query("scope == 'external_patients' and state == 'uncalibrated'").iloc[0]
    assert rows["Log-loss"][3].startswith(f"{before['log_loss']:.3f}")
    assert "are enough for a rough estimate only" in text_of(table)


def test_every_chart_has_its_curve_and_histogram_for_each_set_and_level(reported):
    markup = page()
    names = "Calibration curve|Predictions|ROC curve|Precision-recall curve|Decision curve|Risk-coverage curve"
    titles = re.findall(f"<title>({names})", markup)
    assert all(titles.count(name) == 4 for name in set(titles)) and len(set(titles)) == 6
    assert "<script src" not in markup and "http:" not in markup and "https:" not in markup


def test_the_map_is_told_with_its_method_and_how_it_was_chosen(reported):
    calibrator = paths.read_json(paths.CALIBRATOR)
    markup = section(page(), "calibration")
    said = text_of(markup)
    assert f"{calibrator['fitted_on']['cases']} images of {calibrator['fitted_on']['patients']} patients" in said
    rows = rows_of(markup, "How the calibrator was selected")[1:]
    assert [row[0].removesuffix(" (chosen)") for row in rows] == [one["method"] for one in calibrator["choice"]]
    chosen = (
        "none" if calibrator.get("temperature") == 1 else calibrator["method"]
    )  # a temperature of 1 changes nothing
    assert [row[0] for row in rows if "(chosen)" in row[0]] == [f"{chosen} (chosen)"]


def test_a_map_that_was_given_was_not_chosen(project):
    predict_two_classes(project, FOLDS, calibrate__method="platt", calibrate__per_patient="none")
    run("calibrate")
    said = text_of(section(page(), "calibration"))
    assert "Platt scaling" in said and "How the calibrator was selected" not in said and "image by image" not in said


def test_folds_that_are_offset_are_warned_of(reported):
    file = paths.pooled_metrics("internal_patients_calibrated")
    metrics = paths.read_json(file)
    paths.write_json(metrics | {"pooled_is_off": True, "auc_mean_of_folds": 0.8125}, file)
    assert "Folds are offset." in page() and "read the mean of folds, 0.81." in text_of(page())
    paths.write_json(metrics | {"pooled_is_off": False}, file)
    assert "Folds are offset." not in page()


def test_groups_with_too_few_patients_have_words_instead_of_numbers(reported):
    table = assessed("subgroups")
    assert table["too_few"].any()
    markup = page()
    subgroups = rows_of(section(markup, "subgroups"), '<h2 id="subgroups">')
    assert [row[-1] for row in subgroups if "too few" in row]
    assert "Internal validation: no comparisons of AUCs." in text_of(section(markup, "subgroups"))
    assert (assessed("conformal")["note"] == "too few").any() and "too few" in section(markup, "certainty")


def test_what_is_not_declared_and_what_has_no_site_of_its_own_is_not_shown(reported):
    markup = page()
    assert "At another prevalence" in markup and "Updating the calibration at a new site" not in section(
        markup, "subgroups"
    )
    rows = rows_of(section(markup, "elsewhere"), "At another prevalence")[1:]
    assert {"0.100"} <= {cell for row in rows for cell in row} and "corrected" in {cell for row in rows for cell in row}
    for name in ("prevalence", "recalibration"):
        paths.write_table(pd.DataFrame(columns=["scope"]), paths.assessed(name))
    assert 'id="elsewhere"' not in page()


def test_several_labels_are_asked_one_by_one_and_the_first_stands_open(project):
    project(adapt__method="none", **AUTO)
    run("cohort", "preprocess", "split")
    relabel("multilabel", LABELS, labels_of_patients)
    for fold in FOLDS:
        write_predictions(fold, right_more_often_than_not, 3)
    run("calibrate")
    markup = page()
    calibration = section(markup, "calibration")
    known = list(dict.fromkeys(assessed("calibration")["of"]))
    assert known[:2] == ["blob", "edema"]
    headings = re.findall("<h3>(.*?)</h3>", calibration)
    assert headings[:-1] == [heading for label in known for heading in (label, f"{label}, image by image")]
    assert "<circle" not in calibration  # bins are of all labels together, and so of none of these curves
    assert "All labels together" in calibration and "top label" not in text_of(markup)


def test_several_classes_open_with_the_top_label_and_its_bins(project):
    grades = ["none", "mild", "severe"]
    project(adapt__method="none", calibrate__per_patient="none")
    run("cohort", "preprocess", "split")
    relabel("multiclass", grades, lambda table: {p: grades[i % 3] for i, p in enumerate(sorted(set(table["patient"])))})

    def near(cases, draws):
        truth = cases["label"].map(grades.index).to_numpy()
        return 4 * np.eye(3)[truth] + draws.normal(0, 1, (len(cases), 3))

    for fold in FOLDS:
        write_predictions(fold, near, 3)
    run("calibrate")
    markup = page()
    calibration = section(markup, "calibration")
    first, folded = calibration.split("<details><summary>3 more: none; mild; severe</summary>")
    assert "<h3>top label</h3>" in first and "<circle" in first and "<circle" not in folded
    assert assessed("calibration_curve").empty and "too few cases are near any prediction for a curve" in text_of(first)
    for name in ("decisions", "discrimination"):
        assert re.findall("<h3>(.*?)</h3>", section(markup, name)) == grades
    assert section(markup, "discrimination").count("<title>Precision-recall curve") == 2 * len(grades)
    assert "All classes together" in calibration


def test_names_from_the_cohort_stay_text_in_every_table_and_chart(project):
    table = pd.read_csv("data/raw/clinic/cohort.csv")
    table["site"] = table["site"].replace("inside", "<b>inside</b>")
    table.to_csv("data/raw/clinic/cohort.csv", index=False)
    predict_two_classes(project, FOLDS)
    run("calibrate")
    markup = page()
    assert "<b>inside" not in markup and "site &lt;b&gt;inside&lt;/b&gt;" in section(markup, "subgroups")


def test_every_term_leads_to_its_entry_and_every_link_to_a_place(reported):
    markup = page()
    listed = dict(re.findall('<dt id="(.*?)">.*?</dt><dd>(.*?)</dd>', markup, re.S))
    linked = set(re.findall('<a class="term" href="#(.*?)" title="(.*?)">', markup))
    assert len(linked) > 25 and linked <= set(listed.items()) and "<abbr" not in markup
    places = re.findall(r'\sid="(.*?)"', markup)
    assert len(places) == len(set(places)) and set(re.findall('href="#(.*?)"', markup)) <= set(places)


def test_a_figure_that_is_shown_twice_has_the_same_text(reported):
    markup = page()
    for scope, name in (("internal_patients", "internal validation"), ("external_patients", "external validation")):
        known = paths.read_json(paths.pooled_metrics(f"{scope}_calibrated"))
        auc, sensitivity, specificity = (text_of(show_interval(known[key])) for key in RANKED)
        classes = rows_of(section(markup, "classes"), f"<h3>{name.capitalize()}</h3>")[1:]
        assert [row[2:] for row in classes] == [[auc, specificity], [auc, sensitivity]]
        captions = text_of(section(markup, "discrimination"))
        assert re.search(rf"ROC curve, {name}, n = {known['n']} patients, \d+ events; AUC {re.escape(auc)}", captions)
        calibration = {row[0]: row for row in rows_of(section(markup, "calibration"), "<figcaption>")}
        number = 2 if scope.startswith("internal") else 4
        assert calibration["AUC"][number] == auc
        for key, row in (("log_loss", "Log-loss"), ("brier", "Brier score")):
            assert calibration[row][number] == text_of(show_interval(known[key], 3))
        baselines = rows_of(markup, '<h3 id="baselines">')[1:]
        mine = [row[-7:] for row in baselines if name in (row[0], baselines[0][0])]
        assert auc in {row[-3] for row in mine if "all cases together" in row}
        at_half = [row for row in re.findall(r'<tr data-at="50".*?</tr>', markup, re.S) if name in row]
        assert f">{show_interval(known['sensitivity'])}<br>" in at_half[0]
        assert f">{show_interval(known['specificity'])}<br>" in at_half[0]
    internal = rows_of(markup, '<h2 id="folds">')[-1]
    known = paths.read_json(paths.pooled_metrics("internal_patients_calibrated"))
    assert [internal[3], *internal[5:7]] == [text_of(show_interval(known[key])) for key in RANKED]
    assert f"an AUC of {internal[3]}" in text_of(markup)


def test_what_the_images_add_to_the_columns_is_said_with_its_gain(project):
    root = project()
    file = root / RAW / "cohort.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table.assign(age=[str(30 + number) for number in range(len(table))]).to_csv(file, index=False)
    predict_two_classes(project, FOLDS, **AUTO, calibrate__baseline=["age"])
    run("calibrate")
    found = assessed("increment")
    gains = found[(found["prediction"] == "image and columns") & (found["over"] == "columns")].set_index("scope")
    said = text_of(page())
    verdict = {"adds": "the image adds to", "not shown": "no evidence that the image adds", "takes away": "worse than"}
    for row in gains.loc[["internal_patients", "external_patients"]].itertuples():
        assert verdict[row.verdict] in said and f"{row.log_loss:z.3f} ({row.log_loss_lower:z.3f} to" in said
    assert "gain of image and columns over columns" in said


def test_without_declared_columns_no_increment_is_claimed(reported):
    assert assessed("increment").empty
    assert "none of those in calibrate.baseline is in the cohort" in text_of(page())


def test_the_values_of_the_site_alone_are_told_apart(reported):
    said = text_of(page())
    assert "the baseline site under Without the images is fitted and evaluated in the folds of this run" in said
    assert "mean of folds; the first screen shows it as site alone" in said


def test_every_table_of_the_assessment_is_read():
    assert set(ASSESSED) == set(TABLES)
