"""Tables of the stage `evidence`, written by hand, and its section as the page draws it."""

import re

import pandas as pd
import pytest
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline import paths
from pipeline.stages.evidence.statistics import (
    differences,
    episodes,
    extrapolation,
    label_efficiency,
    learning_curves,
    overfitting,
    training_time,
    verdicts,
)
from pipeline.stages.report.evidence import TABLES, evidence_section
from pipeline.stages.report.numbers import metric_of, show_interval, show_number
from pipeline.stages.report.page import HERE
from tests.stages.by_hand import record, trained_by_hand
from tests.stages.conftest import write_status
from tests.stages.running import FOLDS, run

NAMES = ("fewer labels", "shorter training", "less overfitting", "new domains", "better result")
RECORD = {
    **{"budget": 0, "passes_spent": 0, "fractions": [0.1], "draws": 3, "episodes": 100, "auc_goal": 0.9},
    **{"method": "adabn", "rates": {}, "confidence": 0.95},
}
ARMS = ("adapted", "imagenet", "scratch")
COLUMNS = {  # as the stage writes them
    "verdicts": verdicts.VERDICTS,
    "learning_curve": learning_curves.LEARNING_CURVE,
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
    empty = dict.fromkeys(
        ("recipe", "scope", "metric", "value", "lower", "upper", "minimum_detectable", "n", "patients")
    )
    row = {"promise": promise, "name": NAMES[promise - 1], "comparison": comparison, "verdict": word, "why": None}
    return empty | row | found


def measured(promise, comparison, word, value, half):
    found = {"recipe": "trained", "minimum_detectable": 0.0625, "n": 40, "patients": 30, "why": "as it came"}
    return verdict(promise, comparison, word, **found, **limits(value, half))


def point(arm, patients, value, of=None, metric="auc", recipe="probe"):
    draws = {"fraction": patients / 100, "patients": float(patients), "draws": 1 if patients == 100 else 3, "n": 40}
    return {"recipe": recipe, "arm": arm, "of": of, "metric": metric} | draws | limits(value, 0.05)


def course(arm, fold="0", losses=((0.9, 0.8), (0.5, 0.6), (0.2, 0.7))):
    rows = enumerate(losses)
    return [
        {"arm": arm, "fold": fold, "epoch": epoch, "passes": 10.0 ** (epoch + 2)}
        | {"train_loss": train, "validation_loss": test, "test_loss": test}
        for epoch, (train, test) in rows
    ]


def speed(unit, ratio, lower=1.25, words=None, arm="adapted", reference="imagenet"):
    times = {"arm_value": 2.0, "reference_value": 2.0 * ratio, "ratio": ratio, "lower": lower, "upper": 2 * ratio}
    counted = {"reached": 3, "folds": 4, "minimum_detectable": 1.5, "words": words}
    return {"arm": arm, "reference": reference, "unit": unit} | times | counted


def domain(site, arm, auc, kind="left_out"):
    counts = {"recipe": "probe", "arm": arm, "kind": kind, "site": site, "n": 20, "events": 8, "internal_auc": 0.8}
    return counts | limits(auc, 0.1, "auc") | limits(0.8 - auc, 0.1, "gap")


def final(scope, arm, metric, value):
    return {"recipe": "probe", "scope": scope, "arm": arm, "metric": metric, "n": 40} | limits(value, 0.05)


def difference(scope, metric, value, comparison="adaptation"):
    row = {"recipe": "probe", "scope": scope, "comparison": comparison, "metric": metric, "n": 40}
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
    unknown = {"value": None, "lower": None, "upper": None, "n": None, "model": None, "scope": None, "metric": None}
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
        + [point("adapted", 100, 0.4, metric="log_loss")],
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
    environment.filters |= {"interval": show_interval, "number": show_number, "metric": metric_of}
    evidence = tables and evidence_section(tables, RECORD | record)
    return environment.get_template("evidence.html").render(evidence=evidence)


def headings(markup):
    return re.findall("<h3>(.*?)</h3>", markup)


def ticks(svg):
    return [(float(x), text) for x, text in re.findall(r'class="tick" x="([\d.]+)" y="\d+" [^>]*middle">([^<]+)<', svg)]


@pytest.fixture
def reported(project):
    """A project that was calibrated; returns a function that writes the page and gives its section on adaptation."""
    root = project(adapt__method="adabn")
    table = pd.read_csv(root / "data/raw/clinic/cohort.csv", keep_default_na=False)
    outside = (table["site"] == "outside") & (table["patient_id"].str.split().str[-1].astype(int) < 12)
    table.loc[outside, ["label", "split"]] = ["", "unlabelled"]
    table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        record(fold)
        trained_by_hand(fold)
    run("calibrate")
    write_status()

    def page():
        run("report")
        return re.search(r'<h2 id="adaptation">.*?(?=<h2 id="folds">)', paths.REPORT.read_text(), re.S)[0]

    return page
