import dataclasses

import pytest
import torch
from torch import nn

from pipeline.learning.models.encoder import Encoder
from pipeline.learning.models.families import Cut
from pipeline.stages.adapt.methods.masked import Masked, layout_of, random_masks
from pipeline.stages.adapt.pretraining.continued import kept
from tests.stages.adapt.methods.textures import SETTINGS, SIZE, maps_of_patches, run, same_bits, tiny, views


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def hidden_pixels(images, patch, ratio, seed=0):
    grid = (images.shape[2] // patch, images.shape[3] // patch)
    mask = random_masks(len(images), grid, ratio, seeded(seed))
    return nn.functional.interpolate(mask.float(), scale_factor=patch).bool().expand_as(images)


@pytest.mark.parametrize("ratio", [0.1, 0.6, 0.9])
def test_every_image_has_equally_many_but_different_hidden_patches(ratio):
    masks = random_masks(50, (4, 8), ratio, seeded())
    assert set(masks.flatten(1).sum(dim=1).tolist()) == {round(ratio * 32)}
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) > 20
    often = masks.float().mean(dim=0)
    assert often.max() - often.min() < 0.5


def test_head_that_predicts_zero_costs_the_mean_size_of_hidden_pixels():
    encoder, (first, second) = maps_of_patches(), views(5, 0)
    images = torch.cat([first, second])
    loss = Masked(encoder, 3, SIZE)(encoder, first, second, seeded())
    expected = images[hidden_pixels(images, 8, 0.6)].abs().mean()
    torch.testing.assert_close(loss, expected)


def test_the_encoder_never_sees_what_is_hidden_and_only_that_is_asked_for():
    encoder, (first, second) = maps_of_patches(), views(5, 0)
    objective = Masked(encoder, 3, SIZE)
    nn.init.normal_(objective.head[0].weight)
    seen = []
    encoder.stages[0].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    hidden = hidden_pixels(torch.cat([first, second]), 8, 0.6)
    other = torch.where(hidden, torch.cat([first, second]) + 5, torch.cat([first, second]))
    loss = objective(encoder, first, second, seeded())
    moved = objective(encoder, *other.chunk(2), seeded())
    assert torch.equal(seen[0], seen[1]) and not torch.equal(loss, moved)
    assert (seen[0][hidden] == 0).all()  # the token starts at zero
    guess = objective.head(objective.layout.last_maps(encoder, seen[0]))
    torch.testing.assert_close(loss, (guess - torch.cat([first, second]))[hidden].abs().mean())


def test_the_token_and_the_head_learn_and_frozen_stages_do_not():
    encoder, (first, second) = maps_of_patches(), views(5, 0)
    encoder.stages[0].requires_grad_(False)
    objective = Masked(encoder, 3, SIZE)
    nn.init.normal_(objective.head[0].weight)
    objective(encoder, first, second, seeded()).backward()
    assert objective.token.grad.abs().sum() > 0 and objective.head[0].weight.grad.abs().sum() > 0
    assert all(value.grad is None for value in encoder.stages[0].parameters())
    assert all(value.grad is not None for value in encoder.stages[1].parameters())


def test_the_prediction_lies_where_the_map_lies():
    """A head that copies a patch's own embedding finds each pixel at its place."""
    embed = nn.Conv2d(1, 16, 4, stride=4, bias=False)
    embed.weight.data.copy_(torch.eye(16).view(16, 1, 4, 4))
    encoder = Encoder(Cut([embed]), 1, 1).eval()
    objective = Masked(encoder, 1, 8)
    objective.head[0].weight.data.copy_(torch.eye(16).view(16, 16, 1, 1))
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(objective.head(objective.layout.last_maps(encoder, image)), image)


@pytest.mark.parametrize(
    ("name", "size", "stride", "prefix"),
    [
        ("test_vit", 32, 16, 1),
        ("test_vit4", 48, 16, 1),
        ("vit_wee_patch16_reg1_gap_256", 64, 16, 1),
        ("deit_tiny_distilled_patch16_224", 16, 16, 2),
        ("test_efficientnet", 32, 32, None),
        ("test_resnet", 96, 32, None),
    ],
)
def test_maps_and_tokens_are_laid_over_the_image_whatever_the_family(name, size, stride, prefix):
    layout = layout_of(tiny(name), 3, size)
    assert (layout.stride, layout.prefix) == (stride, prefix)


@torch.no_grad()
def test_vision_transformer_patches_come_in_their_rows_and_columns():
    encoder = tiny("test_vit")
    encoder.stages = encoder.stages[:1]  # the embedding alone: a patch tells of itself
    layout, image = layout_of(encoder, 3, 64), torch.zeros(1, 3, 64, 64)
    dotted = image.clone()
    dotted[:, :, 16:32, 48:64] = 1
    changed = (layout.last_maps(encoder, dotted) != layout.last_maps(encoder, image)).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 3]]


def flat(n, seed):
    """Draw images of one colour each: what is hidden is what is seen."""
    colours = torch.randn(2, n, 3, 1, 1, generator=seeded(seed)).expand(2, n, 3, SIZE, SIZE)
    return colours[0], colours[1]


def test_a_vision_transformer_learns_to_fill_masks_from_what_it_sees():
    settings = dataclasses.replace(SETTINGS, learning_rate=3e-4, epochs=6, head_epochs=3)
    encoder, curve = run(
        lambda encoder: Masked(encoder, 3, SIZE),
        settings,
        tiny("test_vit"),
        [flat(32, 999)],
        lambda number: [flat(32, 9 * number + part) for part in range(3)],
    )
    assert kept(curve).epoch > 0 and kept(curve).held_out_loss < 0.4
    assert not same_bits(encoder, tiny("test_vit"))


def test_any_encoder_with_even_maps_will_do():
    encoder = tiny()
    loss = Masked(encoder, 3, 64)(encoder, torch.randn(2, 3, 64, 64), torch.randn(2, 3, 64, 64), seeded())
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("encoder", "size", "patch"),
    [
        (maps_of_patches(8), 32, 12),
        (maps_of_patches(8), 32, 24),
        (maps_of_patches(8), 36, None),
        (Encoder(Cut([nn.Conv2d(3, 3, 4, stride=4), nn.Flatten(2)]), 3, 1), 32, None),
    ],
)
def test_patches_and_maps_that_do_not_fit_are_refused(encoder, size, patch):
    with pytest.raises(ValueError, match="patch|maps"):
        Masked(encoder, 3, size, patch)
