"""Operating limits of a release: set on cases that the model never saw, tried on corrupted ones, shown in the card."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.special import logsumexp

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle.layout import LIMITS, REFERENCE
from pipeline.bundle.limits import OperatingLimits
from pipeline.imaging.appearance import appearance
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.training import frozen
from pipeline.metrics.ood import fit_gaussians
from pipeline.stages.release.corruptions import CORRUPTED
from tests.stages.release.by_hand import NAME, evaluate_by_hand, train
from tests.stages.running import computed, run
from tests.stages.stored import channels_of

NUMBERED = ["0", "1", "2"]
WHAT = ("logits", "features")
HALF_PRECISION = 5e-3  # features of training cases are those of the activation cache


def features_of(fold, role):
    """Evaluate the cases of a role anew, one by one."""
    network = Classifier(**paths.read_json(paths.network(fold)))
    network.load_state_dict(load_file(paths.model(fold)))
    inference(network)
    cases, found = pd.read_csv(paths.split(fold), keep_default_na=False).query("role == @role"), []
    for case, site in zip(cases["case"], cases["site"], strict=True):
        with torch.inference_mode():
            found.append(network.outputs(torch.from_numpy(channels_of(case))[None], site))
    logits, features = (np.array([getattr(one, what)[0].double().numpy() for one in found]) for what in WHAT)
    return cases.reset_index(drop=True), logits, features


def test_features_that_finetune_computed_are_not_computed_again(calibrated, monkeypatch):
    calibrated(finetune__strategy="portfolio")
    train(*NUMBERED, "final")
    evaluate_by_hand("refit", ["final"])
    monkeypatch.setattr(frozen, "_run", lambda *given: pytest.fail("they are in the activation cache"))
    run("release")


def released():
    """Pack what was trained and return what its limits file says."""
    run("release")
    values = paths.read_json(paths.bundle(NAME) / LIMITS)
    return OperatingLimits.from_json(values["limits"]), {row["what"]: row for row in values["tested"]}


def photographs(root):
    """Put two striped images and a letter where scans stand that the model must not answer."""
    folder = root / "data" / "out_of_distribution" / "photographs"
    folder.mkdir(parents=True)
    for width in (4, 8):
        stripes = np.tile(255 * (np.arange(64) // width % 2), (64, 1)).astype(np.uint8)
        Image.fromarray(stripes).save(folder / f"{width}.png")
    (folder / "letter.png").write_text("Dear colleague")


def tells_who_stands_where(card):
    """Hold the card's counts of patients and cases against the split, and what it says of imbalance and settings."""
    cases = paths.read_table(paths.split("final"))
    for column, what in (("label", "class ill"), ("site", "site next door")):
        sides = [cases[(cases["role"] == "test") == test] for test in (False, True)]
        named = [side[side[column] == what.partition(" ")[2]] for side in sides]
        counts = " | ".join(f"{one['patient'].nunique()} ({len(one)})" for one in named)
        assert f"\n| {what} | {counts} |" in card, what
    assert "training weighs each class by the inverse of its share" in card
    settings = paths.read_json(paths.bundle(NAME) / "evidence" / "settings.json")
    assert settings["finetune"]["views"] == 1 and settings["seed"] == 0 and "weights" not in settings["adapt"]


def gives_its_own_scores(raw, calibrator, private_keys):
    """Hold what predict says of test scans, in a folder or a table, against the final model's scores: to the bit."""
    names = pd.read_csv(private_keys / "clinic" / "names.csv").set_index("pseudonym")["name"]
    cases = pd.read_csv(paths.predictions("final")).query("role == 'test'")
    evaluated = calibrator.apply(cases[["logit_0", "logit_1"]].to_numpy())[:, 1]
    expected = dict(zip(cases["case"].map(names), evaluated, strict=True))
    assert len(expected) > 5
    (raw / "inbox").mkdir()
    for name in expected:
        shutil.copy(raw / name, raw / "inbox")
    for number, path in enumerate((raw / "inbox", raw / "cohort.csv")):
        assert main(["predict", str(paths.bundle(NAME)), str(path), "--out", f"{number}.csv"]) == 0
        found = computed(f"{number}.csv")
        assert {name: found[name] for name in expected} == expected


def counts_what_predict_answers(private_keys):
    """Hold the count of answered test scans against what predict writes of them."""
    names = pd.read_csv(private_keys / "clinic" / "names.csv").set_index("name")["pseudonym"]
    found = pd.read_csv("0.csv", keep_default_na=False)
    answered = names[found["scan"][found["abstains"] == ""]]
    patients = paths.read_table(paths.split("final")).set_index("case")["patient"]
    counts = paths.read_json(paths.bundle(NAME) / LIMITS)["answered"]
    assert (counts["scans"], counts["answered"]) == (len(found), len(answered)) == (10, len(answered))
    assert counts["patients_answered"] == patients[answered].nunique() and counts["patients"] == 8
    assert counts["lower"] <= counts["patients_answered"] / 8 < counts["upper"]


def test_limits_of_a_refit_are_set_out_of_fold(
    calibrated,
    private_keys,
):
    root = calibrated(release__ood_rate=0.15, calibrate__set_coverage=0.7)
    train(*NUMBERED, "final")
    calibrator = evaluate_by_hand("refit", ["final"])
    shown = {"test_set": {"scope": "external", "shown": True, "acknowledged_leaks": []}}
    paths.write_json(paths.read_json(paths.STAMPS) | shown, paths.STAMPS)
    photographs(root)
    limits, tried = released()

    energies, apart, odd, probabilities, patients, labels = [], [], [], [], [], []
    for fold in NUMBERED:
        cases, _, trained = features_of(fold, "train")
        held, logits, features = features_of(fold, "held_out")
        gaussian = fit_gaussians(trained, cases["label"].to_numpy(dtype=str))
        apart += gaussian.distances(features).min(axis=1).tolist()
        seen, new = (np.array([appearance(channels_of(case)) for case in some["case"]]) for some in (cases, held))
        odd += fit_gaussians(seen, np.full(len(seen), "all")).distances(new).min(axis=1).tolist()
        energies += (-logsumexp(logits, axis=1)).tolist()
        probabilities += calibrator.apply(logits).tolist()
        patients += held["patient"].tolist()
        labels += held["label"].tolist()
    scores = np.stack([energies, np.log(apart), np.log(odd)], axis=1)
    np.testing.assert_allclose(limits.detector.medians, np.median(scores, axis=0), rtol=HALF_PRECISION)
    worst = pd.Series(limits.detector.ood_score(scores)).groupby(patients).max().sort_values()
    assert limits.detector.patients == len(worst) > 8
    rank = int(np.ceil(np.round((len(worst) + 1) * 0.85, 9)))
    assert limits.detector.threshold == pytest.approx(worst.iloc[rank - 1], rel=HALF_PRECISION)
    confidence = np.sort(np.max(probabilities, axis=1))
    assert limits.rules[0].min_confidence == pytest.approx(confidence[-int(np.ceil(round(0.9 * len(confidence), 9)))])
    assert limits.rules[0].sets.by == "class"

    cases, _, trained = features_of("final", "train")
    again = fit_gaussians(trained, cases["label"].to_numpy(dtype=str))
    np.testing.assert_allclose(limits.gaussians[0].distances(trained), again.distances(trained), rtol=HALF_PRECISION)
    assert set(limits.sites[0].means) == {"inside", "next door"}

    false, test, *corrupted, others = tried.values()
    assert others["what"] == "out-of-distribution scans: photographs; 1 of them refused when read"
    assert others["n"] == 3 and others["flagged"] > 1  # a network of no training still sees stripes
    assert false["n"] == len(worst) and test["what"] == "patients of the test set (external)" and test["n"] == 8
    assert len(corrupted) == len(CORRUPTED) and {row["n"] for row in corrupted} == {len(worst)}
    assert max(row["flagged"] for row in corrupted) > len(worst) / 2  # a network of no training still sees noise
    assert 0 < limits.foreign < 50  # no corruption looks like the development scans
    card = (paths.bundle(NAME) / "docs" / "README.md").read_text()
    for row in tried.values():
        assert f"| {row['what']} | {row['flagged']} | {row['n']} | {row['flagged'] / row['n']:.2f} (" in card
    tells_who_stands_where(card)
    run(f"verify {paths.bundle(NAME)}")
    manifest = json.loads((paths.bundle(NAME) / "MANIFEST.json").read_text())
    assert str(LIMITS) in manifest["files"]
    gives_its_own_scores(root / "data" / "raw" / "clinic", calibrator, private_keys)
    counts_what_predict_answers(private_keys)
    reference = paths.read_json(paths.bundle(NAME) / REFERENCE)
    first = pd.DataFrame({"patient": patients, "ill": np.array(probabilities)[:, 1]}).drop_duplicates("patient")
    assert reference["predictions"]["ill"] == pytest.approx(sorted(first["ill"]), abs=1e-6)
    assert main(["monitor", str(paths.bundle(NAME)), "0.csv"]) == 0  # eight patients are too few for an alarm


def test_limits_of_an_ensemble_are_set_on_its_calibration_cases(
    calibrated,
):
    root = calibrated(split__folds=[0, 1, 2])
    train(*NUMBERED)
    evaluate_by_hand("ensemble", NUMBERED)
    limits, tried = released()
    assert paths.read_json(paths.bundle(NAME) / LIMITS)["answered"] is None
    assert len(limits.gaussians) == 3 and limits.detector.threshold is None and limits.detector.patients == 6
    assert list(tried) == ["development patients, flagged by a detector that was set on the others"]
    card = (paths.bundle(NAME) / "docs" / "README.md").read_text()
    assert "6 patients are too few for out-of-distribution detection: **nothing is flagged.**" in card
    assert "too few for a guarantee, so every set contains all classes" in card
    assert main(["predict", str(paths.bundle(NAME)), str(root / "data/raw/clinic"), "--out", "r.csv"]) == 0
    found = pd.read_csv("r.csv", keep_default_na=False)
    assert (
        set(found["set"] + found["withheld_set"]) == {"well or ill"}
        and not found["abstains"].str.contains("out of").any()
    )
