import pytest
import timm
import torch

from pipeline.learning.models.backbones import build_encoder, fit_channels, preprocessing_of
from pipeline.learning.models.classifier import Activations
from pipeline.learning.models.families import UnknownEncoder
from tests.conftest import classifier
from tests.learning.models.networks import FLAT, lively

FAMILIES = ["test_efficientnet", "test_resnet", "test_convnext", "densenet121", "vgg11_bn", "tf_efficientnet_lite0"]
FAMILIES += ["mobilenetv4_conv_small", "repvit_m0_9", "convnextv2_atto", "tiny_vit_5m_224", "davit_tiny"]

POOLINGS = ["test_vit", "test_vit2", "test_vit4", "vit_wee_patch16_reg1_gap_256", "deit_tiny_distilled_patch16_224"]
POOLINGS += ["vit_small_patch16_dinov3", "eva02_tiny_patch14_224"]


@pytest.mark.parametrize("name", [*FLAT, *POOLINGS])
def test_an_encoder_that_cannot_be_inflated_is_refused_with_the_parameter(name):
    said = (
        "it has a layer that takes no volumes" if name in ("tiny_vit_5m_224", "davit_tiny") else "a vision transformer"
    )
    with pytest.raises(UnknownEncoder, match=f"adapt.filter_depth: {name} cannot be inflated: {said}"):
        build_encoder(name, 3, filter_depth=3)


@pytest.mark.parametrize("depth", [0, 2, -3])
def test_filters_without_a_middle_slice_are_refused_with_the_parameter(depth):
    with pytest.raises(UnknownEncoder, match=f"adapt.filter_depth: .* must be odd, to have a middle; it is {depth}"):
        build_encoder("test_resnet", 3, filter_depth=depth)


def test_weights_of_an_inflated_encoder_fit_no_other_depth():
    deep = build_encoder("test_resnet", 3, filter_depth=3).state_dict()
    ours = {f"encoder.{key}": value for key, value in deep.items()}
    for depth in (1, 5):
        with pytest.raises(ValueError, match=f"do not fit test_resnet at adapt.filter_depth {depth}"):
            build_encoder("test_resnet", 3, ours, filter_depth=depth)
    with pytest.raises(ValueError, match="do not fit test_resnet"):
        build_encoder("test_resnet", 3, deep, filter_depth=3)  # without the prefix they would be timm's


@torch.no_grad()
@pytest.mark.parametrize("channels", [3, 1, 2, 9])
def test_our_weights_start_an_inflated_encoder_of_any_number_of_channels(channels):
    grey = torch.randn(2, 1, 5, 48, 48)
    for depth in (1, 3):
        trained = build_encoder("test_resnet", 3, pooled_stages=2, filter_depth=depth)
        ours = {f"encoder.{key}": value for key, value in trained.state_dict().items()}
        one = build_encoder("test_resnet", 3, ours, pooled_stages=2, filter_depth=3).eval()
        other = build_encoder("test_resnet", channels, ours, pooled_stages=2, filter_depth=3).eval()
        found, expected = other(grey.repeat(1, channels, 1, 1, 1)), one(grey.repeat(1, 3, 1, 1, 1))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", *FAMILIES[-5:]])
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


def test_a_kernel_for_two_channels_shares_what_three_had():
    kernel = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert fit_channels(kernel, 2).flatten().tolist() == [4.5, 4.5]
    assert fit_channels(kernel, 6).flatten().tolist() == [0.5, 1.0, 3.0, 0.5, 1.0, 3.0]
    assert fit_channels(kernel.half(), 1).dtype == torch.float16


def test_a_mask_behind_the_colours_leaves_each_colour_its_weights():
    kernel = torch.tensor([1.0, 2.0, 6.0]).reshape(1, 3, 1, 1)
    assert fit_channels(kernel, 4, colour=True).flatten().tolist() == [0.75, 1.5, 4.5, 2.25]
    assert fit_channels(kernel, 4).flatten().tolist() == [2.25] * 4
    mean, std = preprocessing_of("tf_efficientnet_lite0", colour=True, in_channels=4)
    assert len(mean) == len(std) == 4 and mean[3] == pytest.approx(sum(mean[:3]) / 3)


@pytest.mark.parametrize("name", POOLINGS)
@torch.no_grad()
def test_a_vision_transformer_pools_the_tokens_that_timm_pools(name):
    model = lively(name, 48)
    images = torch.randn(2, 3, 48, 48)
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    encoder = build_encoder(name, 3, model.state_dict()).eval()
    torch.testing.assert_close(encoder(images), expected, rtol=1e-4, atol=1e-4)
    assert encoder.width == expected.shape[1] and len(encoder.stages) == 5


@torch.no_grad()
def test_weights_with_a_classifier_give_the_same_features_as_without(name="repvit_m0_9"):
    whole = timm.create_model(name)  # its classifier has normalisations that timm does not list
    images = torch.randn(2, 3, 64, 64)
    expected = whole.eval().forward_head(whole.forward_features(images), pre_logits=True)
    torch.testing.assert_close(build_encoder(name, 3, whole.state_dict()).eval()(images), expected)


@torch.no_grad()
def test_a_tiny_vit_in_inference_follows_new_weights():
    encoder, other = (build_encoder("tiny_vit_5m_224", 3).eval() for _ in range(2))
    images = torch.randn(1, 3, 64, 64)
    encoder(images)  # timm would keep the position biases of this run
    for name, value in other.named_parameters():
        value.add_(torch.rand_like(value) if "attention_biases" in name else 0)
    encoder.load_state_dict(other.state_dict())
    assert torch.equal(encoder(images), other(images))


@torch.no_grad()
def test_rotary_positions_ask_for_square_images():
    encoder = build_encoder("vit_small_patch16_dinov3", 3).eval()
    assert encoder(torch.randn(1, 3, 50, 50)).shape == (1, 384)
    with pytest.raises(ValueError, match="rotary positions need square images, not 32 x 48"):
        encoder(torch.randn(1, 3, 32, 48))


@torch.no_grad()
def test_a_vision_transformer_at_its_own_size_is_timms():
    model = timm.create_model("test_vit", num_classes=0).eval()
    images = torch.randn(1, 3, 160, 160)
    encoder = build_encoder("test_vit", 3, model.state_dict()).eval()
    torch.testing.assert_close(encoder(images), model(images), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 32), (48, 80), (50, 50)])
def test_a_vision_transformer_takes_images_of_any_size(size):
    encoder = build_encoder("test_vit", 3, pooled_stages=2).eval()
    maps, pooled = encoder.run(torch.randn(2, 3, *size), torch.zeros(2, 0))
    patches = -(-size[0] // 16) * -(-size[1] // 16)
    assert maps.shape == (2, 64, 1 + patches, 1) and pooled.shape == (2, 128)


@torch.no_grad()
def test_the_features_of_earlier_blocks_are_their_class_tokens():
    encoder = build_encoder("test_vit", 3, pooled_stages=2).eval()
    images = torch.randn(2, 3, 48, 48)
    before = encoder.run(images, torch.zeros(2, 0), last=4)[0]
    expected = torch.cat([before[:, :, 0, 0], encoder.stages[4](before)[:, :, 0, 0]], dim=1)
    torch.testing.assert_close(encoder(images), expected)


@torch.no_grad()
def test_a_classifier_stores_tokens_as_it_stores_maps():
    network = classifier(encoder="test_vit", pooled_stages=3).eval()
    channels = torch.randint(0, 256, (2, 6, 48, 48))
    for boundary in range(len(network.encoder.stages)):
        stored = network.activations(channels, last=boundary)
        halved = Activations(*(part.half().float() for part in (stored.maps, stored.pooled)))
        torch.testing.assert_close(network.logits_from(halved, boundary), network(channels), rtol=1e-2, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("channels", [3, 1, 2, 9])
def test_weights_of_our_classifier_start_another_of_any_channels(name, channels):
    trained = classifier(3, 4, encoder=name, pooled_stages=2).eval()
    encoder = build_encoder(name, channels, trained.state_dict(), pooled_stages=2).eval()
    grey = torch.randn(2, 1, 48, 48)
    found, expected = (network(grey.repeat(1, n, 1, 1)) for network, n in ((encoder, channels), (trained.encoder, 3)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="do not fit test_efficientnet"):
        build_encoder("test_efficientnet", 3, trained.state_dict())


def test_an_unknown_name_and_an_unknown_family_are_refused():
    with pytest.raises(UnknownEncoder, match="knows no model 'resnet_of_ours'"):
        build_encoder("resnet_of_ours", 3)
    with pytest.raises(UnknownEncoder, match="ByobNet, which is not one of EfficientNet"):
        build_encoder("test_byobnet", 3)
    with pytest.raises(UnknownEncoder, match="pools its tokens by 'map'"):
        build_encoder("test_vit3", 3)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="do not fit test_resnet"):
        build_encoder("test_resnet", 3, timm.create_model("test_efficientnet").state_dict())


def test_the_default_encoder_expects_grey_values_around_one_half():
    assert preprocessing_of("tf_efficientnet_lite0") == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_convnext"])
def test_weights_that_are_replaced_are_not_drawn(name):
    state = timm.create_model(name).state_dict()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    encoder = build_encoder(name, 3, state)
    assert torch.equal(torch.get_rng_state(), before)
    given = {round(value.double().sum().item(), 6) for value in state.values()}
    assert {round(value.double().sum().item(), 6) for value in encoder.state_dict().values()} <= given
