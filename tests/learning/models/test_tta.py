import torch

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.tta import looks_at
from tests.conftest import TINY_ENCODER


def test_no_further_looks_are_none():
    assert list(looks_at(torch.rand(1, 3, 16, 16), [])) == []


def test_the_mirror_image_turns_left_and_right_round():
    planes = torch.arange(16.0).view(1, 1, 4, 4)
    [mirrored] = looks_at(planes, ["mirror"])
    assert torch.equal(mirrored[0, 0, 0], torch.tensor([3.0, 2, 1, 0])) and torch.equal(
        mirrored[0, 0, :, 3], planes[0, 0, :, 0]
    )


def test_crops_are_the_centre_and_the_corners_of_both_sides():
    planes = torch.arange(256.0).view(1, 1, 16, 16)
    crops = list(looks_at(planes, ["crops"]))
    assert [tuple(crop.shape[2:]) for crop in crops] == [(14, 14)] * 5
    assert [float(crop[0, 0, 0, 0]) for crop in crops] == [17, 0, 2, 32, 34]
    assert len(list(looks_at(planes, ["mirror", "crops"]))) == 11


def test_the_logits_are_the_mean_over_all_looks_and_of_a_mirrored_case_the_same():
    torch.manual_seed(0)
    planes = torch.rand(2, 3, 32, 32) * 255
    plain = Classifier(TINY_ENCODER, 3, 2).eval()
    torch.nn.init.normal_(plain.head.weight)
    looking = Classifier(TINY_ENCODER, 3, 2, looks=["mirror"]).eval()
    looking.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        mean = (plain(planes) + plain(planes.flip(-1))) / 2
        torch.testing.assert_close(looking(planes), mean)
        torch.testing.assert_close(looking(planes.flip(-1)), mean)
        assert not torch.allclose(plain(planes), mean)
