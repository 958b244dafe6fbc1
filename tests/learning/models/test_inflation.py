import pytest
import torch
from torch import nn

from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.inflation import DepthConv, NotInflatable, inflate

NAMES = ["resnet18", "tf_efficientnet_lite0", "densenet121", "vgg11_bn", "convnext_atto", "efficientnet_b0"]


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@torch.no_grad()
def lively(name, pooled_stages=2):
    """A random encoder whose features differ from image to image, as those of a trained one do.

    In double precision: a random network amplifies rounding as no trained one does.
    """
    encoder = build_encoder(name, 3, pooled_stages=pooled_stages).double()
    for key, value in encoder.named_parameters():
        if key.endswith("gamma"):
            value.fill_(0.5)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    encoder.train()(random(4, 3, 64, 64))
    return encoder.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_equal_slices_have_the_features_of_one(name):
    encoder = lively(name)
    inflated = inflate(encoder)
    images = random(2, 3, 64, 64)
    expected = encoder(images)
    assert (expected[0] - expected[1]).abs().mean() > 1e-2  # the two are told apart
    found = inflated(images.unsqueeze(2).repeat(1, 1, 5, 1, 1))
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-8)
    unequal = inflated(images.transpose(0, 1)[None])
    assert (unequal - expected).abs().mean() > 1e-2
    assert (unequal - expected.mean(dim=0)).abs().mean() > 1e-2


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_single_precision_and_deep_filters_keep_features_of_equal_slices(name):
    encoder = build_encoder(name, 3).eval()
    image = torch.randn(1, 3, 48, 48)
    for depth, slices in ((3, 8), (5, 1)):
        found = inflate(encoder, depth)(image.unsqueeze(2).repeat(1, 1, slices, 1, 1))
        torch.testing.assert_close(found, encoder(image), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_order_of_the_slices_matters_and_a_mirrored_stack_does_not():
    inflated = inflate(lively("resnet18"))
    assert sum(inflated.widths) == inflated.width
    stack = random(1, 3, 6, 64, 64)
    torch.testing.assert_close(inflated(stack.flip(2)), inflated(stack), rtol=1e-4, atol=1e-4)
    assert (inflated(stack[:, :, [3, 0, 5, 1, 4, 2]]) - inflated(stack)).abs().mean() > 1e-3


@torch.no_grad()
def test_an_inflated_convolution_is_the_mean_over_neighbours():
    flat = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    stack = torch.randn(2, 4, 5, 9, 9)
    by_slice = torch.stack([flat(stack[:, :, number]) for number in range(5)], dim=2)
    padded = by_slice[:, :, [0, 0, 1, 2, 3, 4, 4]]
    expected = (padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]) / 3
    torch.testing.assert_close(DepthConv(flat, 3)(stack), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_every_slice_is_kept_to_the_last_stage():
    inflated = inflate(lively("tf_efficientnet_lite0"))
    maps = random(1, 3, 7, 64, 64)
    for stage in inflated.stages:
        maps = stage(maps)
        assert maps.shape[2] == 7
    assert maps.shape[3:] == (2, 2)


def test_an_inflated_encoder_trains_and_leaves_the_one_it_came_from_alone():
    encoder = lively("test_efficientnet", pooled_stages=1)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    inflated = inflate(encoder).train()
    inflated(random(2, 3, 4, 64, 64)).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in inflated.stages[0].parameters())
    assert not encoder.training and all(torch.equal(before[name], now) for name, now in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["test_vit", "resnetblur50"])
def test_what_cannot_be_inflated_is_refused(name):
    with pytest.raises(NotInflatable, match="vision transformer|takes no volumes"):
        inflate(build_encoder(name, 3))


def test_a_image_is_refused_by_an_encoder_of_volumes():
    with pytest.raises(ValueError, match=r"encoder of volumes takes \(N, C, D, H, W\), not \(2, 3, 64, 64\)"):
        inflate(build_encoder("test_resnet", 3))(torch.randn(2, 3, 64, 64))


def test_a_filter_without_a_middle_is_refused():
    with pytest.raises(NotInflatable, match="must be odd"):
        inflate(lively("test_resnet"), depth=2)
