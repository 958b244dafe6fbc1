"""A number and a time predicted from an image and a column, from the cohort to `predict`, `verify` and the page."""

import html
import re

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle import Predictor
from pipeline.bundle.columns import COLUMNS
from tests.stages.clinic import RAW, cohort
from tests.stages.conftest import lay_out
from tests.stages.numbers import as_regression
from tests.stages.running import FOLDS, refusal, run
from tests.stages.times import as_survival

BUNDLE = "data/released/side_of_squares"
SETTINGS = {
    "cohort__inputs": ["age"],
    "finetune__strategy": "probe",
    "calibrate__per_patient": "auto",
    "split__folds": [*FOLDS],
    "release__exports": ["onnx"],
}


def with_age(table, rng):
    """Add an age of which a number depends, as it does on the image."""
    age = rng.normal(60, 10, table["patient_id"].nunique()).round(1)
    known = dict(zip(table["patient_id"].unique(), age, strict=True))
    table = table.assign(age=table["patient_id"].map(known))
    if "label" in table:
        table["label"] = (table["label"].astype(float) + (table["age"] - 60) / 2).map("{:.2f}".format)
    else:
        factor = np.exp((table["age"] - 60) / 10)
        table["time"] = (table["time"].astype(float) * factor + 0.01).map("{:.2f}".format)
    return table


def released(root, patch, as_task):
    project = lay_out(root, patch)
    as_task(project, **SETTINGS)
    cohort(root, lambda table: with_age(table, np.random.default_rng(0)))
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate", "evidence", "explain", "release", "report")
    return root


@pytest.fixture(scope="module", params=["number", "time"])
def both(request, tmp_path_factory):
    """Release a model of an image and an age, of a number and of a time."""
    with pytest.MonkeyPatch.context() as patch:
        as_task = {"number": as_regression, "time": as_survival}[request.param]
        yield request.param, released(tmp_path_factory.mktemp(request.param) / "project", patch, as_task)


@pytest.fixture
def there(both, monkeypatch):
    monkeypatch.chdir(both[1])
    return both


def page():
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", paths.REPORT.read_text())).split())


def test_what_the_image_adds_is_told_beside_the_columns(there):
    kind, _ = there
    rows = pd.read_csv(paths.assessed("increment")).query("scope == 'internal'")
    metric = {"number": "mae", "time": "integrated_brier"}[kind]
    own = rows[rows["over"].isna()].set_index("prediction")[metric]
    assert own["image and columns"] < own["columns"]
    gain = rows.query("prediction == 'image and columns' and over == 'columns'").iloc[0]
    assert gain[metric] == pytest.approx(own["columns"] - own["image and columns"], abs=1e-5)
    told = page()
    assert "What the images add to the columns" in told and "The columns that the model takes" in told
    sentences = {
        "adds": "the image adds to the columns;",
        "not shown": "no evidence that the image adds to the columns;",
    }
    assert sentences[gain["verdict"]] in told


def test_a_fold_is_fused_by_what_others_fitted(there):
    values = paths.read_json(paths.CALIBRATOR)
    assert values["fusion"]["features"] == ["age"] and set(values["cross_fitted"]) == {"0", "1", "2"}
    slopes = {one["fusion"]["column_weights"][0][0] for one in values["cross_fitted"].values()}
    assert len(slopes) == 3
    name = {"number": "value", "time": "log_hazard"}[there[0]]
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal' and fold == 0")
    one = values["cross_fitted"]["0"]["fusion"]
    expected = one["intercepts"][0] + one["image_weights"][0][0] * table["logit_0"]
    expected += one["column_weights"][0][0] * table["column_age"].clip(*one["columns"][0]["limits"])
    np.testing.assert_allclose(table[name], expected, rtol=1e-6, atol=1e-6)


def test_the_bundle_asks_for_the_column_and_predicts_as_evaluated(there, capsys):
    kind, _ = there
    assert main(["verify", BUNDLE]) == 0
    assert "the model takes age" in capsys.readouterr().out
    assert main(["predict", BUNDLE, f"{RAW}/cohort.csv", "--out", "out.csv"]) == 0
    name = {"number": "value", "time": "log_hazard"}[kind]
    found = pd.read_csv("out.csv")
    answer = found[name].fillna(found[f"withheld_{name}"])
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'external'")
    np.testing.assert_allclose(np.sort(answer[found["site"] == "outside"]), np.sort(table[name]), rtol=1e-4, atol=1e-5)
    message = refusal(capsys, f"predict {BUNDLE} {RAW}/Doe_02_0.png")
    assert "age" in message and "--inputs" in message
    predictor = Predictor.from_bundle(BUNDLE)
    young, old = (predictor(f"{RAW}/Doe_00_0.png", inputs={"age": age}) for age in ("50", "70"))
    first, second = (one.probabilities or one.withheld_probabilities for one in (young, old))
    assert (first[name] < second[name]) == (kind == "number")


def test_onnx_runtime_and_the_formula_give_what_predict_gives(there):
    values = paths.read_json(there[1] / BUNDLE / COLUMNS)
    session, predictor = onnxruntime.InferenceSession(f"{BUNDLE}/models/model.onnx"), Predictor.from_bundle(BUNDLE)
    low, high = values["columns"][0]["limits"]
    name = {"number": "value", "time": "log_hazard"}[there[0]]
    for row in pd.read_csv(f"{RAW}/cohort.csv", dtype=str).head(5).to_dict("records"):
        one = predictor(f"{RAW}/{row['image']}", inputs={"age": row["age"]})
        _, output = session.run(["pred", "logits"], {"image": one.output.prepared.channels[None].astype(np.float32)})
        expected = values["intercepts"][0] + values["image_weights"][0][0] * float(output[0, 0])
        expected += values["column_weights"][0][0] * min(max(float(row["age"]), low), high)
        assert (one.probabilities or one.withheld_probabilities)[name] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_card_names_the_column_and_the_regression(there):
    card = (there[1] / BUNDLE / "docs/README.md").read_text()
    assert {"number": "ridge regression", "time": "Cox regression"}[there[0]] in card
    assert "| age | numeric |" in card and "What the image adds" in card


@pytest.mark.parametrize("column", ["time", "event"])
def test_a_copy_of_the_time_or_the_event_is_no_input(project, capsys, column):
    as_survival(project, 20, cohort__inputs=["copy"])
    cohort(project(), lambda table: table.assign(copy=table[column]))
    assert f"column 'copy' has the contents of column '{column}'" in refusal(capsys, "cohort")


def test_what_a_column_tells_alone_is_said(there):
    row = pd.read_csv(paths.assessed("inputs")).query("by == 'all'").iloc[0]
    metric = {"number": "r2", "time": "c"}[there[0]]
    assert row["column"] == "age" and np.isfinite(row[metric])
    assert f"{ {'number': 'R²', 'time': 'C-index'}[there[0]] } of this column alone" in page()
