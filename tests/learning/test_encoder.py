import pytest
import timm
import torch

from pipeline.learning.encoder import UnknownEncoder, build_encoder, preprocessing_of

FAMILIES = ["test_efficientnet", "test_resnet", "test_convnext", "densenet121", "vgg11_bn", "tf_efficientnet_lite0"]


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_the_stages_of_every_family_compose_to_timms_own_features(name):
    model = timm.create_model(name, num_classes=0).eval()
    encoder = build_encoder(name, 3, model.state_dict()).eval()
    images = torch.randn(2, 3, 64, 64)
    maps, _ = encoder.run(images, torch.zeros(2, 0))
    torch.testing.assert_close(maps, model.forward_features(images), rtol=1e-4, atol=1e-4)
    assert encoder(images).shape == (2, encoder.width)
    assert len(encoder.stages) >= 4


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
@torch.no_grad()
def test_pooled_features_are_those_that_timms_classifier_sees(name):
    model = timm.create_model(name, num_classes=0).eval()
    images = torch.randn(2, 3, 64, 64)
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(
        build_encoder(name, 3, model.state_dict()).eval()(images), expected, rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_any_prefix_can_be_computed_once_and_continued():
    encoder = build_encoder("test_efficientnet", 3, pooled_stages=3).eval()
    images = torch.randn(2, 3, 64, 64)
    for boundary in range(len(encoder.stages) + 1):
        half = encoder.run(images, torch.zeros(2, 0), last=boundary)
        torch.testing.assert_close(encoder.run(*half, first=boundary)[1], encoder(images))


@torch.no_grad()
def test_features_are_the_means_of_the_last_stages_side_by_side():
    encoder = build_encoder("test_resnet", 3, pooled_stages=2).eval()
    images = torch.randn(2, 3, 64, 64)
    before = encoder.run(images, torch.zeros(2, 0), last=len(encoder.stages) - 1)[0]
    expected = torch.cat([before.mean(dim=(2, 3)), encoder.stages[-1](before).mean(dim=(2, 3))], dim=1)
    torch.testing.assert_close(encoder(images), expected)
    assert encoder.width == expected.shape[1]


@torch.no_grad()
def test_one_channel_gives_what_three_equal_channels_give():
    state = timm.create_model("test_resnet").state_dict()
    grey = torch.randn(2, 1, 48, 48)
    one, three = (build_encoder("test_resnet", n, state).eval() for n in (1, 3))
    torch.testing.assert_close(one(grey), three(grey.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_more_channels_keep_the_scale_of_the_response():
    state = timm.create_model("test_resnet").state_dict()
    grey = torch.randn(2, 1, 48, 48)
    three, nine = (build_encoder("test_resnet", n, state).eval() for n in (3, 9))
    first = [encoder.stages[0](grey.repeat(1, n, 1, 1)) for encoder, n in ((three, 3), (nine, 9))]
    torch.testing.assert_close(first[0], first[1], rtol=1e-4, atol=1e-4)


def test_an_unknown_name_and_an_unknown_family_are_refused():
    with pytest.raises(UnknownEncoder, match="knows no model 'resnet_of_ours'"):
        build_encoder("resnet_of_ours", 3)
    with pytest.raises(UnknownEncoder, match="VisionTransformer"):
        build_encoder("test_vit", 3)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="do not fit test_resnet"):
        build_encoder("test_resnet", 3, timm.create_model("test_efficientnet").state_dict())


def test_the_default_encoder_expects_grey_values_around_one_half():
    assert preprocessing_of("tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
