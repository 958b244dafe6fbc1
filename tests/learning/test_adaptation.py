import copy

import torch
from torch import nn

from pipeline.learning.adaptation import adabn
from pipeline.learning.encoder import build_encoder
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
