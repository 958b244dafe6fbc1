"""A model that takes columns besides the image, from the cohort to `predict`, `verify` and ONNX Runtime."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle import Predictor
from pipeline.bundle.columns import COLUMNS, BadInputs
from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import MANIFEST, write_manifest
from tests.stages.conftest import lay_out
from tests.stages.running import FOLDS, assert_predicted_as_evaluated, by_monai, computed, run

CLINIC = "data/raw/clinic/cohort.csv"
BUNDLE = "data/released/ill_or_well"


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Release a model of images, age and stage, once for all tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("columns") / "project"
        write = lay_out(root, patch)
        write(
            cohort__inputs=["age", {"stage": ["I", "II", "III"]}, "scanner"],
            adapt__method="none",
            calibrate__per_patient="mean",
            release__exports=["onnx"],
        )
        table = pd.read_csv(root / CLINIC)
        number = table["patient_id"].str.extract(r"(\d+)")[0].astype(int)
        ill = table["label"] == "ill"
        age = (40 + 5 * (number % 4) + 6 * ill).astype(str).where(number % 5 > 0, "")
        stage = np.array(["I", "II", "III"])[(number % 2 + ill).to_numpy()]
        table = table.assign(age=age, stage=stage, scanner=np.where(number % 2, "x", "y"))
        table.to_csv(root / CLINIC, index=False)
        run("cohort", "preprocess", "split")
        for fold in FOLDS:
            run(f"adapt --fold {fold}", f"finetune --fold {fold}")
        run("calibrate", "evidence", "explain", "release", "report")
        yield root


@pytest.fixture
def project(released, monkeypatch):
    monkeypatch.chdir(released)
    return released


def fused(logits, row):
    """Apply the formula of configs/columns.json by hand."""
    values = json.loads((paths.bundle("ill_or_well") / COLUMNS).read_text())
    age, _, scanner = values["columns"]
    number = float(row["age"]) if row["age"] else age["fill"]
    x = [np.clip(number, *age["limits"]), float(row["age"] == ""), ["I", "II", "III"].index(row["stage"])]
    x += [float(row["scanner"] == one) for one in scanner["categories"]]
    assert values["features"] == ["age", "age is missing", "stage", "scanner = x", "scanner = y"]
    odds = values["intercepts"][0] + values["image_weights"][0][0] * (logits[1] - logits[0])
    return 1 / (1 + np.exp(-odds - np.dot(values["column_weights"][0], x)))


def test_predict_gives_the_probability_that_was_evaluated(project):
    assert_predicted_as_evaluated(BUNDLE, CLINIC)


def test_patients_get_the_probability_that_was_evaluated_as_well(project):
    assert main(["predict", BUNDLE, CLINIC, "--out", "scans.csv"]) == 0
    found = pd.read_csv("scans_patients.csv").set_index("patient")
    outside = pd.read_csv(CLINIC).query("site == 'outside'")["patient_id"].unique()
    whole = found.loc[outside].query("answered == scans")
    evaluated = paths.read_table(paths.PREDICTIONS).query("scope == 'external_patients'")["probability_1"].to_numpy()
    assert len(whole) and all(np.abs(evaluated - one).min() < 1e-5 for one in whole["ill"])


def test_onnx_runtime_and_the_formula_of_the_card_give_the_same(project):
    session = onnxruntime.InferenceSession(f"{BUNDLE}/models/model.onnx")
    assert "columns" in session.get_modelmeta().custom_metadata_map
    predictor = Predictor.from_bundle(BUNDLE)
    for row in pd.read_csv(CLINIC, dtype=str, keep_default_na=False).head(6).to_dict("records"):
        one = predictor(f"data/raw/clinic/{row['image']}", inputs={name: row[name] for name in predictor.fusion.names})
        channels = one.output.prepared.channels[None].astype(np.float32)
        _, logits = session.run(None, {session.get_inputs()[0].name: channels})
        shown = one.probabilities or one.withheld_probabilities
        assert shown["ill"] == pytest.approx(fused(logits[0].astype(float), row), abs=1e-5)


def test_monai_gives_the_image_part_that_the_formula_fuses(project, tmp_path):
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False).head(3)
    theirs = by_monai(BUNDLE, tmp_path, [f"data/raw/clinic/{name}" for name in table["image"]])
    theirs = {Path(name).name: one for name, one in theirs.items()}
    temperature = json.loads(Path(f"{BUNDLE}/{METADATA}").read_text())["calibration"]["temperature"]
    predictor = Predictor.from_bundle(BUNDLE)
    for row in table.to_dict("records"):
        inputs = {name: row[name] for name in predictor.fusion.names}
        one = predictor(f"data/raw/clinic/{row['image']}", inputs=inputs)
        logits = temperature * np.log(theirs[Path(row["image"]).name])
        shown = one.probabilities or one.withheld_probabilities
        assert shown["ill"] == pytest.approx(fused(logits, row), abs=1e-5)


def test_the_columns_may_stand_in_a_table_beside_a_folder_of_scans(project, tmp_path):
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False)
    for name in table["image"][:4]:
        shutil.copyfile(f"data/raw/clinic/{name}", tmp_path / name)
    inputs = table[:4].rename(columns={"image": "scan"})[["scan", "stage", "scanner", "age"]]
    inputs.to_csv("inputs.csv", index=False)
    assert main(["predict", BUNDLE, str(tmp_path), "--inputs", "inputs.csv", "--out", "here.csv"]) == 0
    assert main(["predict", BUNDLE, CLINIC, "--out", "list.csv"]) == 0
    here = computed("here.csv")
    assert here.tolist() == computed("list.csv")[here.index].tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"age": "old"}, "row 2, column 'age': 'old' is no number; write a number"),
        ({"age": "inf"}, "row 2, column 'age': 'inf' is not finite"),
        ({"age": "600"}, "row 2, column 'age': '600' is too far from the development cases"),
        ({"stage": "IV"}, "row 2, column 'stage': 'IV' is none of I, II, III; write one of these"),
        (
            {"stage": ""},
            "row 2, column 'stage': it is missing, and none of the development cases lacked it; fill it in",
        ),
        ({"scanner": "z"}, "row 2, column 'scanner': 'z' is none of x, y"),
    ],
)
def test_a_bad_value_is_refused_before_any_scan_is_read(project, capsys, change, said):
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False)[:3]
    for name, value in change.items():
        table.loc[1, name] = value
    table.to_csv("data/raw/clinic/bad.csv", index=False)
    assert main(["predict", BUNDLE, "data/raw/clinic/bad.csv"]) == 1
    message = capsys.readouterr().err
    assert said in message and "bad.csv" in message and "Traceback" not in message


def test_a_missing_value_is_taken_where_development_cases_lacked_it(project):
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False)[:3].assign(age=["", "0", "45"])
    table.assign(age=["", "40", "45"]).to_csv("data/raw/clinic/some.csv", index=False)
    assert main(["predict", BUNDLE, "data/raw/clinic/some.csv", "--out", "some_found.csv"]) == 0
    assert computed("some_found.csv").notna().all()


def test_scans_without_columns_are_refused_with_the_cure(project, capsys):
    scan = str(next((project / "data/raw/clinic").glob("*.png")))
    assert main(["predict", BUNDLE, scan]) == 1
    assert "the model takes the columns age, stage, scanner besides the scan" in (found := capsys.readouterr().err)
    assert "--inputs TABLE.csv" in found
    pd.read_csv(CLINIC).drop(columns="age").to_csv("data/raw/clinic/less.csv", index=False)
    assert main(["predict", BUNDLE, "data/raw/clinic/less.csv"]) == 1
    assert "less.csv lacks the column age, which the model takes" in capsys.readouterr().err
    with pytest.raises(BadInputs, match="give age, stage, scanner"):
        Predictor.from_bundle(BUNDLE)(scan)


@pytest.mark.parametrize(
    "command",
    [
        ["serve", BUNDLE],
        ["listen", BUNDLE, "--watch", "in", "--results", "objects", "--ledger", "kept"],
        ["package", BUNDLE, "--map", "map"],
    ],
)
def test_commands_that_read_scans_alone_refuse_the_model(project, capsys, command):
    (project / "in").mkdir(exist_ok=True)
    assert main(command) == 1
    assert "this command reads scans alone; use `medadapt predict" in capsys.readouterr().err


def test_verify_fuses_the_examples_again(project, capsys, tmp_path):
    assert main(["verify", BUNDLE]) == 0
    assert "passed: columns: the model takes age, stage, scanner" in capsys.readouterr().out
    copy = tmp_path / "copy"
    shutil.copytree(BUNDLE, copy)
    values = json.loads((copy / COLUMNS).read_text())
    values["column_weights"][0][0] += 0.01
    (copy / COLUMNS).chmod(0o644)
    (copy / COLUMNS).write_text(json.dumps(values))
    assert main(["verify", str(copy)]) == 3
    for file in copy.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    (copy / MANIFEST).unlink()
    write_manifest(copy, {})
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 3
    assert "FAILED: columns: configs/columns.json: a fused logit differs by" in capsys.readouterr().out


def test_a_site_can_recalibrate_a_model_with_columns(project):
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False)
    table[table["site"] != "outside"].to_csv("data/raw/clinic/ours.csv", index=False)
    words = ["predict", BUNDLE, "--site-recalibrate", "data/raw/clinic/ours.csv", "--out", "ours.json", "--force"]
    assert main(words) == 0
    assert main(["predict", BUNDLE, CLINIC, "--calibration", "ours.json", "--out", "again.csv"]) == 0
    assert main(["predict", BUNDLE, CLINIC, "--out", "before.csv"]) == 0
    assert (computed("again.csv") != computed("before.csv")).any()
    scans = ["predict", BUNDLE, "data/raw/clinic/ours.csv", "--site-adapt", "--out", "limits.json"]
    assert main(scans) in (0, 1)  # there may be too few patients for limits


def test_monitor_follows_the_predictions_of_such_a_model(project):
    assert main(["predict", BUNDLE, CLINIC, "--out", "used.csv"]) == 0
    table = pd.read_csv(CLINIC).rename(columns={"image": "scan"})[["scan", "label"]]
    table.to_csv("labels.csv", index=False)
    assert main(["monitor", BUNDLE, "used.csv", "labels.csv"]) in (0, 3)


def test_card_and_metadata_say_how_the_columns_enter(project):
    bundle = paths.bundle("ill_or_well")
    card, metadata = (bundle / "docs/README.md").read_text(), json.loads((bundle / "configs/metadata.json").read_text())
    assert "Besides the scan the model takes columns" in card and "| stage | ordered, I &lt; II &lt; III |" in card
    assert "| age | numeric |" in card and "is refused, since no development case lacked it" in card
    assert (
        metadata["columns"]["names"] == ["age", "stage", "scanner"]
        and "ln(p_k / p_0)" in metadata["columns"]["formula"]
    )
    assert metadata["calibration"]["method"] == "temperature"
    assert "- What the image adds, internal validation (out of fold): it " in card and "The log-loss falls by " in card


def test_the_report_describes_the_columns_and_says_whether_the_image_adds(project):
    page = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", paths.REPORT.read_text())).split())
    assert "What the images add to the columns Internal" in page
    assert "Image and columns together are the released model" in page
    assert "stage, ordered; AUC of this column alone: " in page and "age, numeric" in page
    assert "held-out cases 20 4 (20%)" in page and "class well" in page and "site inside" in page
    assert "a penalised logistic regression on the log-odds of the image and on age, stage, scanner" in page
