import copy
import dataclasses

import pytest
import torch
from torch import nn

from pipeline.learning.training.accelerator import make_accelerator
from pipeline.stages.adapt.methods.byol import Byol, distance
from pipeline.stages.adapt.pretraining.continued import continue_pretraining
from tests.stages.adapt.methods.textures import SETTINGS, SIZE, same_bits, tiny, views


def test_the_distance_is_that_of_unit_vectors_squared():
    guess, truth = torch.randn(7, 5), torch.randn(7, 5)
    unit = nn.functional.normalize
    torch.testing.assert_close(distance(guess, truth), (unit(guess) - unit(truth)).square().sum(dim=1).mean())
    assert float(distance(guess, guess * 3)) == pytest.approx(0, abs=1e-6)
    assert float(distance(guess, -guess)) == pytest.approx(4)


def test_the_target_follows_by_one_minus_the_momentum():
    encoder = tiny()
    objective = Byol(encoder, momentum=0.9)
    before = copy.deepcopy(objective.slow_encoder)
    with torch.no_grad():
        for value in (*encoder.parameters(), *objective.head.parameters()):
            value.add_(1)
    objective.after_step(encoder)
    for old, new in zip(before.parameters(), objective.slow_encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.1)


def test_gradient_reaches_the_whole_online_side_and_not_the_target():
    encoder = tiny()
    objective = Byol(encoder)
    first, second = views(6, 0)
    objective(encoder, first, second, torch.Generator()).backward()
    assert all(
        value.grad is None for value in (*objective.slow_encoder.parameters(), *objective.slow_head.parameters())
    )
    for part in (encoder, objective.head, objective.predictor):
        assert all(value.grad is not None for value in part.parameters())


def test_the_loss_is_taken_both_ways():
    encoder, (first, second) = tiny(), views(6, 0)
    objective = Byol(encoder)
    torch.testing.assert_close(
        objective(encoder, first, second, torch.Generator()), objective(encoder, second, first, torch.Generator())
    )
    one, other = objective.head(encoder(first)), objective.head(encoder(second))  # the target starts as the online side
    expected = distance(objective.predictor(one), other) + distance(objective.predictor(other), one)
    torch.testing.assert_close(objective(encoder, first, second, torch.Generator()), expected)


def test_the_encoder_of_the_caller_is_not_the_target():
    encoder = tiny()
    objective = Byol(encoder)
    assert same_bits(encoder, objective.slow_encoder)
    assert not {id(value) for value in encoder.parameters()} & {id(value) for value in objective.parameters()}


def test_projections_of_random_images_keep_their_spread_in_training():
    encoder = tiny()
    objective = Byol(encoder)

    def noise(number):
        draws = torch.Generator().manual_seed(number)
        image = torch.randn(16, 3, SIZE, SIZE, generator=draws)
        return [(image, image + 0.3 * torch.randn(image.shape, generator=draws))]

    settings = dataclasses.replace(SETTINGS, epochs=25, patience=25, learning_rate=1e-3)
    continue_pretraining(
        encoder, objective, pairs=noise, held_out=noise(1000), settings=settings, accelerator=make_accelerator("cpu")
    )
    projected = nn.functional.normalize(objective.head(encoder(noise(2000)[0][0])), dim=1)
    spread = (
        projected.std(dim=0).mean() * projected.shape[1] ** 0.5
    )  # 1 where directions are spread evenly, 0 where all are one
    assert float(spread.detach()) > 0.3
