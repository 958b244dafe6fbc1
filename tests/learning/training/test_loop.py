import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.cases import WholeCases, drawn_instances
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Recipe, parameter_groups
from tests.conftest import PLAIN
from tests.learning.training.trainings import RECIPE, Watching, deep_task, task, trained, unfrozen


def test_training_lowers_the_validation_loss_and_keeps_the_best_epoch():
    _, curve = trained()
    best = min(curve, key=lambda epoch: epoch.validation_loss)
    assert best.validation_loss < curve[0].validation_loss - 0.05
    assert [epoch for epoch in curve if epoch.best][-1] == best


def test_an_inflated_encoder_trains_from_stored_volumes():
    network, cases = deep_task()
    assert cases.maps.ndim == 7 and cases.maps.shape[2] == 1 and cases.maps.shape[4] == 5  # every slice is kept
    kernels = [value.clone() for value in network.encoder.stages[-1].parameters()]
    recipe = dataclasses.replace(RECIPE, epochs=20, patience=20)
    curve = fit(network, cases, cases, recipe, accelerator=make_accelerator("cpu"), seed=0)
    assert min(epoch.validation_loss for epoch in curve) < curve[0].validation_loss / 2
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


def test_an_untrained_network_learns_batch_statistics_only_in_training():
    before, _ = task()
    after, curve = trained(dataclasses.replace(RECIPE, batch_statistics=True))
    boundary = len(before.encoder.stages) - 2
    moved = {}
    for name, value in before.encoder.state_dict().items():
        if "running" in name:
            moved.setdefault(int(name.split(".")[1]) >= boundary, []).append(
                not torch.equal(value, after.encoder.state_dict()[name])
            )
    assert all(moved[True]) and not any(moved[False])
    assert min(epoch.validation_loss for epoch in curve) < curve[0].validation_loss
    assert not any(module.training for module in after.modules())


def test_learned_statistics_are_those_of_the_epoch_that_is_kept():
    network, cases = task()
    recipe = dataclasses.replace(RECIPE, batch_statistics=True)
    fit(network, cases, cases, recipe, accelerator=make_accelerator("cpu"), seed=0)  # a start that is right already
    start = copy.deepcopy(network.state_dict())
    wrong = dataclasses.replace(cases, targets=1 - cases.targets)
    curve = fit(network, wrong, cases, recipe, accelerator=make_accelerator("cpu"), seed=0)
    assert [epoch.epoch for epoch in curve if epoch.best] == [0]
    assert all(torch.equal(value, start[name]) for name, value in network.state_dict().items() if "tracked" not in name)


def test_a_last_batch_of_one_case_has_no_statistics_of_its_own():
    network, cases = task()
    recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=len(cases.targets) - 1, batch_statistics=True)
    assert len(fit(network, cases, cases, recipe, accelerator=make_accelerator("cpu"), seed=0)) == 2


def test_where_no_epoch_beats_the_probe_the_probe_stays():
    network, cases = task()
    fit(network, cases, cases, RECIPE, accelerator=make_accelerator("cpu"), seed=0)  # a start that is right already
    start = copy.deepcopy(network.state_dict())
    wrong = dataclasses.replace(
        cases, targets=1 - cases.targets
    )  # what is learned on these is wrong for the validation cases
    curve = fit(network, wrong, cases, RECIPE, accelerator=make_accelerator("cpu"), seed=0)
    assert [epoch.epoch for epoch in curve if epoch.best] == [0]
    assert curve[-1].validation_loss > curve[0].validation_loss
    assert all(torch.equal(value, start[name]) for name, value in network.state_dict().items())


def test_no_epochs_is_the_probe_alone():
    network, cases = task()
    start = copy.deepcopy(network.state_dict())
    curve = fit(
        network,
        cases,
        cases,
        dataclasses.replace(RECIPE, epochs=0, patience=1),
        accelerator=make_accelerator("cpu"),
        seed=0,
    )
    assert len(curve) == 1 and all(torch.equal(value, start[name]) for name, value in network.state_dict().items())


def test_training_stops_when_patience_ends():
    network, cases = task()
    wrong = dataclasses.replace(cases, targets=1 - cases.targets)
    recipe = Recipe(
        2, epochs=50, patience=2, batch_size=8, learning_rate=1e-2, rate_decay=0.5, weight_decay=0.0, **PLAIN
    )
    curve = fit(network, wrong, cases, recipe, accelerator=make_accelerator("cpu"), seed=0)
    kept = [epoch.epoch for epoch in curve if epoch.best][-1]
    assert curve[-1].epoch == kept + 2


def test_the_head_learns_fastest_and_each_stage_below_it_slower():
    network, _ = task()
    rates = [group["lr"] for group in parameter_groups(network, RECIPE)]
    assert rates == pytest.approx([1e-2, 5e-3, 2.5e-3])


def test_a_loss_that_is_not_finite_stops_the_training_with_the_parameter():
    network, cases = task()
    corrupted = dataclasses.replace(cases, maps=torch.full_like(cases.maps, float("inf")))
    with pytest.raises(FloatingPointError, match="learning_rate"):
        fit(network, corrupted, cases, RECIPE, accelerator=make_accelerator("cpu"), seed=0)


def test_the_draws_of_an_epoch_depend_on_its_number_and_the_row_alone():
    """With all else equal a training of two epochs is the beginning of one of four, but for the schedule's length."""
    network, cases = task()
    seen = {}
    for epochs in (2, 4):
        drawn = []

        watched = Watching(cases, drawn)
        fit(
            copy.deepcopy(network),
            watched,
            cases,
            dataclasses.replace(RECIPE, epochs=epochs),
            accelerator=make_accelerator("cpu"),
            seed=0,
        )
        seen[epochs] = drawn
    steps = len(seen[2])
    assert seen[2] == seen[4][:steps] and seen[4][: steps // 2] != seen[4][steps // 2 : steps]


def test_stages_are_unfrozen_one_after_the_other():
    recipe = dataclasses.replace(RECIPE, gradual=True, epochs=8, trainable_stages=3)
    assert [recipe.wait(depth) for depth in (0, 1, 2, 3)] == [0, 0, 2, 4]
    shares = recipe.share_of(2, steps=10)
    assert shares(19) == 0 and shares(20) == pytest.approx(0.5 * (1 + math.cos(math.pi * 20 / 80)))
    network, cases = task()
    start = copy.deepcopy(network.state_dict())
    short = dataclasses.replace(RECIPE, gradual=True, epochs=4, trainable_stages=2, patience=1)
    told = []

    def tell(epoch):
        told.append({name: value.clone() for name, value in network.named_parameters()})

    fit(network, cases, cases, short, accelerator=make_accelerator("cpu"), seed=0, tell=tell)
    last, above = (
        f"encoder.stages.{len(network.encoder.stages) - 1}.",
        f"encoder.stages.{len(network.encoder.stages) - 2}.",
    )
    for epoch, (name_of, moved) in ((1, (last, True)), (1, (above, False)), (3, (above, True))):
        changed = any(
            not torch.equal(told[epoch][name], start[name]) for name in told[epoch] if name.startswith(name_of)
        )
        assert changed == moved, (epoch, name_of)


def test_balanced_sampling_draws_all_classes_equally_often():
    network, cases = task(n=40)
    rare = dataclasses.replace(cases, targets=torch.eye(2)[(torch.arange(40) < 4).long()])
    drawn = []
    recipe = dataclasses.replace(RECIPE, class_weights="sampling", epochs=10, patience=10)
    fit(network, Watching(rare, drawn), rare, recipe, accelerator=make_accelerator("cpu"), seed=0)
    rows = torch.cat([torch.tensor(rows) for rows, _ in drawn])
    assert abs(float((rows < 4).float().mean()) - 0.5) < 0.1


def test_moving_average_is_evaluated_and_kept_with_average_ema():
    plain, _ = trained()
    averaged, curve = trained(dataclasses.replace(RECIPE, average="ema"))
    assert any(
        not torch.equal(a, b) for a, b in zip(plain.state_dict().values(), averaged.state_dict().values(), strict=True)
    )
    _, cases = task()
    kept = [epoch for epoch in curve if epoch.best][-1]
    logits = averaged(unfrozen()).detach()
    assert float(torch.nn.functional.cross_entropy(logits, cases.targets.argmax(dim=1))) == pytest.approx(
        kept.validation_loss, abs=2e-3
    )


def test_a_soup_is_as_good_on_validation_cases_as_its_best_epoch():
    network, curve = trained(dataclasses.replace(RECIPE, average="soup"))
    labels = torch.arange(24) % 2
    loss = float(torch.nn.functional.cross_entropy(network(unfrozen()).detach(), labels))
    assert loss <= min(epoch.validation_loss for epoch in curve) + 2e-3


def test_training_from_the_first_stage_takes_new_views_of_images():
    network, _ = task()
    channels, labels = unfrozen().byte(), torch.arange(24) % 2
    seeds = []

    def augment(some, drawn):
        seeds.extend(drawn.tolist())
        return some.float().flip(-1)

    def prepare(some):
        found = network.activations(some, last=0)
        return found.maps, found.pooled

    whole = WholeCases(channels.__getitem__, prepare, augment, torch.eye(2)[labels])
    stem = next(network.encoder.stages[0].parameters()).clone()
    recipe = dataclasses.replace(RECIPE, trainable_stages=len(network.encoder.stages), epochs=3)
    curve = fit(network, whole, whole, recipe, accelerator=make_accelerator("cpu"), seed=0)
    assert not torch.equal(stem, next(network.encoder.stages[0].parameters()))
    assert min(epoch.validation_loss for epoch in curve) < curve[0].validation_loss
    assert len(set(seeds)) > 60  # every case of every epoch has a view of its own


def test_without_validation_cases_every_epoch_is_run_and_the_last_kept():
    network, cases = task()
    recipe = dataclasses.replace(RECIPE, epochs=7, patience=1, average="ema")
    curve = fit(network, cases, None, recipe, accelerator=make_accelerator("cpu"), seed=0)
    assert [epoch.epoch for epoch in curve] == list(range(8)) and all(epoch.best for epoch in curve)
    assert math.isnan(curve[-1].validation_loss) and curve[-1].train_loss < curve[1].train_loss


def test_rates_rise_during_the_warm_up_and_then_follow_the_cosine():
    share = dataclasses.replace(RECIPE, epochs=10, warm_up=0.2).share_of(0, 10)
    rates = [share(step) for step in range(101)]
    assert rates[:20] == sorted(rates[:20]) and rates[20] == 1.0 and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[0] > 0 and rates[100] == pytest.approx(0, abs=1e-12)


def test_sides_divide_the_epochs_into_equal_parts():
    recipe = dataclasses.replace(RECIPE, epochs=5, sides=(32, 48))
    assert [recipe.side(epoch) for epoch in range(1, 6)] == [32, 32, 32, 48, 48]
    assert dataclasses.replace(RECIPE, sides=()).side(1) is None


def test_images_are_shrunk_before_they_are_augmented():
    seen = []

    def augment(channels, seeds):
        seen.append(tuple(channels.shape))
        return channels.float()

    images = torch.randint(0, 256, (4, 6, 48, 48), dtype=torch.uint8)
    cases = WholeCases(images.__getitem__, lambda views: (views, views), augment, torch.eye(2)[[0, 1, 0, 1]])
    rows, seeds = torch.arange(3), np.arange(3, dtype=np.uint32)
    assert cases.drawn(rows, seeds)[0].shape == (3, 6, 48, 48)
    small = dataclasses.replace(cases, side=32, instances=1, channels=3)
    assert small.drawn(rows, seeds)[0].shape == (3, 3, 32, 32) and seen[-1] == (3, 6, 32, 32)


def test_drawn_instances_are_whole_in_order_and_those_of_the_seed():
    channels = torch.arange(12.0).view(1, 12, 1, 1).expand(50, 12, 1, 1)
    found = drawn_instances(channels, np.arange(50, dtype=np.uint32), 2, 3).view(50, 2, 3)
    assert torch.equal(found, drawn_instances(channels, np.arange(50, dtype=np.uint32), 2, 3).view(50, 2, 3))
    assert torch.equal(found.diff(dim=2), torch.ones(50, 2, 2)) and (found[:, 0, 0] < found[:, 1, 0]).all()
    assert set(found[:, 0, 0].tolist()) == {0, 3} and set(found[:, 1, 0].tolist()) == {6, 9}  # one from each half
