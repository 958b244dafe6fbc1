"""Calibration cases, and the two forms of release: the released object is the evaluated one."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle.layout import METADATA, WEIGHTS
from pipeline.bundle.opening import open_bundle
from pipeline.metrics.calibrators.fitting import calibrator_from, digest_of
from pipeline.params import cohort_digest
from tests.stages.clinic import RAW, cohort
from tests.stages.release.by_hand import NAME, evaluate_by_hand, mean_logits, train
from tests.stages.running import by_monai, computed, refusal, run
from tests.stages.stored import change_channels, channels_of, store_channels, white

SCOPE = "internal_calibrated"


def roles(fold):
    return pd.read_csv(paths.split(fold), keep_default_na=False)


def test_members_of_an_ensemble_score_calibration_and_test_cases(calibrated):
    calibrated()
    train("0", "final")
    summary = paths.read_json(paths.SPLIT_SUMMARY)
    assert summary["patients"]["calibration"] == 6
    for fold, expected in (("0", ["held_out", "test", "calibration"]), ("final", ["test"])):
        table, scored = roles(fold), pd.read_csv(paths.predictions(fold))
        assert (table["role"] == "calibration").sum() == summary["cases"]["calibration"] >= 6
        assert set(scored["case"]) == set(table.loc[table["role"].isin(expected), "case"])
        assert set(scored["role"]) == set(expected)
        assert set(np.load(paths.features(fold))["case"]) == set(scored["case"])


def test_neither_adaptation_nor_training_sees_a_calibration_case(calibrated):
    calibrated(adapt__target="evaluated")
    train("0")
    before = [paths.adapted_encoder("0").read_bytes(), paths.model("0").read_bytes()]
    table = roles("0")
    change_channels(table.loc[table["role"] == "calibration", "case"], white)
    run("adapt --fold 0", "finetune --fold 0")
    assert [paths.adapted_encoder("0").read_bytes(), paths.model("0").read_bytes()] == before


def test_a_patient_in_calibration_and_development_is_refused(calibrated, capsys):
    root = calibrated()
    cohort(root, lambda table: table.assign(split=table["split"].where(table["case_id"] != "Doe_04_0.png", "")))
    run("cohort", "preprocess")
    message = refusal(capsys, "split")
    assert "1 patient(s) appear in more than one of development, calibration and the test set" in message
    assert "the calibrator is then not fitted on them" in message and "Doe" not in message
    patient = message.splitlines()[1].strip()
    calibrated(split__allow_leaks=[patient])
    run("split")
    for fold in ("0", "1", "2", "final"):
        table = roles(fold)
        assert "calibration" not in set(table.loc[table["patient"] == patient, "role"])
        assert set(table.loc[table["role"] == "calibration", "patient"]) and "excluded" in set(table["role"])
    assert paths.read_json(paths.SPLIT_SUMMARY)["acknowledged_leaks"] == []


def test_a_test_set_is_external_only_if_nothing_was_calibrated_at_its_site(calibrated):
    root = calibrated()
    run("cohort", "preprocess", "split")
    assert paths.read_json(paths.SPLIT_SUMMARY)["external"]
    cohort(
        root, lambda table: table.assign(split=table["split"].where(table["patient_id"] != "Jane Doe 2", "calibration"))
    )
    run("cohort", "preprocess", "split")
    assert not paths.read_json(paths.SPLIT_SUMMARY)["external"]


@pytest.mark.parametrize(("form", "members"), [("refit", ["final"]), ("ensemble", ["0", "1", "2"])])
def test_the_released_model_gives_the_evaluated_probabilities(calibrated, private_keys, form, members):
    root = calibrated(split__folds=[0, 1, 2] + (["final"] if form == "refit" else []))
    train("0", "1", "2", *(["final"] if form == "refit" else []))
    calibrator = evaluate_by_hand(form, members)
    run("release")
    bundle = paths.bundle(NAME)
    cases, logits = mean_logits(members, "test")
    evaluated = pd.DataFrame(calibrator.apply(logits), index=cases.index)[1]
    names = pd.read_csv(private_keys / "clinic" / "names.csv").set_index("pseudonym")["name"]
    files = [f"{RAW}/{names[case]}" for case in evaluated.index]
    assert len(files) > 5 and np.ptp(evaluated) > 0.01
    assert main(["predict", str(bundle), *files, "--out", "results.csv"]) == 0
    np.testing.assert_array_equal(computed("results.csv"), evaluated)
    theirs = by_monai(bundle, root, files[:3])
    np.testing.assert_allclose([theirs[file.split("/")[-1]][1] for file in files[:3]], evaluated[:3], atol=1e-5)


def test_metadata_card_and_manifest_describe_the_released_model(calibrated):
    calibrated(split__folds=[0, 1, 2], finetune__strategy="knn")
    train("0", "1", "2")
    calibrator = evaluate_by_hand("ensemble", ["0", "2"])
    run("release", f"verify {paths.bundle(NAME)}")
    bundle, fitted_on = paths.bundle(NAME), paths.read_json(paths.CALIBRATOR)["fitted_on"]
    metadata = json.loads((bundle / METADATA).read_text())
    assert metadata["released"] == {"form": "ensemble", "members": ["0", "2"], "fitted_on": fitted_on}
    assert metadata["cohort"] == cohort_digest("data/raw/clinic/") and "clinic" not in metadata["cohort"]
    assert metadata["calibration"] == {**calibrator.as_json(), "sha256": digest_of(calibrator)}
    assert calibrator_from(open_bundle(bundle).calibrator) == calibrator
    assert open_bundle(bundle).operating_point.thresholds == {"scan": {"ill": 0.4}}
    assert {oct(file.stat().st_mode & 0o777) for file in bundle.rglob("*") if file.is_file()} == {"0o644"}
    assert set(json.loads((bundle / "MANIFEST.json").read_text())["data"]["split"]) == {"0", "2"}
    state = load_file(bundle / WEIGHTS)
    for number, fold in enumerate(("0", "2")):
        for name, value in load_file(paths.model(fold)).items():
            assert (state.pop(f"members.{number}.{name}") == value).all()
    assert not state
    card = (bundle / "docs" / "README.md").read_text()
    assert "**ensemble**, the mean of the logits of 2 models" in card
    assert "turns into 1 channel of" in card
    assert f"mean logits of {fitted_on['cases']} calibration cases" in card and digest_of(calibrator) in card
    assert "- 0: adaptation adabn" in card and "- 2: adaptation adabn" in card and "- 1:" not in card
    assert "features of the training cases are part of this model" in card
    kept = sum((roles(fold)["role"] == "train").sum() for fold in ("0", "2"))
    assert f"| features of cases | Failed: features of {kept} cases, without consent |" in card
    assert "release.include_features to true" in card
    calibrated(release__include_features=True)
    run("release")
    assert "| features of cases | Passed" in (bundle / "docs" / "README.md").read_text()


def test_a_refit_has_the_evaluated_weights_of_the_final_model_or_none(calibrated, capsys):
    calibrated()
    train("0", "1", "2", "final")
    evaluate_by_hand("refit", ["final"])
    run("release")
    bundle = paths.bundle(NAME)
    run(f"verify {bundle}")
    assert (bundle / WEIGHTS).read_bytes() == paths.model("final").read_bytes()
    card = (bundle / "docs" / "README.md").read_text()
    assert "**refit**, one model" in card and "out-of-fold logits of" in card and "platt (weights" in card
    assert "- final: adaptation adabn" in card and "features of the training cases" not in card
    content = bytearray(paths.model("final").read_bytes())
    content[-5] ^= 1
    paths.model("final").write_bytes(content)
    before = (paths.bundle(NAME) / WEIGHTS).read_bytes()
    message = refusal(capsys, "release")
    assert f"{paths.model('final')} is not the model that `calibrate` evaluated" in message and "repair" in message
    assert (paths.bundle(NAME) / WEIGHTS).read_bytes() == before


def test_evidence_equals_the_evaluation_and_names_no_patient_or_folder(calibrated, capsys):
    root = calibrated()
    train("0", "1", "2", "final")
    calibrator = evaluate_by_hand("refit", ["final"])
    cases, logits = mean_logits(["0", "1", "2"], "held_out")
    predictions = pd.DataFrame(calibrator.apply(logits), columns=["probability_0", "probability_1"])
    own = roles("final").set_index("case").loc[cases.index]
    predictions = predictions.assign(scope="internal", label=own["label"].to_numpy(), patient=own["patient"].to_numpy())
    paths.write_table(predictions, paths.PREDICTIONS)
    known = {"scope": "internal", "threshold": 0.1, "net_benefit": 0.3, "gain": 0.2, "gain_lower": 0.1}
    curve = pd.DataFrame([known])
    paths.write_table(curve, paths.assessed("decision_curve"))
    run("release")
    folder = paths.bundle(NAME) / "evidence"
    assert paths.read_json(folder / "metrics.json") == {"internal": paths.read_json(paths.pooled_metrics(SCOPE))}
    assert pd.read_csv(folder / "decision_curve.csv").equals(curve)
    gates = json.loads((paths.bundle(NAME) / METADATA).read_text())["gates"]
    assert paths.read_json(folder / "gates.json") == gates and len(gates) > 5
    split = pd.read_csv(folder / "split" / "final.csv")
    assert list(split) == ["case", "patient", "role"] and len(split) == len(roles("final"))
    known = {
        "cases": len(roles("final").query("role in ('train', 'validation')")),
        "absent": 0,
        "largest_difference": 0.0,
    }
    assert json.loads((paths.bundle(NAME) / METADATA).read_text())["preparation_parity"] == known
    changed = roles("final").query("role == 'train'")["case"].iloc[-1]
    channels = channels_of(changed)
    channels[0, 3, 3] += 7 if channels[0, 3, 3] < 200 else -7
    store_channels(changed, channels)
    assert paths.read_json(paths.bundle(NAME) / "docs" / "sbom.cdx.json")["specVersion"] == "1.6"
    calibrated(release__keep="../archive", release__version="2.0.0")
    run("release")
    card = (paths.bundle(NAME) / "docs" / "README.md").read_text()
    assert f"by at most 7.0 of 255 grey values, on {known['cases']} development cases." in card
    assert (root.parent / "archive" / NAME / "2.0.0" / METADATA).read_text().count('"version": "2.0.0"') == 1
    calibrated(release__description="another")
    assert "increase release.version" in refusal(capsys, "release")
    calibrated(release__keep=None, release__signing_key="key")
    assert "release.signing_key: key is inside the project" in refusal(capsys, "release")
    for file in paths.bundle(NAME).rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert not [word for word in (b"Doe", b"Jane", str(root).encode()) if word in content], file


def test_a_refit_without_a_final_model_is_refused_and_an_ensemble_is_not(calibrated, capsys):
    calibrated(split__folds=[0, 1, 2])
    train("0", "1", "2")
    evaluate_by_hand("refit", ["final"])
    assert "add 'final'" in (message := refusal(capsys, "release")) and "calibrate.form to ensemble" in message
    evaluate_by_hand("ensemble", ["0", "1", "2"])
    run("release")
