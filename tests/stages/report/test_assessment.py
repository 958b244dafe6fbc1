"""Charts and sentences on rows that are written by hand."""

import re

import pytest

from pipeline.stages.report.assessment import accuracies_in, is_trivial, promises, units_of
from pipeline.stages.report.blocks import Block
from pipeline.stages.report.calibration_charts import calibration_chart
from pipeline.stages.report.calibrator import calibrator_in_words
from pipeline.stages.report.decision_charts import decision_chart, risk_chart, where_it_pays
from pipeline.stages.report.plain_words import of_a_threshold, of_hundred, of_pairs
from pipeline.stages.report.updating import when_it_pays

ENDS = ("", "_lower", "_upper")


def limits(name, value, lower, upper):
    return dict(zip((f"{name}{end}" for end in ENDS), (value, lower, upper), strict=True))


def curve(*points, state="calibrated"):
    return [{"state": state, "prediction": p, **limits("observed", q, q and q - 0.1, q and q + 0.1)} for p, q in points]


def test_calibration_curve_has_a_band_bins_and_predictions_of_both_kinds():
    counts = [
        {"lower": 0.0, "upper": 0.5, "events": 1, "others": 7},
        {"lower": 0.5, "upper": 1.0, "events": 4, "others": 2},
    ]
    bins = [{"prediction": 0.3, "observed": 0.2, "lower": 0.1, "upper": 0.5}]
    rows = curve((0.1, 0.2), (0.9, 0.8)) + curve((0.1, 0.4), (0.9, 0.6), state="uncalibrated")
    drawn = calibration_chart("external_patients", rows, counts, bins, "patients")
    svg = drawn["svg"]
    assert svg.count("<title>") == 2 and svg.count("<polygon") == 1 and svg.count("<polyline") == 2
    assert svg.count("<circle") == 1 and svg.count('class="interval') == 1 and svg.count("<rect") == 4
    assert "external validation, n = 14 patients, 5 events; dots are bins" in drawn["caption"]
    assert "dots" not in calibration_chart("internal", rows, counts, [], "images")["caption"]


def decision(threshold, benefit, gain, lower):
    known = {"threshold": threshold, "treat_all": 0.3 - threshold, "treat_none": 0.0, "n": 40, "events": 12}
    return (
        known | limits("net_benefit", benefit, benefit - 0.1, benefit + 0.1) | limits("gain", gain, lower, gain + 0.1)
    )


def test_only_thresholds_with_a_gain_beyond_chance_are_named():
    rows = [decision(0.1, 0.25, 0.05, -0.01), decision(0.2, 0.2, 0.1, 0.02), decision(0.3, 0.2, 0.2, 0.1)]
    assert where_it_pays(rows).endswith("at thresholds from 0.20 to 0.30")
    assert where_it_pays(rows[:1]).startswith("at no threshold")
    assert where_it_pays([rows[1], rows[2], rows[0], rows[1], rows[2]]).endswith("0.30 and from 0.20 to 0.30")
    again = [decision(0.4, 0.2, 0.0, -0.1), decision(0.5, 0.2, 0.2, 0.1)]
    assert where_it_pays([*rows, *again]).endswith("at thresholds from 0.20 to 0.30 and 0.50")
    assert where_it_pays(again).endswith("at 0.50")


def test_the_decision_curve_stands_against_acting_on_all_and_on_none():
    drawn = decision_chart("internal", [decision(0.1, 0.25, 0.05, 0.01), decision(0.5, 0.2, 0.2, 0.1)], "images")
    names = re.findall(r'class="legend"[^>]*>([^<]+)', drawn["svg"])
    assert names == ["model", "act on all", "on none"] and drawn["svg"].count("<polygon") == 1
    assert "n = 40 images, 12 events" in drawn["caption"]
    all_of_them = re.findall(r'c4 dashed" points="([^"]+)"', drawn["svg"])[0].split()
    assert all(float(point.split(",")[1]) <= 258.1 for point in all_of_them)  # the lower edge of the frame


def test_a_risk_curve_without_an_interval_or_an_error_is_still_drawn():
    rows = [{"coverage": share, "n": 4, **limits("risk", 0.0, None, None)} for share in (0.5, 1.0)]
    assert risk_chart("test", rows, "answers")["svg"].count("<polyline") == 1


def test_a_prediction_is_told_in_so_many_of_a_hundred_with_its_interval():
    told = of_hundred(curve((0.0, 0.1), (0.4, 0.3), (1.0, 0.9)), "ill", "patients")
    assert told == [
        "Of 100 patients with a predicted probability of “ill” of about 20 %, about 20 (10 to 30) have “ill”.",
        "Of 100 patients with a predicted probability of “ill” of about 80 %, about 70 (60 to 80) have “ill”.",
    ]


def test_nothing_is_told_of_predictions_that_the_curve_does_not_reach():
    (told,) = of_hundred(curve((0.31, 0.4), (0.44, 0.5)), "top label", "images")
    assert told.startswith("Of 100 images whose most probable class is given about 40 %, about 47 (")
    assert of_hundred(curve((0.31, 0.4), (0.36, 0.5)), "ill", "images") == []
    assert of_hundred(curve((0.1, None), (0.9, None)), "ill", "images") == [] == of_hundred([], "ill", "images")


def test_a_metric_that_does_not_exist_is_not_put_into_words():
    known = {"threshold": 0.42, "aim": "sensitivity 0.90", "chosen": "chosen on all development cases"}
    point = {**known, **limits("sensitivity", 0.88, 0.76, 0.97), **limits("specificity", None, None, None)}
    assert of_a_threshold([point], "ill", "patients") == []
    (told,) = of_a_threshold([point | limits("specificity", 0.9, None, None)], "ill", "patients")
    assert "A threshold of 42.0 % (for sensitivity 0.90, chosen on all development cases)" in told
    assert "detects 88 (76 to 97) of 100" in told and "correctly clears 90 of 100 without" in told
    assert (
        of_pairs(None, "ill", "patients") == [] == of_pairs({"value": 0.9, "lower": 0.8, "upper": 1}, "top label", "")
    )


def update(size, gain, error=0.01, name="slope"):
    row = {"scope": "external", "update": name, "patients": size, "evaluated": 9, "gain": gain, "gain_se": error}
    return row | {"share_better": 0.5, "slope": 1.0}


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ((0.03, 0.01, 0.03, 0.04), "pays from 20 patients on"),
        ((0.03, 0.03, 0.03, 0.03), "pays from 5 patients on"),
        ((0.03, 0.03, 0.03, 0.019), "does not pay with up to 40 patients"),
    ],
)
def test_update_pays_from_where_it_gains_at_every_larger_number(gains, said):
    rows = [update(float(size), gain) for size, gain in zip((5, 10, 20, 40), gains, strict=True)]
    (found,) = when_it_pays([update(0.0, 0.0, name="none"), *rows])
    assert found["said"] == [f"updating the slope {said}"] and found["before"]["update"] == "none"
    assert [row["patients"] for row in found["grid"]] == [5, 10, 20, 40] and len(found["grid"][0]["cells"]) == 1


CALIBRATOR = {
    "method": "temperature",
    "temperature": 1.25,
    "form": "refit",
    "members": ["final"],
    "fitted_on": {"cases": 71, "patients": 64, "folds": ["0", "1"]},
    "choice": [],
    "cross_fitted": {fold: {"method": "temperature", "temperature": t} for fold, t in (("0", 1.5), ("1", 1.1))},
}


def test_the_map_is_told_with_its_number_and_on_whom_it_was_fitted():
    told = calibrator_in_words(CALIBRATOR, "patient")
    assert (
        told["what"].startswith("temperature scaling") and told["numbers"] == "temperature 1.250, over-confident before"
    )
    assert told["fitted"].endswith("out-of-fold predictions of folds 0, 1: 71 images of 64 patients")
    assert told["folds"] == "temperatures 1.100 to 1.500"
    assert calibrator_in_words(CALIBRATOR, "image")["fitted"].endswith(": 71 images")
    as_they_came = calibrator_in_words(CALIBRATOR | {"temperature": 1.0}, "patient")
    assert as_they_came["what"].startswith("none") and as_they_came["numbers"] == ""


def test_an_ensemble_and_maps_that_differ_between_folds_are_told_as_such():
    beta = {"method": "beta", "weights": [0.5, 2.0], "form": "ensemble", "members": ["0", "1"]}
    folds = CALIBRATOR["cross_fitted"] | {"2": {"method": "beta"}}
    record = {name: one for name, one in CALIBRATOR.items() if name != "temperature"} | beta | {"cross_fitted": folds}
    told = calibrator_in_words(record, "patient")
    assert told["fitted"].startswith("The mean of the logits of folds 0, 1 is released")
    assert told["numbers"] == "slopes 0.50, 2.00" and told["folds"] == "temperature in 2, beta in 1"
    labels = {"labels": [{"method": "beta"}]}
    each = {name: one for name, one in record.items() if name != "weights"} | labels
    assert calibrator_in_words(each, "patient")["what"].endswith("(of each label by itself)")


def test_rows_are_patients_or_images_where_patients_have_several():
    metrics = {"internal_patients": (5, 5), "internal": (7, 5), "external": (3, 3)}
    pooled = {f"{scope}_calibrated": {"n": n, "patients": k} for scope, (n, k) in metrics.items()}
    assert units_of(pooled, "patient") == {
        "internal_patients": "patients",
        "internal": "images",
        "external": "patients",
    }
    assert units_of({"test_calibrated": {"n": 3, "patients": 3}}, "image") == {"test": "images"}


def test_promises_overall_by_class_and_by_site_are_separate():
    rows = [{"scope": "internal", "by": by, "kind": kind} for by in ("all", "class") for kind in ("marginal", "class")]
    apart = promises(Block("", "", rows))
    assert [(one.question, len(one.rows)) for one in apart] == [("all", 2), ("class", 2)]


def test_sets_that_are_empty_or_full_by_their_size_have_no_row():
    def of_size(kind, empty, full):
        return {"kind": kind, "share_empty": empty, "share_full": full}

    sizes = [of_size("set size", 1.0, 0.0), of_size("set size", 0.0, 0.0), of_size("set size", 0.0, 1.0)]
    assert [is_trivial(row) for row in sizes] == [True, False, True]
    assert not is_trivial(of_size("class", 1.0, 0.0)) and not is_trivial(of_size("set size", None, None))


def test_accuracies_are_found_by_their_coverage_and_without_their_limits():
    assert accuracies_in([limits("accuracy_at_0.8", 1, 1, 1) | limits("aurc", 1, 1, 1)]) == ["accuracy_at_0.8"]
    assert accuracies_in([]) == []
