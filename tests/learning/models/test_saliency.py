"""A network that sees nothing but brightness, and a blob: the map has to lie on it."""

import numpy as np
import pytest
import torch

from pipeline.learning.models.saliency import saliency
from tests.conftest import classifier
from tests.learning.models.blob import blob_network

BLOB = (slice(8, 20), slice(28, 40))


def volume(slices=5, place=3):
    channels = torch.full((1, slices, 48, 48), 20, dtype=torch.uint8)
    channels[:, place, *BLOB] = 250
    return channels


@pytest.mark.parametrize(("method", "least"), [("gradcam", 0.7), ("occlusion", 0.5)])
@pytest.mark.parametrize("slices", [1, 5])
def test_the_mass_of_the_map_lies_on_the_blob_and_in_its_slice(method, least, slices):
    place = slices // 2
    found = saliency(blob_network(), volume(slices, place), asked=1, method=method)
    assert found.method == method and found.maps.shape == (slices, 48, 48)
    assert found.maps[place].sum() == pytest.approx(found.maps.sum(), rel=1e-5)
    assert found.maps[place][BLOB].sum() > least * found.maps.sum()  # 144 of 2304 pixels: 6 % by chance
    assert BLOB[0].start <= np.argwhere(found.maps[place] == 1).mean(axis=0)[0] < BLOB[0].stop
    assert found.maps.min() >= 0 and found.maps.max() == 1


def test_evidence_that_goes_around_the_deepest_stage_is_seen():
    """The deepest stage is dark where the blob is, so that its maps alone would point anywhere but there."""
    found = saliency(blob_network(deepest=1.0), volume(1, 0), asked=1)
    assert found.method == "gradcam" and found.maps[0][BLOB].sum() > 0.7 * found.maps.sum()


def test_where_nothing_speaks_for_a_class_the_map_is_zero_and_says_so():
    found = saliency(blob_network(), volume(), asked=0)
    assert found.method == "none" and not found.maps.any()
    assert found.attention.sum() == pytest.approx(1)


def test_tokens_have_no_place_so_parts_of_the_image_are_hidden_instead():
    network = classifier(encoder="vit_tiny_patch16_224").eval()
    channels = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        network.head.weight.copy_(torch.randn_like(network.head.weight))
    assert saliency(network, channels, asked=1).method in ("occlusion", "none")


def test_a_volume_that_is_seen_whole_has_a_map_of_every_slice():
    network = classifier(1, filter_depth=3).eval()
    channels = torch.randint(0, 255, (1, 6, 64, 64), dtype=torch.uint8)
    found = saliency(network, channels, asked=0)
    if found.method == "none":
        found = saliency(network, channels, asked=1)
    assert found.method == "gradcam" and found.maps.shape == (6, 64, 64)
    assert found.attention.shape == (6,) and found.attention.sum() == pytest.approx(1)
    assert found.attention == pytest.approx(found.maps.sum(axis=(1, 2)) / found.maps.sum(), abs=1e-5)


def test_looking_leaves_the_network_as_it_was():
    network, channels = blob_network(), volume()
    before = network(channels)
    for method in ("gradcam", "occlusion"):
        saliency(network, channels, asked=1, method=method)
    torch.testing.assert_close(network(channels), before)
    assert all(not module._forward_hooks and not module._backward_hooks for module in network.modules())
    assert all(value.grad is None for value in network.parameters())


@pytest.mark.parametrize("slices", [1, 5])
def test_hiding_parts_leaves_the_network_and_its_statistics_unchanged(slices):
    network = classifier(1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    saliency(network, volume(slices, 0), asked=1, method="occlusion")
    assert not any(module.training for module in network.modules())
    saliency(network, volume(slices, 0), asked=1, method="occlusion")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
