"""Networks of times: every strategy learns the order, and gives a standardised log hazard."""

import dataclasses

import numpy as np
import pytest
import torch

from pipeline.learning.models.tasks import Survival
from pipeline.learning.models.trainable_top import TrainableTop
from pipeline.learning.training.evaluation import Evaluator
from pipeline.learning.training.finetuning import predict_logits, train
from pipeline.learning.training.strategies import STRATEGIES
from tests.learning.training.labelled import N, images, labelled, network, setting


def times(count=N, seed=0):
    """Bright images have early events; every third case is censored."""
    rng = np.random.default_rng(seed)
    time = rng.exponential(np.where(np.arange(count) % 2 == 1, 1.0, 8.0)) + 0.01
    return torch.from_numpy(np.where(np.arange(count) % 3 == 0, -time, time)).float()[:, None]


@pytest.mark.parametrize("name", ["probe", "lp_ft", "full"])
def test_a_strategy_ranks_times_and_standardises_the_hazard(name):
    model = network(n_classes=1)
    cases = labelled(model, targets=times())
    cases = dataclasses.replace(cases, validation=None) if name == "full" else cases
    trained = train(model, STRATEGIES[name], cases, setting(task="survival", sides=(32,) if name == "full" else ()))
    assert trained.head["n_classes"] == 1
    evaluated = cases.whole()[0] if name == "full" else cases.train
    found = predict_logits(model, evaluated)[:, 0].numpy()
    assert found.mean() == pytest.approx(0, abs=1e-4) and found.std() == pytest.approx(1, abs=1e-4)
    bright = np.arange(len(found)) % 2 == 1
    assert found[bright].mean() > found[~bright].mean() + 1


def test_neighbours_have_no_vote_on_times():
    model = network(n_classes=1)
    with pytest.raises(ValueError, match="choose probe or full"):
        train(model, STRATEGIES["knn"], labelled(model, targets=times()), setting(task="survival"))


def test_cases_are_evaluated_all_at_once_whatever_their_number():
    model = network(n_classes=1)
    cases = labelled(model, images(70), times(70)).train
    where = setting(task="survival").accelerator
    loss = Evaluator(TrainableTop(model, cases.first), Survival(), torch.ones(1), where).loss(cases)
    logits = predict_logits(model, cases)
    total, events = Survival().losses(logits, cases.targets, torch.ones(1))
    assert loss == pytest.approx(float(total / events), rel=1e-5)
