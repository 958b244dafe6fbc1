import copy
import dataclasses

import pytest
import torch

from pipeline.learning.classifier import Classifier
from pipeline.learning.loop import Cases, Recipe, class_weights, fit, make_accelerator, parameter_groups
from tests.conftest import TINY_ENCODER

RECIPE = Recipe(2, epochs=6, patience=6, batch_size=8, learning_rate=1e-2, rate_decay=0.5, weight_decay=0.0)


def task(n=24, seed=0):
    """Bright squares against dark ones, seen through the frozen stages."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    planes = torch.rand(n, 3, 32, 32, generator=draws) * 60 + 120 * labels.view(-1, 1, 1, 1)
    torch.manual_seed(1)
    network = Classifier(TINY_ENCODER, 3, 2).eval()
    with torch.no_grad():
        frozen = network.activations(planes, last=len(network.encoder.stages) - 2)
    maps, pooled = frozen.maps.half(), frozen.pooled.half()
    return network, Cases(torch.stack([maps, maps]), torch.stack([pooled, pooled]), labels)


def deep_task(n=12):
    """Bright volumes against dark ones, seen through the frozen stages of an inflated encoder."""
    labels = torch.arange(n) % 2
    planes = torch.rand(n, 5, 32, 32, generator=torch.Generator().manual_seed(0)) * 60
    torch.manual_seed(1)
    network = Classifier(TINY_ENCODER, 1, 2, filter_depth=3).eval()
    with torch.no_grad():
        frozen = network.activations(planes + 120 * labels.view(-1, 1, 1, 1), last=len(network.encoder.stages) - 2)
    return network, Cases(frozen.maps.half()[None], frozen.pooled.half()[None], labels)


def trained(recipe=RECIPE, seed=0):
    network, cases = task()
    curve = fit(network, cases, cases, recipe, torch.ones(2), make_accelerator("cpu"), seed)
    return network, curve


def test_training_lowers_the_inner_loss_and_keeps_the_best_epoch():
    _, curve = trained()
    best = min(curve, key=lambda epoch: epoch.inner_loss)
    assert best.inner_loss < curve[0].inner_loss - 0.05
    assert [epoch for epoch in curve if epoch.best][-1] == best


def test_an_inflated_encoder_trains_from_stored_volumes():
    network, cases = deep_task()
    assert cases.maps.ndim == 7 and cases.maps.shape[2] == 1 and cases.maps.shape[4] == 5  # every slice is kept
    kernels = [value.clone() for value in network.encoder.stages[-1].parameters()]
    recipe = dataclasses.replace(RECIPE, epochs=20, patience=20)
    curve = fit(network, cases, cases, recipe, torch.ones(2), make_accelerator("cpu"), 0)
    assert min(epoch.inner_loss for epoch in curve) < curve[0].inner_loss / 2
    assert not any(map(torch.equal, kernels, network.encoder.stages[-1].parameters()))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    (one, curve), (two, same), (three, _) = trained(), trained(), trained(seed=1)
    assert curve == same
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert any(
        not torch.equal(a, b) for a, b in zip(one.state_dict().values(), three.state_dict().values(), strict=True)
    )


def test_frozen_stages_and_normalisation_statistics_stay():
    before, _ = task()
    after, _ = trained()
    boundary = len(before.encoder.stages) - 2
    for name, value in before.state_dict().items():
        stage = int(name.split(".")[2]) if "stages" in name else 99
        if stage < boundary or "running" in name:
            assert torch.equal(value, after.state_dict()[name]), name
    assert not torch.equal(before.head.weight, after.head.weight)


def test_where_no_epoch_beats_the_probe_the_probe_stays():
    network, cases = task()
    fit(network, cases, cases, RECIPE, torch.ones(2), make_accelerator("cpu"), 0)  # a start that is right already
    start = copy.deepcopy(network.state_dict())
    wrong = Cases(cases.maps, cases.pooled, 1 - cases.labels)  # what is learned on these is wrong for the inner cases
    curve = fit(network, wrong, cases, RECIPE, torch.ones(2), make_accelerator("cpu"), 0)
    assert [epoch.epoch for epoch in curve if epoch.best] == [0]
    assert curve[-1].inner_loss > curve[0].inner_loss
    assert all(torch.equal(value, start[name]) for name, value in network.state_dict().items())


def test_no_epochs_is_the_probe_alone():
    network, cases = task()
    start = copy.deepcopy(network.state_dict())
    curve = fit(network, cases, cases, Recipe(2, 0, 1, 8, 1e-2, 0.5, 0.0), torch.ones(2), make_accelerator("cpu"), 0)
    assert len(curve) == 1 and all(torch.equal(value, start[name]) for name, value in network.state_dict().items())


def test_training_stops_when_patience_ends():
    network, cases = task()
    wrong = Cases(cases.maps, cases.pooled, 1 - cases.labels)
    recipe = Recipe(2, epochs=50, patience=2, batch_size=8, learning_rate=1e-2, rate_decay=0.5, weight_decay=0.0)
    curve = fit(network, wrong, cases, recipe, torch.ones(2), make_accelerator("cpu"), 0)
    kept = [epoch.epoch for epoch in curve if epoch.best][-1]
    assert curve[-1].epoch == kept + 2


def test_the_head_learns_fastest_and_each_stage_below_it_slower():
    network, _ = task()
    rates = [group["lr"] for group in parameter_groups(network, RECIPE)]
    assert rates == pytest.approx([1e-2, 5e-3, 2.5e-3])


def test_a_rare_class_weighs_as_much_as_a_common_one():
    labels = torch.tensor([0] * 30 + [1] * 10)
    weights = class_weights(labels, 2, balanced=True)
    assert 30 * weights[0] == pytest.approx(float(10 * weights[1]))
    assert class_weights(labels, 2, balanced=False).tolist() == [1, 1]


def test_a_loss_that_is_not_finite_stops_the_training_with_the_parameter():
    network, cases = task()
    spoiled = Cases(torch.full_like(cases.maps, float("inf")), cases.pooled, cases.labels)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fit(network, spoiled, cases, RECIPE, torch.ones(2), make_accelerator("cpu"), 0)
