import pytest

from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.training.costs import passes_of_epoch, shares_of
from tests.conftest import TINY_ENCODER


def test_the_stages_share_the_multiplications_of_the_encoder():
    shares = shares_of(build_encoder("resnet18", 3), 3)
    assert sum(shares) == pytest.approx(1) and all(share > 0 for share in shares)
    # resnet18 at 224: 118 M in the stem, 462 M in the first stage, 411 M in each of the others (He et al. 2016).
    assert shares[0] == pytest.approx(118 / 1814, rel=0.02) and shares[4] == pytest.approx(411 / 1814, rel=0.02)


def test_an_inflated_encoder_is_counted_too():
    assert sum(shares_of(build_encoder(TINY_ENCODER, 1, filter_depth=3), 1)) == pytest.approx(1)


def test_epoch_costs_three_passes_for_all_stages_and_less_for_the_top():
    assert passes_of_epoch([0.5, 0.3, 0.2], first=0, trained=3, train=100, validation=10) == pytest.approx(310)
    assert passes_of_epoch([0.5, 0.3, 0.2], first=1, trained=1, train=100, validation=10) == pytest.approx(
        100 * (0.5 + 0.4) + 5
    )
