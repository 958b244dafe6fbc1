"""finetune.strategy: distilled, one network that learns the probabilities of a portfolio."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import softmax

from pipeline import paths
from pipeline.learning.models.ensemble import model_from
from pipeline.learning.models.tasks import task_of
from pipeline.paths import Role
from pipeline.stages.finetune import distillation
from tests.stages.running import run
from tests.stages.stored import channels_of

FULL = {"epochs": 2, "sides": [32], "instances": 1, "seeds": 1}
COLUMNS = ["logit_0", "logit_1"]


def train(project, strategy, **changes):
    project(**{"finetune__full": FULL, "finetune__strategy": strategy} | changes)
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")


def test_the_targets_are_the_probabilities_of_the_portfolio(project, monkeypatch):
    seen = {}

    def noted(members, cases, task):
        seen["cases"], seen["found"] = cases["case"].tolist(), probabilities_of(members, cases, task)
        return seen["found"]

    probabilities_of = distillation.probabilities_of
    monkeypatch.setattr(distillation, "probabilities_of", noted)
    train(project, "distilled")
    roles = paths.read_table(paths.split("0")).set_index("case")["role"]
    assert set(roles[seen["cases"]]) == {Role.TRAIN, Role.VALIDATION}
    assert torch.allclose(seen["found"].sum(dim=1), torch.ones(len(seen["cases"])))
    train(project, "portfolio")
    portfolio = model_from(paths.read_json(paths.network("0")))
    portfolio.load_state_dict(load_file(paths.model("0")))
    portfolio.eval()
    channels = torch.from_numpy(np.stack([channels_of(case) for case in seen["cases"]]))
    with torch.inference_mode():
        expected = torch.cat([portfolio(case[None]) for case in channels])
    np.testing.assert_allclose(seen["found"], softmax(expected.numpy(), axis=1), atol=1e-5)


def test_one_network_is_kept_and_predicts_by_itself(project):
    train(project, "distilled")
    record, network = paths.read_json(paths.recipe("0")), paths.read_json(paths.network("0"))
    assert record["strategy"] == "distilled" and [one["name"] for one in record["members"]] == ["distilled"]
    assert "portfolio" not in network and network["test_time"]["tta"] == ["mirror"]
    assert paths.read_table(paths.member_predictions("0")).empty
    assert set(paths.read_table(paths.history("0"))["member"]) == {"distilled"}


def test_it_differs_from_a_network_that_learns_the_labels(project):
    train(project, "distilled")
    student = paths.read_table(paths.predictions("0"))[COLUMNS]
    train(project, "full")
    assert not np.allclose(student, paths.read_table(paths.predictions("0"))[COLUMNS])


def test_an_encoder_with_statistics_per_site_stays_frozen(project):
    train(project, "distilled", adapt__method="adabn_per_site")
    assert paths.read_json(paths.recipe("0"))["strategy"] == "probe"


@pytest.mark.parametrize("balance", ["balanced", "none"])
def test_weights_of_findings_count_soft_targets_by_their_share(balance):
    soft = torch.tensor([[0.25, 1.0], [0.75, torch.nan], [0.0, 0.0]])
    expected = torch.tensor([[3 / 4, 1.0], [3 / 2, 1.0]]) if balance == "balanced" else torch.ones(2, 2)
    torch.testing.assert_close(task_of("multilabel").weights(soft, balance), expected)
