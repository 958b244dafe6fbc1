import numpy as np
import pytest
import torch

from pipeline.learning.training.mixing import mixed


def batch():
    maps = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8).clone()
    return maps, torch.arange(4.0).view(4, 1, 1).expand(4, 2, 5).clone(), torch.eye(4)


def test_nothing_is_mixed_where_nothing_is_to_be():
    found = mixed(*batch(), how="none", alpha=0.2, rng=np.random.default_rng(0))
    assert all(map(torch.equal, found, batch()))


@pytest.mark.parametrize("how", ["mixup", "cutmix"])
def test_targets_are_mixed_by_the_share_of_what_is_seen(how):
    maps, pooled, targets = mixed(*batch(), how=how, alpha=1.0, rng=np.random.default_rng(3))
    seen = maps.mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(targets @ torch.arange(4.0), seen)
    torch.testing.assert_close(pooled[:, 0, 0], seen)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(4))
    assert not torch.equal(maps, batch()[0])


def test_cutmix_leaves_every_value_one_of_two_cases_and_mixup_does_not():
    cut, _, _ = mixed(*batch(), how="cutmix", alpha=1.0, rng=np.random.default_rng(3))
    assert set(cut.unique().tolist()) <= {0, 1, 2, 3}
    blend, _, _ = mixed(*batch(), how="mixup", alpha=1.0, rng=np.random.default_rng(3))
    assert not set(blend.unique().tolist()) <= {0, 1, 2, 3}


def test_every_slice_of_a_volume_is_cut_alike():
    maps = torch.rand(4, 1, 2, 5, 8, 8)
    cut, _, _ = mixed(maps, torch.zeros(4, 1, 0), torch.eye(4), how="cutmix", alpha=1.0, rng=np.random.default_rng(3))
    changed = (cut != maps).any(dim=(1, 2))
    assert changed.any() and (changed == changed[:, :1]).all()


def test_what_is_not_known_of_one_case_is_not_known_of_the_blend():
    targets = torch.full((4, 1), float("nan"))
    targets[0] = 1.0
    _, _, found = mixed(*batch()[:2], targets, how="mixup", alpha=1.0, rng=np.random.default_rng(0))
    assert found.isnan().sum() >= 3


def test_tokens_are_no_image_to_cut_boxes_from():
    with pytest.raises(ValueError, match="take mixup"):
        mixed(
            torch.rand(2, 1, 3, 17, 1),
            torch.zeros(2, 1, 0),
            torch.eye(2),
            how="cutmix",
            alpha=1.0,
            rng=np.random.default_rng(0),
        )


class Draws:
    """A generator that swaps two cases, keeps three quarters of the first, and centres the box."""

    def permutation(self, n):
        return np.array([1, 0])

    def beta(self, a, b):
        return 0.75

    def integers(self, length):
        return length // 2


def test_the_box_of_cutmix_is_as_large_as_the_share_of_the_other_case():
    maps = torch.arange(2.0).view(2, 1, 1, 1, 1).expand(2, 1, 1, 16, 16)
    cut, _, targets = mixed(maps, torch.zeros(2, 1, 0), torch.eye(2), how="cutmix", alpha=1.0, rng=Draws())
    assert cut[0].sum() == 64 and cut[0, 0, 0, 4:12, 4:12].all() and targets[0].tolist() == [0.75, 0.25]
