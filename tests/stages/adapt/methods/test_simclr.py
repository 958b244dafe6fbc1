import math

import pytest
import torch
from monai.losses import ContrastiveLoss

from pipeline.stages.adapt.methods.simclr import LOWEST_TEMPERATURE, SimClr
from tests.stages.adapt.methods.textures import tiny, views


def nt_xent(one, other, temperature):
    """Equation 1 as a log-softmax over all views but the one itself."""
    both = torch.nn.functional.normalize(torch.cat([one, other]), dim=1)
    similar = both @ both.T / temperature
    similar.fill_diagonal_(-math.inf)
    partners = torch.arange(len(both)).roll(len(one))
    return torch.nn.functional.cross_entropy(similar, partners)


@pytest.mark.parametrize("temperature", [LOWEST_TEMPERATURE, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("batch", [2, 3, 16])
def test_monai_loss_and_its_gradient_equal_equation_1(temperature, batch):
    one, other = (torch.randn(batch, 8, requires_grad=True) for _ in range(2))
    theirs, ours = ContrastiveLoss(temperature)(one, other), nt_xent(one, other, temperature)
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    for mine, its in zip(
        torch.autograd.grad(ours, [one, other]), torch.autograd.grad(theirs, [one, other]), strict=True
    ):
        torch.testing.assert_close(its, mine, rtol=1e-3, atol=1e-5)


def test_the_loss_of_monai_overflows_at_the_temperatures_that_are_refused():
    one = torch.randn(4, 8)
    assert not torch.isfinite(ContrastiveLoss(0.01)(one, one))
    assert torch.isfinite(ContrastiveLoss(LOWEST_TEMPERATURE)(one, one))
    with pytest.raises(ValueError, match="temperature"):
        SimClr(tiny(), temperature=0.01)


def test_equal_pairs_orthogonal_to_all_others_cost_the_formula():
    views_of = torch.eye(4)
    expected = -2 + math.log(math.exp(2) + 6)
    assert float(ContrastiveLoss(0.5)(views_of, views_of)) == pytest.approx(expected, rel=1e-5)


def test_constant_encoder_costs_the_log_of_the_number_of_other_views():
    encoder = tiny()
    objective = SimClr(encoder)
    for value in objective.head[-1].parameters():
        torch.nn.init.ones_(value)
    objective.head[-1].weight.data.zero_()
    first, second = views(6, 0)
    loss = objective(encoder, first, second, torch.Generator())
    assert float(loss.detach()) == pytest.approx(math.log(11), rel=1e-5)


def test_the_order_of_the_two_views_does_not_matter():
    encoder, (first, second) = tiny(), views(6, 0)
    objective = SimClr(encoder)
    torch.testing.assert_close(
        objective(encoder, first, second, torch.Generator()), objective(encoder, second, first, torch.Generator())
    )
