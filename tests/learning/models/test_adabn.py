import copy

import torch
from torch import nn

from pipeline.learning.models.adabn import adabn, adabn_per_site
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.inflation import inflate
from tests.conftest import TINY_ENCODER


def test_the_first_layer_takes_the_mean_and_variance_of_the_new_images():
    network = nn.Sequential(nn.BatchNorm2d(2)).eval()
    images = torch.randn(64, 2, 4, 4) * torch.tensor([3.0, 0.5]).view(1, 2, 1, 1) + torch.tensor([5.0, -1.0]).view(
        1, 2, 1, 1
    )
    adabn(network, images.split(16))
    torch.testing.assert_close(network[0].running_mean, images.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network[0].running_var, images.var(dim=(0, 2, 3)), rtol=0.05, atol=1e-3)


def test_strength_zero_leaves_every_number_untouched():
    encoder = build_encoder(TINY_ENCODER, 3).eval()
    before = copy.deepcopy(encoder.state_dict())
    adabn(encoder, [torch.randn(8, 3, 32, 32)], strength=0)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_half_the_strength_is_half_the_way():
    images = [torch.randn(32, 2, 4, 4) + 4]
    half, full = nn.Sequential(nn.BatchNorm2d(2)).eval(), nn.Sequential(nn.BatchNorm2d(2)).eval()
    adabn(half, images, strength=0.5)
    adabn(full, images)
    torch.testing.assert_close(half[0].running_mean, full[0].running_mean / 2)
    torch.testing.assert_close(half[0].running_var, (1 + full[0].running_var) / 2)


def test_weights_stay_and_the_network_is_ready_to_score():
    encoder = build_encoder(TINY_ENCODER, 3).eval()
    before = {name: value.clone() for name, value in encoder.named_parameters()}
    adabn(encoder, [torch.randn(8, 3, 32, 32)])
    assert all(torch.equal(value, before[name]) for name, value in encoder.named_parameters())
    assert not any(module.training for module in encoder.modules())


def test_images_of_the_new_domain_come_out_normalised():
    encoder = build_encoder(TINY_ENCODER, 3).eval()
    images = torch.randn(32, 3, 32, 32) * 5 + 20
    adabn(encoder, [images] * 2)
    first = encoder.stages[0][1]
    normalised = nn.functional.batch_norm(encoder.stages[0][0](images), first.running_mean, first.running_var)
    torch.testing.assert_close(normalised.mean(dim=(0, 2, 3)), torch.zeros(normalised.shape[1]), rtol=0, atol=1e-3)


def test_a_network_without_normalisation_statistics_is_left_alone():
    network = nn.Sequential(nn.LayerNorm(4))
    assert adabn(network, [torch.randn(2, 4)]) is network


def test_site_statistics_of_a_single_site_are_those_of_all_images():
    images = [torch.randn(8, 3, 32, 32) + 2 for _ in range(3)]
    encoder = build_encoder(TINY_ENCODER, 3).eval()
    pooled = adabn(copy.deepcopy(encoder), images, strength=0.7)
    statistics = adabn_per_site(encoder, {"north": lambda: images}, strength=0.7)
    assert set(statistics) == {"north"}
    assert set(statistics["north"]) == {name for name in encoder.state_dict() if "running" in name or "tracked" in name}
    encoder.load_state_dict(statistics["north"], strict=False)
    assert all(torch.equal(value, pooled.state_dict()[name]) for name, value in encoder.state_dict().items())


@torch.no_grad()
def test_equal_slices_give_an_inflated_encoder_the_statistics_of_one_slice():
    flat = build_encoder(TINY_ENCODER, 3).eval()
    deep = inflate(flat, 3)
    images = torch.randn(8, 3, 64, 64) * 2 + 1
    adabn(flat, [images])
    adabn(deep, [images.unsqueeze(2).repeat(1, 1, 5, 1, 1)])
    expected = [layer for layer in flat.modules() if isinstance(layer, nn.BatchNorm2d)]
    found = [layer for layer in deep.modules() if isinstance(layer, nn.BatchNorm3d)]
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(other.running_mean, one.running_mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(other.running_var, one.running_var, rtol=0.05, atol=1e-3)  # n / (n - 1) differs


def test_each_site_gets_its_own_statistics_and_the_network_is_unchanged():
    network = nn.Sequential(nn.BatchNorm2d(2)).eval()
    adabn(network, [torch.randn(16, 2, 4, 4) + 1])
    before = copy.deepcopy(network.state_dict())
    sites = {"dark": [torch.randn(64, 2, 4, 4) - 5], "bright": [torch.randn(64, 2, 4, 4) + 5]}
    statistics = adabn_per_site(network, {site: (lambda found=found: found) for site, found in sites.items()})
    for site, level in (("dark", -5.0), ("bright", 5.0)):
        torch.testing.assert_close(statistics[site]["0.running_mean"], torch.full((2,), level), rtol=0, atol=0.1)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_at_strength_zero_every_site_has_the_statistics_of_the_source():
    network = nn.Sequential(nn.BatchNorm2d(2)).eval()
    statistics = adabn_per_site(network, {"a": lambda: [torch.randn(8, 2, 4, 4) + 3]}, strength=0)
    assert torch.equal(statistics["a"]["0.running_mean"], network[0].running_mean)
