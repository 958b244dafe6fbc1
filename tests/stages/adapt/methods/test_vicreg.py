import math

import pytest
import torch

from pipeline.stages.adapt.methods.vicreg import VicReg, covariance, invariance, variance
from tests.stages.adapt.methods.textures import tiny, views


def test_invariance_is_the_mean_square_between_partners():
    one = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert float(invariance(one, one + torch.tensor([1.0, 3.0]))) == pytest.approx((1 + 9) / 2)
    assert float(invariance(one, one)) == 0


def test_variance_is_a_hinge_at_a_deviation_of_one():
    spread = torch.tensor([[-1.0, -0.1], [1.0, 0.1]])  # variances 2 and 0.02
    expected = (0 + 1 - math.sqrt(0.02 + 1e-4)) / 2
    assert float(variance(spread)) == pytest.approx(expected, rel=1e-5)
    assert float(variance(torch.zeros(5, 3))) == pytest.approx(1 - math.sqrt(1e-4), rel=1e-5)
    assert float(variance(spread * 100)) == 0


def test_the_gradient_of_the_variance_is_finite_where_everything_collapsed():
    collapsed = torch.ones(4, 3, requires_grad=True)
    variance(collapsed).backward()
    assert torch.isfinite(collapsed.grad).all()


def test_covariance_agrees_with_torch_and_is_zero_without_correlation():
    embedded = torch.randn(20, 6) @ torch.randn(6, 6)
    matrix = torch.cov(embedded.T)
    expected = (matrix.square().sum() - matrix.diagonal().square().sum()) / 6
    torch.testing.assert_close(covariance(embedded), expected)
    assert float(covariance(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))) == 0


def test_two_copies_of_a_dimension_cost_their_variance_squared():
    dimension = torch.tensor([[-2.0], [0.0], [2.0]])  # variance 4
    assert float(covariance(dimension.repeat(1, 2))) == pytest.approx(16)


def test_independent_dimensions_cost_the_noise_of_a_small_batch():
    draws = torch.Generator().manual_seed(0)
    costs = [float(covariance(torch.randn(16, 31, generator=draws))) for _ in range(200)]
    assert sum(costs) / len(costs) == pytest.approx(30 / 15, rel=0.05)


def test_half_precision_around_it_does_not_reach_the_covariance():
    embedded = torch.randn(32, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = covariance(embedded)
    assert torch.equal(inside, covariance(embedded))


def test_the_objective_is_the_weighted_sum_of_its_terms():
    encoder, (first, second) = tiny(), views(6, 0)
    objective = VicReg(encoder, weights=(2.0, 3.0, 5.0))
    one, other = objective.head(encoder(first)), objective.head(encoder(second))
    expected = (
        2 * invariance(one, other) + 3 * (variance(one) + variance(other)) + 5 * (covariance(one) + covariance(other))
    )
    torch.testing.assert_close(objective(encoder, first, second, torch.Generator()), expected)
