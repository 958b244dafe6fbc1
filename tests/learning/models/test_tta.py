import torch

from pipeline.learning.models.tta import augmented_views
from tests.conftest import classifier


def test_without_augmentation_there_are_no_further_views():
    assert list(augmented_views(torch.rand(1, 3, 16, 16), [])) == []


def test_the_mirror_image_turns_left_and_right_round():
    channels = torch.arange(16.0).view(1, 1, 4, 4)
    [mirrored] = augmented_views(channels, ["mirror"])
    assert torch.equal(mirrored[0, 0, 0], torch.tensor([3.0, 2, 1, 0])) and torch.equal(
        mirrored[0, 0, :, 3], channels[0, 0, :, 0]
    )


def test_crops_are_the_centre_and_the_corners_of_both_sides():
    channels = torch.arange(256.0).view(1, 1, 16, 16)
    crops = list(augmented_views(channels, ["crops"]))
    assert [tuple(crop.shape[2:]) for crop in crops] == [(14, 14)] * 5
    assert [float(crop[0, 0, 0, 0]) for crop in crops] == [17, 0, 2, 32, 34]
    assert len(list(augmented_views(channels, ["mirror", "crops"]))) == 11


def test_logits_are_the_mean_over_all_views_also_of_a_mirrored_case():
    torch.manual_seed(0)
    channels = torch.rand(2, 3, 32, 32) * 255
    plain = classifier().eval()
    torch.nn.init.normal_(plain.head.weight)
    augmented = classifier(test_time={"tta": ["mirror"]}).eval()
    augmented.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        mean = (plain(channels) + plain(channels.flip(-1))) / 2
        torch.testing.assert_close(augmented(channels), mean)
        torch.testing.assert_close(augmented(channels.flip(-1)), mean)
        assert not torch.allclose(plain(channels), mean)
