"""Pretraining goes on from its own checkpoint, with the same bits."""

import dataclasses
import json

import pytest
import torch

from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.stages.adapt.methods.byol import Byol
from pipeline.stages.adapt.methods.simclr import SimClr
from pipeline.stages.adapt.methods.vicreg import VicReg
from tests.stages.adapt.methods.textures import (
    HELD_OUT,
    SETTINGS,
    pairs,
    run,
    same_bits,
    tiny,
)
from tests.stages.adapt.pretraining.objectives import OBJECTIVES, PARTS


def same_state(one, other):
    """Compare two checkpoints, whose tensors lie in dictionaries, to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_state(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_state, one, other))
    return one == other


def at(file, key="key"):
    return Checkpoint(file, key, every=0)


def opened(file):
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_same_seed_gives_the_same_bits_for_any_global_generator_state(name, tmp_path):
    start = PARTS[name]()
    one, curve = run(OBJECTIVES[name], encoder=start, checkpoint=at(tmp_path / "one.pt"))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    two, same = run(OBJECTIVES[name], encoder=start, checkpoint=at(tmp_path / "two.pt"))
    assert curve == same and same_bits(one, two)
    assert same_state(opened(tmp_path / "one.pt"), opened(tmp_path / "two.pt"))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("killed_in", [1, 4])
def test_a_killed_run_that_is_started_again_ends_with_the_same_bits(name, killed_in, tmp_path):
    start, file = PARTS[name](), tmp_path / "scratch" / "state.pt"
    whole, curve = run(OBJECTIVES[name], encoder=start, checkpoint=at(tmp_path / "whole" / "state.pt"))
    made = []

    def dies(number):
        made.append(number)
        for pair in pairs(number):
            yield pair
            if number == killed_in:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(OBJECTIVES[name], encoder=start, passes=dies, checkpoint=at(file))
    assert {one.name for one in file.parent.iterdir()} == {"state.pt", "progress.json"}
    assert json.loads((file.parent / "progress.json").read_text()) == {
        "training": "state",
        "epoch": max(killed_in - SETTINGS.head_epochs, 0),
    }
    made.clear()
    told = []
    again, same = run(
        OBJECTIVES[name],
        encoder=start,
        passes=lambda n: made.append(n) or pairs(n),
        checkpoint=at(file),
        tell=told.append,
    )
    assert made[0] == killed_in
    assert (
        same == curve and same_bits(again, whole) and same_state(opened(file), opened(tmp_path / "whole" / "state.pt"))
    )
    assert told == curve[-len(told) :]


def test_a_finished_run_that_is_started_again_makes_no_pass(tmp_path):
    start, file = tiny(), tmp_path / "state.pt"
    whole, curve = run(VicReg, encoder=start, checkpoint=at(file))
    again, same = run(VicReg, encoder=start, checkpoint=at(file), passes=lambda number: pytest.fail("a pass was made"))
    assert same == curve and same_bits(again, whole)


@pytest.mark.parametrize("other", ["settings", "encoder", "objective", "images", "key"])
def test_the_checkpoint_of_another_run_is_not_gone_on_from(other, tmp_path):
    file, start = tmp_path / "state.pt", tiny()
    run(SimClr, encoder=start, checkpoint=at(file))
    made = []
    shifted = [(first + 1, second) for first, second in HELD_OUT]
    if other == "encoder":
        with torch.no_grad():
            next(start.parameters()).mul_(1.01)
    run(
        (lambda encoder: SimClr(encoder, temperature=0.3)) if other == "objective" else SimClr,
        dataclasses.replace(SETTINGS, learning_rate=1e-4) if other == "settings" else SETTINGS,
        start,
        shifted if other == "images" else HELD_OUT,
        lambda number: made.append(number) or pairs(number),
        checkpoint=at(file, "other" if other == "key" else "key"),
    )
    assert made[0] == 0


def test_the_checkpoint_opens_without_running_code(tmp_path):
    run(Byol, checkpoint=at(tmp_path / "state.pt"))
    state = opened(tmp_path / "state.pt")
    assert set(state) == {"still", "moving", "best", "curve", "passes", "key"}
    assert set(state["moving"]) == {"encoder", "objective", "optimizer"}
