"""finetune.second_encoder: a frozen encoder with weights of its own is one more member of a portfolio."""

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from scipy.special import softmax

from pipeline import paths
from pipeline.__main__ import main
from pipeline.bundle.predictor import Predictor
from pipeline.learning.models.released_weights import from_release
from pipeline.learning.models.state_files import file_sha256
from tests.conftest import TINY_ENCODER
from tests.stages.clinic import RAW
from tests.stages.running import run, run_all

OTHER = "test_convnext"
FULL = {"epochs": 1, "sides": [32], "instances": 1, "seeds": 1}
COLUMNS = ["logit_0", "logit_1"]


@pytest.fixture
def second(project, tmp_path_factory):
    """A project whose second encoder has other weights, in a file."""
    file = tmp_path_factory.mktemp("weights") / "other.safetensors"
    torch.manual_seed(3)
    save_file(timm.create_model(OTHER, pretrained=False).state_dict(), file)

    def write(**changes):
        encoder = {"encoder": OTHER, "weights": str(file)} | changes.pop("second", {})
        changes = {"finetune__full": FULL, "finetune__strategy": "portfolio"} | changes
        return project(**changes | {"finetune__second_encoder": encoder})

    return write


def until_trained():
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")


def test_its_probe_is_averaged_with_the_other_members(second):
    second()
    until_trained()
    table, members = paths.read_table(paths.predictions("0")), paths.read_table(paths.member_predictions("0"))
    by_name = {str(name): softmax(rows[COLUMNS].to_numpy(float), axis=1) for name, rows in members.groupby("member")}
    assert set(by_name) == {"probe", "full", "second_encoder"}
    np.testing.assert_allclose(
        softmax(table[COLUMNS].to_numpy(float), axis=1), np.mean(list(by_name.values()), axis=0), atol=1e-6
    )
    encoders = [one["encoder"]["name"] for one in paths.read_json(paths.network("0"))["portfolio"]]
    assert encoders == [TINY_ENCODER, TINY_ENCODER, OTHER]


def test_it_leaves_the_other_members_as_they_are(second):
    second(second={"encoder": None})
    until_trained()
    without = paths.read_table(paths.member_predictions("0"))
    second()
    run("finetune --fold 0")
    beside = paths.read_table(paths.member_predictions("0"))
    pd.testing.assert_frame_equal(beside[beside["member"] != "second_encoder"].reset_index(drop=True), without)


def test_its_origin_and_licence_reach_the_bundle(second):
    root = second(split__folds=["0", "1", "2", "final"])
    run_all()
    [bundle] = [folder for folder in paths.RELEASED.iterdir() if folder.is_dir()]
    for text in ((bundle / "docs/README.md").read_text(), (bundle / "LICENSE").read_text()):
        assert OTHER in text and "file other.safetensors" in text
    assert f"second encoder {OTHER}, frozen" in paths.REPORT.read_text()
    cases = pd.read_csv(root / RAW / "cohort.csv")
    found = Predictor.from_bundle(bundle)(root / RAW / cases.loc[cases["split"] == "test", "image"].iloc[0])
    evaluated = paths.read_table(paths.predictions("final"))[COLUMNS].to_numpy(float)
    assert np.abs(evaluated - found.output.logits).max(axis=1).min() < 1e-5
    state, provenance = from_release(TINY_ENCODER, bundle, file_sha256(bundle / "models/model.safetensors"))
    of_full = load_file(paths.model("final"))
    assert provenance.encoder == TINY_ENCODER
    assert all(torch.equal(value, of_full[f"members.1.{name}"]) for name, value in state.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": "no_such_net"}, "finetune.second_encoder.encoder: "),
        ({"weights": "elsewhere.pth"}, "finetune.second_encoder.weights: the file elsewhere.pth is not there"),
        ({"weights_sha256": "0" * 64}, "finetune.second_encoder.weights"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_its_parameter(second, capsys, change, words):
    second(second=change)
    run("cohort", "preprocess", "split", "adapt --fold 0")
    assert main(["finetune", "--fold", "0"]) == 1
    assert words in capsys.readouterr().err


def test_a_second_encoder_needs_a_portfolio(second, capsys):
    second(finetune__strategy="probe")
    assert main(["cohort"]) == 1
    assert "finetune.strategy is probe; set finetune.strategy to portfolio or distilled" in capsys.readouterr().err
