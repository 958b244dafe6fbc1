"""Every family of timm's registry, as an encoder and inflated to three dimensions."""

import copy

import pytest
import torch

from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.encoder import inference
from tests.learning.models.networks import FLAT, REGISTRY, lively


@pytest.fixture(scope="module", params=REGISTRY.items(), ids=REGISTRY)
def trio(request):
    """A network of timm, the same as an encoder, and two images.

    In double precision: a random network amplifies rounding as no trained one does.
    """
    torch.manual_seed(0)
    name, size = request.param
    model = lively(name, size).double()
    encoder = build_encoder(name, 3, model.state_dict(), pooled_stages=3).eval().double()
    return model, encoder, torch.randn(2, 3, size, size, dtype=torch.float64)


@pytest.fixture(scope="module")
def inflated(trio):
    """The same network inflated, in single precision, and two volumes of four slices."""
    model, _, images = trio
    name = model.pretrained_cfg["architecture"]
    if name in FLAT:
        pytest.skip("a transformer is not inflated; another test holds that it is refused")
    volumes = torch.randn(2, 3, 4, *images.shape[2:], generator=torch.Generator().manual_seed(1))
    return name, build_encoder(name, 3, model.state_dict(), pooled_stages=3, filter_depth=3).eval(), volumes


def as_timm_keeps(maps, model):
    return maps.squeeze(3).transpose(1, 2) if hasattr(model, "pos_embed") else maps


@torch.no_grad()
def test_every_network_of_the_registry_composes_to_timms_own_features(trio):
    model, encoder, images = trio
    maps, _ = encoder.run(images, images.new_zeros(2, 0))
    expected = model.forward_features(images)
    assert expected.std(dim=0).mean() > 1e-3  # the two images are told apart
    torch.testing.assert_close(as_timm_keeps(maps, model), expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_every_network_can_be_split_anywhere_without_changing_its_features(trio):
    _, encoder, images = trio
    expected = encoder(images)
    assert expected.shape == (2, encoder.width) and expected.isfinite().all()
    assert len(encoder.stages) >= 5
    for boundary in range(len(encoder.stages) + 1):
        maps, pooled = encoder.run(images, images.new_zeros(2, 0), last=boundary)
        stored = maps.clone(memory_format=torch.contiguous_format)
        torch.testing.assert_close(encoder.run(stored, pooled, first=boundary)[1], expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_every_network_says_the_same_twice_and_of_each_image_by_itself(trio):
    _, encoder, images = trio
    assert torch.equal(encoder(images), encoder(images))
    torch.testing.assert_close(encoder(images)[:1], encoder(images[:1]), rtol=1e-6, atol=1e-6)


def test_the_gradient_reaches_the_first_stage_of_every_network(trio):
    _, encoder, images = trio
    encoder.zero_grad()
    encoder(images).square().sum().backward()
    gradients = {name: value.grad for name, value in encoder.stages[0].named_parameters()}
    assert gradients and all(gradient is not None for gradient in gradients.values())
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert all(gradient.abs().max() > 0 for name, gradient in gradients.items() if name.endswith("weight"))


@torch.no_grad()
@pytest.mark.parametrize("channels", [1, 2, 5, 9])
def test_every_network_responds_alike_to_grey_in_any_number_of_channels(trio, channels):
    model, encoder, images = trio
    grey = images[:, :1]
    other = build_encoder(model.pretrained_cfg["architecture"], channels, model.state_dict()).eval().double()
    first = [network.stages[0](grey.repeat(1, n, 1, 1)) for network, n in ((encoder, 3), (other, channels))]
    torch.testing.assert_close(first[1], first[0], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_every_inflated_network_gives_equal_slices_the_features_of_one(trio, inflated):
    _, flat, images = trio
    _, deep, _ = inflated
    found = copy.deepcopy(deep).double()(images.unsqueeze(2).repeat(1, 1, 3, 1, 1))
    torch.testing.assert_close(found, flat(images), rtol=1e-4, atol=1e-4)  # its weights went through single precision
    assert deep.width == flat.width and deep.first_pooled == flat.first_pooled


@torch.no_grad()
def test_every_inflated_network_can_be_split_anywhere_to_the_bit(inflated):
    _, deep, volumes = inflated
    expected = deep(volumes)
    assert expected.shape == (2, deep.width) and expected.isfinite().all()
    for boundary in range(len(deep.stages) + 1):
        maps, pooled = deep.run(volumes, volumes.new_zeros(2, 0), last=boundary)
        stored = maps.clone(memory_format=torch.contiguous_format)
        assert torch.equal(deep.run(stored, pooled, first=boundary)[1], expected), boundary


@torch.no_grad()
def test_every_inflated_network_is_the_same_after_storing_its_weights(inflated):
    name, deep, volumes = inflated
    fresh = build_encoder(name, 3, pooled_stages=3, filter_depth=3).eval()
    assert not torch.equal(fresh(volumes), deep(volumes))
    fresh.load_state_dict(deep.state_dict())
    ours = {f"encoder.{key}": value for key, value in deep.state_dict().items()}
    started = build_encoder(name, 3, ours, pooled_stages=3, filter_depth=3).eval()
    assert torch.equal(fresh(volumes), deep(volumes)) and torch.equal(started(volumes), deep(volumes))


@torch.no_grad()
def test_every_inflated_network_is_ready_to_score_with_its_channels_last(inflated):
    _, deep, volumes = inflated
    ready = inference(copy.deepcopy(deep))
    torch.testing.assert_close(ready(volumes), deep(volumes), rtol=1e-4, atol=1e-4)
    kernels = [value for value in ready.parameters() if value.ndim == 5]
    assert kernels and all(value.is_contiguous(memory_format=torch.channels_last_3d) for value in kernels)
    assert not any(value.requires_grad for value in ready.parameters())
