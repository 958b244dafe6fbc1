import numpy as np
import pytest
import torch

from pipeline.learning.training.alignment.coral import Coral


def distance(features, domains, shrinkage=0.0):
    return Coral(shrinkage)(features, domains, torch.ones(len(domains), dtype=torch.bool), torch.zeros(len(domains), 2))


def batch(sizes, width=4, seed=0):
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(sum(sizes), width, generator=draws, dtype=torch.float64)
    return features, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def test_it_is_the_squared_distance_of_numpys_covariances():
    features, domains = batch([7, 9])
    one, other = (np.cov(features[domains == number].numpy(), rowvar=False) for number in (0, 1))
    assert distance(features, domains).item() == pytest.approx(np.square(one - other).sum() / (4 * 4**2))


def test_several_domains_count_as_the_mean_of_their_pairs():
    features, domains = batch([5, 6, 7])
    pairs = [distance(features[domains != left], domains[domains != left]) for left in range(3)]
    assert distance(features, domains).item() == pytest.approx(torch.stack(pairs).mean().item())


def test_numbers_of_domains_and_the_order_of_cases_mean_nothing():
    features, domains = batch([5, 6, 7])
    renamed = torch.tensor([9, 0, 4])[domains]
    order = torch.randperm(18)
    assert distance(features[order], renamed[order]).item() == pytest.approx(distance(features, domains).item())


def test_domains_that_are_equal_or_differ_in_mean_only_have_no_distance():
    features, _ = batch([8])
    domains = torch.repeat_interleave(torch.arange(2), 8)
    assert distance(torch.cat([features, features]), domains).item() == 0
    assert distance(torch.cat([features, features + 3]), domains).item() == pytest.approx(0, abs=1e-12)
    assert distance(torch.cat([features, 2 * features]), domains).item() > 0.1


@pytest.mark.parametrize("sizes", [[8], [5, 1], [1, 1], [1]])
def test_without_two_domains_of_two_cases_it_and_its_gradient_are_zero(sizes):
    features, domains = batch(sizes)
    features.requires_grad_()
    value = distance(features, domains)
    value.backward()
    assert value.item() == 0 and not features.grad.any()


def test_the_gradient_is_that_of_finite_differences():
    features, domains = batch([3, 2, 4], width=3)
    torch.autograd.gradcheck(lambda x: distance(x, domains, 0.3), features.requires_grad_())


def test_what_chance_alone_gives_falls_with_the_cases_and_with_shrinkage():
    """Of standardised features (1 / (n - 1) + 1 / (m - 1)) / 4, as the description says."""
    small, large = batch([16, 16], width=300), batch([160, 160], width=300)
    assert distance(*small).item() == pytest.approx(2 / 15 / 4, rel=0.05)
    assert distance(*large).item() == pytest.approx(2 / 159 / 4, rel=0.05)
    assert distance(*small, 0.5).item() == pytest.approx(distance(*small).item() / 4, rel=0.05)


def test_full_shrinkage_compares_variances_only():
    features, domains = batch([7, 9])
    variances = [features[domains == number].var(dim=0) for number in (0, 1)]
    assert distance(features, domains, 1.0).item() == pytest.approx(
        ((variances[0] - variances[1]) ** 2).sum().item() / (4 * 4**2)
    )
