"""The last lines of a run: metrics with intervals, status, and where page and bundle are."""

import json
from pathlib import Path

import pytest
import yaml

from pipeline import paths
from pipeline.errors import UserError
from pipeline.metrics.wording import metric_in_words
from pipeline.stages.report.run_summary import run_summary
from tests.stages.by_hand import evaluated_by_hand, interval_of

BUNDLE = paths.bundle("classifier")


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """An empty folder with the metrics of two sets, of patients and of images."""
    monkeypatch.chdir(tmp_path)
    evaluated_by_hand()


def released():
    BUNDLE.mkdir(parents=True)
    gates = [{"name": name, "passed": name == "no leak"} for name in ("no leak", "events", "card")]
    (BUNDLE / "STATUS").write_text("\n".join(["candidate", *map(json.dumps, gates)]) + "\n")


def locked(read_by_release):
    """Write a dvc.lock in which release read metrics with this hash."""
    pooled = {"path": "data/metrics/pooled", "md5": "new"}
    stages = {"calibrate": {"outs": [pooled]}, "release": {"deps": [pooled | {"md5": read_by_release}]}}
    Path("dvc.lock").write_text(yaml.safe_dump({"stages": stages | {"report": {"deps": [pooled]}}}))


def test_every_set_has_a_line_with_counts_and_intervals(evaluated):
    head, patients, images, test = run_summary(BUNDLE)
    assert head.split("  ")[-1] == "calibration slope" and "AUC" in head and "events" in head
    assert patients.startswith("internal validation ") and "0.954 (0.899 to 0.998)" in patients
    assert images.split()[:7] == ["internal", "validation,", "by", "image", "64", "71", "32"]
    assert test.startswith("external validation ")


def test_status_names_the_gates_that_failed_and_the_places(evaluated):
    released()
    lines = run_summary(BUNDLE, page_is_new=True)[-3:]
    assert lines == [
        "status: candidate; 1 of 3 gates passed; failed: events, card",
        "bundle: data/released/classifier",
        "page: data/report/index.html",
    ]


def test_a_bundle_of_other_metrics_is_said_to_be_of_an_earlier_run(evaluated):
    released()
    locked("old")
    *_, status, bundle = run_summary(BUNDLE)
    assert status.startswith("status: not known for these metrics") and "candidate" not in status
    assert bundle == "bundle: data/released/classifier (of an earlier run; `medadapt run all` updates it)"
    locked("new")
    assert run_summary(BUNDLE)[-1] == "bundle: data/released/classifier"


def test_a_closed_test_set_is_said_to_be_missing(evaluated):
    paths.write_json({"scopes": ["internal"], "test_set": {"shown": False}}, paths.STAMPS)
    assert run_summary(BUNDLE)[-1] == "test set: not evaluated (there is none, or calibrate.test is closed)"


def test_without_an_evaluation_the_command_that_evaluates_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="medadapt run metrics"):
        run_summary(BUNDLE)


def test_a_metric_without_an_interval_is_shown_alone():
    assert metric_in_words(interval_of(None)) == metric_in_words(None) == "-"
    assert metric_in_words({"value": 0.5, "lower": None, "upper": None}) == "0.500"


def test_an_interval_without_width_is_a_word_as_on_the_page(evaluated):
    file = paths.pooled_metrics("external_calibrated")
    paths.write_json(paths.read_json(file) | {"auc": {"value": 1.0, "lower": 1.0, "upper": 1.0}}, file)
    assert "1.000 (too few events for an interval)" in run_summary(BUNDLE)[3]
