"""The stages on a small private cohort of images, through the command line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from pipeline import paths
from pipeline.__main__ import main
from tests.conftest import key_folder
from tests.stages.conftest import lay_out
from tests.stages.running import FOLDS, computed, refusal, run, run_all, until_calibrated
from tests.stages.stored import change_channels, white


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A project that went through all stages, and its key folder; nobody writes into them."""
    with pytest.MonkeyPatch.context() as patch:
        keys = key_folder(tmp_path_factory.mktemp("keys"))
        patch.setenv("MEDADAPT_KEYS", str(keys))
        root = lay_out(tmp_path_factory.mktemp("finished") / "project", patch)()
        run_all()
        return root, keys


@pytest.fixture
def finished(finished_run, monkeypatch):
    """Change into the finished project; returns its key folder."""
    root, keys = finished_run
    monkeypatch.chdir(root)
    monkeypatch.setenv("MEDADAPT_KEYS", str(keys))
    return keys


def test_private_cohort_leaves_no_name_outside_the_key_folder(finished, capsys):
    files = [file for file in Path("data").rglob("*") if file.is_file() and "raw" not in file.parts]
    assert len(files) > 40
    for file in files:
        content = file.read_bytes()
        assert not re.search(rb"Doe(?![a-z])|Jane", content), file  # "does" is no name
        assert "Doe" not in str(file)
        assert str(Path.cwd()).encode() not in content, file
    names = (finished / "clinic" / "names.csv").read_text()
    assert "Jane Doe 3" in names
    case = re.search(r"case-\w+", names)[0]
    run(f"whois {case}")
    assert "Doe_" in capsys.readouterr().out
    assert "not among" in refusal(capsys, "whois case-000000000000")


def test_predict_gives_a_test_case_exactly_its_evaluated_probability(finished, tmp_path):
    evaluated = pd.read_csv(paths.PREDICTIONS)
    evaluated = evaluated[evaluated["scope"] == "external"]
    names = pd.read_csv(finished / "clinic" / "names.csv").set_index("pseudonym")["name"]
    bundle = paths.bundle("ill_or_well")
    files = [f"data/raw/clinic/{names[case]}" for case in evaluated["case"]]
    assert main(["predict", str(bundle), *files, "--out", str(tmp_path / "results.csv")]) == 0
    np.testing.assert_array_equal(computed(tmp_path / "results.csv"), evaluated["probability_1"].to_numpy())


def test_predict_refuses_a_bad_scan_with_the_reason_and_goes_on(finished, tmp_path, capsys):
    (tmp_path / "broken.png").write_bytes(b"no image")
    broken, good = str(tmp_path / "broken.png"), "data/raw/clinic/Doe_00_0.png"
    bundle = shutil.copytree(paths.bundle("ill_or_well"), tmp_path / "bundle")
    assert main(["predict", str(bundle), broken, good, "absent.nii.gz"]) == 0
    printed = capsys.readouterr().out
    assert "broken.png: it is damaged" in printed
    assert "absent.nii.gz: the file does not exist; check the path" in printed
    assert "model status" in printed
    assert "no scan could be read" in refusal(capsys, f"predict {bundle} {broken}")
    weights = bundle / "models" / "model.safetensors"
    weights.chmod(0o644)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "has changed since the release" in refusal(capsys, f"predict {bundle} {good}")


def test_the_bundles_state_dict_and_its_safetensors_are_the_same_weights(finished):
    bundle = paths.bundle("ill_or_well")
    plain = torch.load(bundle / "models" / "model.pt", weights_only=True)
    safe = load_file(bundle / "models" / "model.safetensors")
    assert plain.keys() == safe.keys() and all(torch.equal(plain[name], safe[name]) for name in plain)
    manifest = json.loads((bundle / "MANIFEST.json").read_text())
    assert "models/model.pt" in manifest["files"] and manifest["environment"]["packages"]["torch"]


def test_card_evaluates_each_threshold_on_patients_not_used_to_choose_it(finished):
    points = pd.read_csv(paths.assessed("operating_points"))
    assert set(points["scope"]) == {"internal", "external"} and len(points) == 4
    card = (paths.bundle("ill_or_well") / "docs" / "README.md").read_text()
    for row in points.itertuples():
        told = f"| {row.scope} | {row.of} | {row.rule} | {row.threshold:.3f} | {row.sensitivity:.3f} ("
        assert told in card


def test_metrics_of_a_closed_test_set_stay_unseen_and_the_report_says_so(project):
    project(calibrate__test="closed")
    run_all()
    assert not list(paths.METRICS_POOLED.glob("external*"))
    assert not paths.OPENINGS.exists()
    assert set(pd.read_csv(paths.PREDICTIONS)["scope"]) == {"internal"}
    assert "was never evaluated" in paths.REPORT.read_text()


def test_each_different_model_that_is_looked_at_counts_as_one_opening(project):
    project()
    until_calibrated()
    run("calibrate")
    assert len(paths.OPENINGS.read_text().splitlines()) == 2
    project(finetune__views=0)
    run("finetune --fold final", "calibrate")
    assert len(paths.OPENINGS.read_text().splitlines()) == 3


def test_adaptation_of_a_fold_never_sees_what_the_fold_evaluates(project):
    """A marker image in place of every held-out and test case changes no fitted number."""
    project(adapt__method="adabn")
    run("cohort", "preprocess", "split", "adapt --fold 0")
    before = paths.adapted_encoder("0").read_bytes()
    table = pd.read_csv(paths.split("0"))
    change_channels(table.loc[table["role"].isin(["held_out", "test"]), "case"], white)
    run("adapt --fold 0")
    assert paths.adapted_encoder("0").read_bytes() == before
    project(adapt__target="evaluated")
    run("adapt --fold 0")
    assert paths.adapted_encoder("0").read_bytes() != before
    assert paths.read_json(paths.adaptation("0"))["evaluated_seen"]


def test_training_of_a_fold_never_sees_what_the_fold_evaluates(project):
    project(adapt__method="none")
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    before = paths.model("0").read_bytes()
    table = pd.read_csv(paths.split("0"))
    change_channels(table.loc[table["role"].isin(["held_out", "test"]), "case"], white)
    run("finetune --fold 0")
    assert paths.model("0").read_bytes() == before


def test_no_adaptation_and_adaptation_of_strength_zero_are_the_same(project):
    project(adapt__method="none")
    run("cohort", "preprocess", "split", "adapt --fold 0")
    before = paths.adapted_encoder("0").read_bytes()
    project(adapt__method="adabn", adapt__strength=0.0)
    run("adapt --fold 0")
    assert paths.adapted_encoder("0").read_bytes() == before


def test_the_same_run_gives_the_same_bytes_and_another_seed_others(project):
    root = project()
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    kept = [paths.model("0"), paths.predictions("0"), paths.features("0"), paths.INDEX, paths.split("0")]
    before = [file.read_bytes() for file in kept]
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    assert [file.read_bytes() for file in kept] == before
    text = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    run("split", "adapt --fold 0", "finetune --fold 0")
    assert paths.model("0").read_bytes() != before[0]


def test_three_classes_of_colour_images_go_through(project):
    root = project(cohort__classes=["a", "b", "c"], cohort__positive=None, split__test="none")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(36):
        label = "abc"[number % 3]
        pixels = rng.integers(0, 80, (40, 40, 4), dtype=np.uint8)
        pixels[..., number % 3] += 120
        Image.fromarray(pixels).save(root / "data" / "raw" / "clinic" / f"n{number}.png")
        rows.append((f"n{number}", f"n{number}.png", label))
    pd.DataFrame(rows, columns=["case_id", "image", "label"]).to_csv(root / "data/raw/clinic/cohort.csv", index=False)
    run_all()
    metrics = paths.read_json(paths.pooled_metrics("internal_calibrated"))
    assert metrics["auc"]["value"] > 0.9 and metrics["n"] == 36
    assert paths.read_json(paths.GEOMETRY)["channels"] == 3
    page = paths.REPORT.read_text()
    assert "image-level" in page or "because the table names no patients" in page


def test_text_of_the_cohort_stays_text_in_the_report(project):
    root = project()
    table = pd.read_csv(root / "data/raw/clinic/cohort.csv")
    table["site"] = table["site"].replace("inside", "<script>alert(1)</script>")
    table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
    run_all()
    page = paths.REPORT.read_text()
    assert "<script>alert" not in page and "&lt;script&gt;" in page


def test_broken_file_is_refused_by_name_and_counted_in_the_report(project, capsys):
    root = project()
    (root / "data/raw/clinic/Doe_04_0.png").write_bytes(b"broken")
    run("cohort")
    assert re.search("refused +1  unreadable.*Doe_04_0.png", capsys.readouterr().out)
    audit = pd.read_csv(paths.AUDIT, keep_default_na=False)
    assert audit["action"].tolist() == ["refused"] and "Doe" not in paths.AUDIT.read_text()
    facts = paths.read_json(paths.COHORT_FACTS)
    assert facts["cases_refused"] == 1
    assert len(pd.read_csv(paths.CASES)) == facts["cases_in"] - 1


def test_patient_on_both_sides_is_refused_unless_acknowledged(project, capsys):
    root = project()
    table = pd.read_csv(root / "data/raw/clinic/cohort.csv", keep_default_na=False)
    table.loc[table["patient_id"] == "Jane Doe 0", "split"] = ["test", ""]
    table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
    run("cohort", "preprocess")
    message = refusal(capsys, "split")
    (patient,) = re.findall(r"patient-\w+", message)
    assert "split.allow_leaks" in message and "Doe" not in message
    project(split__allow_leaks=[patient])
    run("split")
    for fold in FOLDS:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate", "evidence", "release", "report")
    assert paths.read_json(paths.CALIBRATED / "stamps.json")["test_set"]["acknowledged_leaks"] == [patient]
    assert "Leaky test set" in paths.REPORT.read_text()
    assert "| no leak | Failed: 1 leak" in (paths.bundle("ill_or_well") / "docs" / "README.md").read_text()


@pytest.mark.parametrize(
    ("change", "stages", "said"),
    [
        ({"cohort__path": "data/raw/nowhere"}, ["cohort"], "cohort.path: the folder data/raw/nowhere is not there"),
        ({"cohort__classes": ["sick"], "cohort__positive": None}, ["cohort"], "at least two are needed"),
        (
            {"split__n_folds": 20},
            ["cohort", "preprocess", "split"],
            "fewer than split.n_folds = 20.*lower split.n_folds",
        ),
        (
            {"split__test": "sites", "split__test_sites": ["mars"]},
            ["cohort", "preprocess", "split"],
            "names 'mars'.*inside",
        ),
        (
            {"adapt__encoder": "ours"},
            ["cohort", "preprocess", "split", "adapt --fold 0"],
            "adapt.encoder: timm",
        ),
        ({"adapt__weights": "w.pt"}, ["cohort", "preprocess", "split", "adapt --fold 0"], "w.pt is not there"),
        ({"adapt__weights": "pip"}, ["cohort", "preprocess", "split", "adapt --fold 0"], "tf_efficientnet_lite2 only"),
        ({}, ["finetune --fold 0"], "is not there yet: `dvc repro`"),
    ],
)
def test_bad_input_is_refused_with_the_parameter_and_the_cure(project, capsys, change, stages, said):
    project(**change)
    *before, last = stages
    for stage in before:
        main(stage.split())
    assert re.search(said, refusal(capsys, last).replace("\n", " "))


def test_a_test_fraction_of_patients_is_never_developed_on(project):
    project(split__test="patients", split__test_fraction=0.3)
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        table = pd.read_csv(paths.split(fold))
        test = set(table.loc[table["role"] == "test", "patient"])
        assert test and not test & set(table.loc[table["role"] != "test", "patient"])


def test_a_defect_of_ours_keeps_its_traceback_and_a_refusal_has_none(project):
    root = project()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "preprocess"], cwd=root, capture_output=True, text=True,
        env={**__import__("os").environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr and "is not there yet" in done.stderr
