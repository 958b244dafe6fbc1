"""One number a case, from the cohort to `predict`, `verify` and ONNX Runtime."""

import html
import re

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle import Predictor
from pipeline.stages.evidence.without_classes import LEFT_OUT
from tests.stages.clinic import RAW, cohort
from tests.stages.conftest import lay_out
from tests.stages.numbers import as_regression
from tests.stages.running import FOLDS, refusal, run
from tests.stages.stored import channels_of

BUNDLE = "data/released/side_of_squares"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Release a model of the side of a square, once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("numbers") / "project"
        as_regression(
            lay_out(root, patch),
            release__exports=["onnx", "torchscript"],
            calibrate__per_patient="auto",
            split__folds=[0, 1, 2, "final", "without-inside"],
        )
        run("cohort", "preprocess", "split")
        for fold in (*FOLDS, "without-inside"):
            run(f"adapt --fold {fold}", f"finetune --fold {fold}")
        run("calibrate", "evidence", "explain", "release", "report")
        yield root


@pytest.fixture
def there(released, monkeypatch):
    monkeypatch.chdir(released)
    return released


def page():
    """Read the report as a browser shows it."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", paths.REPORT.read_text())).split())


def test_numbers_are_learned_and_told_in_their_unit(there):
    found = paths.read_json(paths.pooled_metrics("internal_patients_calibrated"))
    assert found["r2"]["value"] > 0.3 and found["mae"]["value"] < 6 and found["n"] == found["patients"] == 24
    told = page()
    assert re.search(r"the number is missed by [\d.]+ \([\d.]+ to [\d.]+\) mm on average", told)
    assert "Bland-Altman plot, internal validation" in told and "regression to the mean" in told
    assert not re.search(r"\bAUC\b|ROC|log-loss", told.partition("Glossary Terms")[0].partition(" Release ")[0])


def test_every_fold_is_mapped_by_a_line_that_others_fitted(there):
    table = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal'")
    for fold in "012":
        here = table["fold"].astype(str) == fold
        others = table[~here]
        weights = 1 / others.groupby("patient")["case"].transform("count")
        line = LinearRegression().fit(others[["logit_0"]].to_numpy(), others["label"], sample_weight=weights)
        expected = line.predict(table.loc[here, ["logit_0"]].to_numpy())
        np.testing.assert_allclose(table.loc[here, "value"], expected, rtol=1e-9)
    covered = (table["lower"] <= table["label"]) & (table["label"] <= table["upper"])
    coverage = paths.read_json(paths.pooled_metrics("internal_calibrated"))["coverage"]["value"]
    assert coverage == pytest.approx(covered.mean(), abs=1e-6)


def test_the_mean_without_the_image_is_compared_pooled_and_within_folds(there):
    cases = pd.read_csv(paths.PREDICTIONS).query("scope == 'internal'").astype({"fold": str})
    label = pd.read_csv(paths.split("0")).set_index("case")["label"]
    for fold in "012":
        training = pd.read_csv(paths.split(fold)).query("role in ['train', 'validation']")["case"]
        cases.loc[cases["fold"] == fold, "mean"] = label[training].mean()
    errors = cases[["mean", "value"]].sub(cases["label"], axis=0).abs().assign(fold=cases["fold"])
    rows = pd.read_csv(paths.assessed("baselines")).query("scope == 'internal' and baseline == 'mean'")
    rows, of_folds = rows.set_index("over"), errors.groupby("fold").mean().mean()
    for over, expected in (("all cases together", errors[["mean", "value"]].mean()), ("mean of folds", of_folds)):
        assert rows.loc[over, ["mae", "model_mae"]].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
        assert rows.loc[over, "difference"] == pytest.approx(expected["mean"] - expected["value"], abs=2e-6)
    spread = [part["label"].sub(part["label"].mean()).pow(2).sum() for _, part in cases.groupby("fold")]
    wrong = [part["label"].sub(part["mean"]).pow(2).sum() for _, part in cases.groupby("fold")]
    assert rows.loc["mean of folds", "r2"] == pytest.approx(np.mean(1 - np.divide(wrong, spread)), abs=1e-6)
    alone = pd.read_csv(paths.assessed("baselines")).query("scope == 'external'")
    assert set(alone["over"]) == {"all cases together"} and "mean of folds" in page()


def test_the_largest_errors_are_those_of_the_predictions(there):
    cases, found = pd.read_csv(paths.PREDICTIONS), pd.read_csv(paths.MISTAKES)
    for scope in ("internal", "external"):
        own, told = cases[cases["scope"] == scope].set_index("case"), found[found["scope"] == scope]
        errors = (own["value"] - own["label"]).abs()
        assert len(told) and told["error"].tolist() == pytest.approx(errors.nlargest(len(told)).tolist())
        np.testing.assert_allclose(told["error"], errors[told["case"]])
        np.testing.assert_allclose(told["prediction"], own.loc[told["case"], "value"])


def test_folds_hold_low_and_high_numbers(there):
    for fold in "012":
        held = pd.read_csv(paths.split(fold)).query("role == 'held_out'")
        assert held["label"].min() < 11 and held["label"].max() > 17


def test_the_bundle_predicts_numbers_with_intervals(there, capsys):
    assert main(["verify", BUNDLE]) == 0
    out = there / "out.csv"
    assert main(["predict", BUNDLE, f"{RAW}/cohort.csv", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "value in mm" in printed and "by patient" in printed
    rows = pd.read_csv(out)
    answered = rows[rows["abstains"].isna()]
    assert (answered["lower"] < answered["value"]).all() and (answered["value"] < answered["upper"]).all()
    assert set(rows["unit"]) == {"mm"} and "set" not in rows and len(answered) > len(rows) / 2
    withheld = rows[rows["abstains"].notna()]
    assert withheld["value"].isna().all() and withheld["withheld_value"].notna().all()
    patients = pd.read_csv(there / "out_patients.csv").dropna()
    assert ((patients["lower"] < patients["value"]) & (patients["value"] < patients["upper"])).all()


def test_a_python_user_and_onnx_runtime_get_the_same_number(there):
    predictor = Predictor.from_bundle(BUNDLE)
    case = pd.read_csv(paths.PREDICTIONS).query("scope == 'external'").iloc[0]
    channels = channels_of(case["case"])[None].astype(np.float32)
    session = onnxruntime.InferenceSession(f"{BUNDLE}/models/model.onnx")
    value, output = session.run(["pred", "logits"], {"image": channels})
    assert value[0, 0] == pytest.approx(case["value"], rel=1e-4)
    assert output[0, 0] == pytest.approx(case["logit_0"], rel=1e-4)
    found = predictor(f"{RAW}/Doe_00_0.png")
    shown = found.probabilities or found.withheld_probabilities
    assert found.unit == predictor.unit == "mm" and found.interval[0] < shown["value"] < found.interval[1]


def test_a_too_wide_interval_is_no_answer(there):
    predictor = Predictor.from_bundle(BUNDLE)
    limits = predictor.limits.numbers
    widths = [limits.interval(value) for value in np.linspace(0, 30, 31)]
    wide = [bool(limits.too_wide(value)) for value in np.linspace(0, 30, 31)]
    assert wide == [high - low > limits.widest for low, high in widths]
    assert "wide, limit" in (limits.too_wide(30.0) or limits.too_wide(0.0) or ["mm wide, limit"])[0]


def test_the_model_is_monitored_with_and_without_true_numbers(there, capsys):
    assert main(["predict", BUNDLE, f"{RAW}/cohort.csv", "--out", "use.csv"]) == 0
    pd.read_csv(f"{RAW}/cohort.csv").rename(columns={"image": "scan"})[["scan", "label"]].to_csv("truth.csv")
    capsys.readouterr()
    assert main(["monitor", BUNDLE, "use.csv"]) in (0, 3)
    assert "  value  " in capsys.readouterr().out
    assert main(["monitor", BUNDLE, "use.csv", "truth.csv", "--window", "20", "--out", "use.html"]) in (0, 3)
    printed = capsys.readouterr().out
    assert "size of the error" in printed and re.search(r"labelled scans 1 to 20: mae [\d.]+ \(", printed)
    page = (there / "use.html").read_text()
    assert "mean absolute error" in page and "Monitoring of the model for a number in mm" in page


def test_what_is_left_out_is_told(there, capsys):
    assert paths.read_json(paths.EVIDENCE / "record.json")["left_out"] == LEFT_OUT
    assert LEFT_OUT in page() and "There are no classes" in page()
    assert set(pd.read_csv(paths.evidence("final"))["arm"]) == {"imagenet", "adapted"}
    assert pd.read_csv(paths.ROC).empty and pd.read_csv(paths.PER_CLASS).empty
    (row,) = pd.read_csv(paths.LEFT_OUT).to_dict("records")
    assert (
        row["site"] == "inside" and row["mae"] == paths.read_json(paths.fold_metrics("without-inside"))["mae"]["value"]
    )
    assert "compare data/metrics/summary.json of both runs" in refusal(capsys, f"compare workspace {there}")
    for command in ("serve BUNDLE", "predict BUNDLE x.png --report p.html"):
        message = refusal(capsys, command.replace("BUNDLE", BUNDLE))
        assert "gives a number in mm" in message and "medadapt predict" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [("large", "it is no number"), ("inf", "not finite"), ("", "is missing"), ("12,5", "decimal point")],
)
def test_a_bad_number_is_refused_with_file_row_and_cure(project, capsys, text, said):
    as_regression(project, 6)
    cohort(project(), lambda table: table.assign(label=table["label"].mask(table.index == 2, text)))
    message = refusal(capsys, "cohort")
    assert f"{RAW}/cohort.csv, row 3, column 'label'" in message and said in message
    if text:
        assert text not in message.replace("infinite", "").replace("12.5", "")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("cohort__unit", "", "cohort.unit is empty"),
        ("cohort__classes", ["a", "b"], "a number has no classes"),
        ("finetune__strategy", "knn", "finetune.strategy is knn, but cohort.task is regression"),
        ("finetune__mix", "mixup", "finetune.mix is mixup"),
        ("adapt__method", "coral", "adapt.method is coral"),
        ("calibrate__method", "platt", "calibrate.method is platt"),
        ("calibrate__form", "ensemble", "calibrate.form is ensemble"),
    ],
)
def test_a_setting_that_needs_classes_is_refused_with_the_cure(project, capsys, key, value, said):
    as_regression(project, 6, **{key: value})
    assert said in refusal(capsys, "cohort")
