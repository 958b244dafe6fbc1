import copy
import dataclasses
import inspect
import math
from itertools import pairwise

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from pipeline.learning.models.encoder import Begun
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.stages.adapt.methods.byol import Byol
from pipeline.stages.adapt.methods.masked import Masked
from pipeline.stages.adapt.methods.simclr import SimClr
from pipeline.stages.adapt.methods.vicreg import VicReg
from pipeline.stages.adapt.pretraining.continued import continue_pretraining, kept, rate
from pipeline.stages.adapt.pretraining.learner import effective_rank
from pipeline.stages.adapt.pretraining.objective import Objective, mlp
from tests.stages.adapt.methods.textures import (
    HELD_OUT,
    SETTINGS,
    maps_of_patches,
    pairs,
    run,
    same_bits,
    tiny,
    views,
)
from tests.stages.adapt.pretraining.objectives import OBJECTIVES, PARTS


class Collapse(Objective):
    """Rewards an encoder that says the same of every image."""

    def __init__(self):
        super().__init__()
        self.head = nn.Parameter(torch.zeros(1))

    def forward(self, encoder, first, second, draws):
        features = encoder(first)
        return (features - features.mean(dim=0).detach()).square().mean() * 100 + self.head.square().sum()


class Shrinks(Objective):
    """Falls with every step of the encoder, and of nothing else."""

    def __init__(self):
        super().__init__()
        self.head = nn.Parameter(torch.zeros(1))

    def forward(self, encoder, first, second, draws):
        return encoder(first).square().mean() + 0 * self.head.sum()


class Misleads(Shrinks):
    """Teaches the opposite of what it evaluates held-out pairs by."""

    def score(self, encoder, first, second, draws):
        return -self(encoder, first, second, draws)


class HeadAlone(Objective):
    """Falls whatever the encoder does."""

    def __init__(self):
        super().__init__()
        self.head = nn.Parameter(torch.zeros(1))

    def forward(self, encoder, first, second, draws):
        return (self.head - 1).square().sum() + 0 * encoder(first).sum()


@torch.no_grad()
def right(encoder, few=16):
    """Probe features for the texture, with labels that no method sees: the share told right after a few examples."""
    (train, _), (test, _), labels = views(12 * few, 501), views(300, 502), torch.arange(300) % 2
    train, test = encoder(train), encoder(test)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    scores = [probe.fit(some, labels[:few]).score(test, labels) for some in train.split(few)]
    return sum(scores) / len(scores)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_on_textures_beats_the_head_alone_and_helps_a_probe(name):
    start = PARTS[name]()
    settings = dataclasses.replace(SETTINGS, epochs=15, head_epochs=3, patience=15)
    encoder, curve = run(OBJECTIVES[name], settings, start, passes=lambda number: pairs(number, 96, 24))
    best = kept(curve)
    assert best.epoch > 0
    assert best.held_out_loss < curve[0].held_out_loss
    assert best.held_out_loss < min(epoch.control_loss for epoch in curve)
    assert right(encoder) > right(start) + 0.03
    assert [epoch.epoch for epoch in curve] == list(range(len(curve)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_early_stages_and_normalisation_statistics_do_not_change(name):
    start, settings = PARTS[name](), dataclasses.replace(SETTINGS, trainable_stages=2)
    encoder, moved = copy.deepcopy(start), set()
    boundary = len(start.stages) - settings.trainable_stages

    def look(_):
        assert all(value.grad is None for stage in encoder.stages[:boundary] for value in stage.parameters())
        assert not any(module.training for module in encoder.modules())
        for key, value in start.state_dict().items():
            stage, same = int(key.split(".")[1]), torch.equal(value, encoder.state_dict()[key])
            assert same or not (stage < boundary or "running" in key or "tracked" in key), key
            moved.update([] if same else [stage])

    continue_pretraining(
        encoder,
        OBJECTIVES[name](encoder),
        pairs=pairs,
        held_out=HELD_OUT,
        settings=settings,
        accelerator=make_accelerator("cpu"),
        tell=look,
    )
    assert moved == set(range(boundary, len(start.stages)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_strength_zero_leaves_every_byte_and_runs_nothing(name):
    start = PARTS[name]()
    settings = dataclasses.replace(SETTINGS, strength=0.0)
    encoder, curve = run(OBJECTIVES[name], settings, start, passes=lambda number: pytest.fail("a pass was made"))
    assert curve == [] and same_bits(encoder, start)


def test_half_strength_is_half_the_way_to_the_best_epoch():
    start = tiny()
    found = []
    full, curve = run(lambda encoder: Shrinks(), encoder=start, tell=lambda _: found.append(1))
    half, _ = run(lambda encoder: Shrinks(), dataclasses.replace(SETTINGS, strength=0.5), start)
    assert kept(curve) == curve[-1] and len(found) == len(curve)
    for name, value in start.state_dict().items():
        torch.testing.assert_close(
            half.state_dict()[name], (value + full.state_dict()[name]) / 2 if value.is_floating_point() else value
        )
    assert not same_bits(half, full)


def test_another_seed_gives_other_masks_and_so_another_curve():
    _, one = run(OBJECTIVES["masked"], encoder=maps_of_patches())
    _, two = run(OBJECTIVES["masked"], dataclasses.replace(SETTINGS, seed=1), maps_of_patches())
    assert one[-1].train_loss != two[-1].train_loss


def test_method_that_does_not_help_stops_and_leaves_the_encoder_unchanged():
    start = tiny()
    encoder, curve = run(lambda encoder: Misleads(), dataclasses.replace(SETTINGS, epochs=9, patience=2), start)
    assert curve[-1].held_out_loss > curve[0].held_out_loss
    assert [epoch.epoch for epoch in curve] == [0, 1, 2]
    assert kept(curve) == curve[0] and same_bits(encoder, start)


def test_a_head_that_gets_better_is_no_reason_to_keep_an_encoder():
    start = tiny()
    encoder, curve = run(lambda encoder: HeadAlone(), encoder=start)
    assert curve[-1].held_out_loss < curve[0].held_out_loss
    assert all(epoch.control_loss == epoch.held_out_loss for epoch in curve)
    assert kept(curve) == curve[0] and same_bits(encoder, start)


def test_control_is_the_unchanged_encoder_with_an_equally_trained_head():
    start = tiny()
    _, curve = run(SimClr, dataclasses.replace(SETTINGS, learning_rate=1e-3), start)
    still, objective = copy.deepcopy(start).requires_grad_(False), SimClr(start)
    optimizer = torch.optim.AdamW(objective.parameters(), weight_decay=SETTINGS.weight_decay)
    for number in range(SETTINGS.head_epochs + SETTINGS.epochs):
        optimizer.param_groups[0]["lr"] = 1e-2 * rate(number + 1 - SETTINGS.head_epochs, SETTINGS.epochs)
        for first, second in pairs(number):
            optimizer.zero_grad()
            objective(still, first, second, torch.Generator()).backward()
            optimizer.step()
    with torch.no_grad():
        losses = [float(objective(still, *pair, torch.Generator())) for pair in HELD_OUT]
    assert curve[-1].control_loss == pytest.approx(sum(losses) / len(losses), rel=1e-3)
    assert curve[0].control_loss == curve[0].held_out_loss


def test_features_that_collapse_are_never_kept_however_low_the_objective():
    start = tiny()
    settings = dataclasses.replace(SETTINGS, epochs=12, patience=12, learning_rate=1e-2)
    encoder, curve = run(lambda encoder: Collapse(), settings, start)
    lowest = min(curve, key=lambda epoch: epoch.held_out_loss)
    assert lowest.rank < curve[0].rank / 2
    assert kept(curve).rank >= curve[0].rank / 2
    features = encoder(torch.cat([first for first, _ in HELD_OUT]))
    assert effective_rank(features) == pytest.approx(kept(curve).rank, rel=0.01)


def test_no_epochs_train_a_head_and_leave_the_encoder():
    start = tiny()
    encoder, curve = run(SimClr, dataclasses.replace(SETTINGS, epochs=0), start)
    assert len(curve) == 1 and curve[0].learning_rate == 0 and kept(curve) == curve[0] and same_bits(encoder, start)


def test_head_epochs_train_the_head_alone_before_epoch_0_is_evaluated():
    start = tiny()
    losses = []
    for passes in (1, 8):
        settings = dataclasses.replace(SETTINGS, epochs=0, head_epochs=passes)
        encoder, curve = run(lambda encoder: HeadAlone(), settings, start)
        assert same_bits(encoder, start)
        losses.append(curve[0].held_out_loss)
    assert losses[1] < losses[0] * 0.8


def test_a_loss_that_is_not_finite_stops_the_training_with_the_parameter():
    corrupted = [(first * math.nan, second) for first, second in pairs(0)]
    with pytest.raises(FloatingPointError, match="learning_rate"):
        run(SimClr, passes=lambda number: corrupted)


@pytest.mark.parametrize("objective", [SimClr, VicReg, Byol, Masked])
def test_no_method_is_ever_handed_a_label(objective):
    assert list(inspect.signature(objective.forward).parameters) == ["self", "encoder", "first", "second", "draws"]
    handed = set(inspect.signature(continue_pretraining).parameters)
    assert handed == {
        "encoder", "objective", "pairs", "held_out", "settings", "accelerator", "checkpoint", "tell"
    }  # fmt: skip


def test_images_come_channels_last_and_on_the_device():
    seen = []

    class Looks(SimClr):
        needs_images = True

        def forward(self, encoder, first, second, draws):
            seen.extend([first, second])
            return super().forward(encoder, first, second, draws)

    run(Looks, dataclasses.replace(SETTINGS, epochs=0, head_epochs=1))
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in seen)


def test_the_rate_warms_up_and_falls_like_half_a_cosine():
    rates = [rate(epoch, 20) for epoch in range(-2, 21)]
    assert rates[:3] == [1, 1, 1]
    assert rates[3:5] == [0.5, 1]
    assert all(before > after for before, after in pairwise(rates[4:]))
    middle = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([nn.Parameter(torch.ones(1))], 1.0), 19)
    for expected in rates[4:]:
        assert middle.get_last_lr()[0] == pytest.approx(expected)
        middle.optimizer.step()
        middle.step()


def test_effective_rank_counts_directions_and_is_one_for_constants():
    assert effective_rank(torch.eye(5).repeat(3, 1)) == pytest.approx(5)
    assert effective_rank(torch.ones(7, 4)) == pytest.approx(1)
    assert effective_rank(torch.zeros(7, 4)) == pytest.approx(1)
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == pytest.approx(4 / 3**0.75)


def test_head_gives_the_same_output_in_training_and_in_scoring():
    head, batch = mlp((6, 5, 4), seed=1), torch.randn(8, 6)
    torch.testing.assert_close(head.train()(batch), head.eval()(batch), rtol=0, atol=0)
    assert not list(head.buffers())
    other = mlp((6, 5, 4), seed=1)
    assert all(torch.equal(one, two) for one, two in zip(head.parameters(), other.parameters(), strict=True))


def test_the_accelerator_of_the_other_loop_serves():
    start = copy.deepcopy(tiny())
    assert continue_pretraining(
        start,
        SimClr(start),
        pairs=pairs,
        held_out=HELD_OUT,
        settings=dataclasses.replace(SETTINGS, epochs=0),
        accelerator=make_accelerator("cpu"),
    )


@pytest.mark.parametrize("name", ["simclr", "vicreg", "byol"])
def test_frozen_stages_are_run_once_for_both_arms_and_nothing_else_changes(name, monkeypatch):
    settings = dataclasses.replace(SETTINGS, trainable_stages=2)
    begun = []

    class Counts(OBJECTIVES[name]):
        def forward(self, encoder, first, second, draws):
            begun.append(isinstance(first, Begun))
            return super().forward(encoder, first, second, draws)

    shared = run(Counts, settings)
    assert all(begun)
    monkeypatch.setattr(Counts, "needs_images", True)
    alone = run(Counts, settings)
    assert not begun[-1] and same_bits(shared[0], alone[0]) and shared[1] == alone[1]
