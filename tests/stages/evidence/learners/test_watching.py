import dataclasses

import numpy as np
import torch

from pipeline.learning.training.cases import FrozenCases, WholeCases
from pipeline.learning.training.finetuning import predict_logits
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.stages.evidence.experiments.trainings import EVERY_STAGE
from pipeline.stages.evidence.learners.watching import watch
from tests.learning.training.labelled import labelled, network, one_hot, setting

LP_FT = STRATEGIES["lp_ft"]


def others(model, n=12):
    """Cases that nothing is learned from, at the boundary of `labelled`."""
    cases = labelled(model).validation
    return cases.some(np.arange(min(n, len(cases.targets))))


def watched(evaluated=None, **changes):
    model = network()
    cases = labelled(model)
    return (
        model,
        cases,
        watch(
            model,
            LP_FT,
            cases,
            setting(**changes),
            evaluated=others(model) if evaluated is None else evaluated(model),
        ),
    )


def test_every_epoch_is_recorded_from_the_probe_on_in_order_of_time():
    _, cases, found = watched()
    epochs = len(found.validation_loss)
    assert epochs == 1 + setting().recipe.epochs
    assert np.array(found.train_losses).shape == (epochs, len(cases.train.targets))
    assert np.array(found.test_losses).shape[0] == epochs and found.logits.shape == (8, 2)
    assert found.seconds == sorted(found.seconds) and found.seconds[0] > 0


def test_losses_of_the_best_epoch_are_those_of_the_returned_network():
    model, cases, found = watched()
    kept = int(np.argmin(found.validation_loss))
    for losses, some in ((found.train_losses, cases.train), (found.test_losses, others(model))):
        logits = predict_logits(model, some)
        assert np.allclose(losses[kept], setting().asked.case_losses(logits, some.targets).numpy(), atol=1e-5)
    assert np.allclose(found.logits, predict_logits(model, others(model)), atol=1e-6)


def test_what_is_evaluated_chooses_nothing():
    def flipped(model):
        cases = others(model)
        return dataclasses.replace(cases, targets=1 - cases.targets)

    (_, _, right), (_, _, wrong) = watched(), watched(flipped)
    assert np.array_equal(right.logits, wrong.logits) and right.validation_loss == wrong.validation_loss
    assert not np.allclose(right.test_losses, wrong.test_losses)


def test_a_training_of_every_stage_is_watched_on_the_images():
    model = network()
    cases = labelled(model, first=len(model.encoder.stages))
    whole = cases.whole()[1]
    assert isinstance(whole, WholeCases) and isinstance(cases.train, FrozenCases)
    found = watch(model, EVERY_STAGE, cases, setting(epochs=2, batch_statistics=True), evaluated=whole)
    logits = predict_logits(model, whole)
    kept = int(np.argmin(found.validation_loss))
    assert torch.equal(logits, torch.from_numpy(found.logits).float())
    assert np.allclose(found.test_losses[kept], setting().asked.case_losses(logits, one_hot(8)).numpy(), atol=1e-5)
