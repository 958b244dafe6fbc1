import math

import pytest
import torch

from pipeline.learning.training.alignment.mmd import FACTORS, Mmd


def discrepancy(features, domains):
    return Mmd()(features, domains, torch.ones(len(domains), dtype=torch.bool), torch.zeros(len(domains), 2))


def batch(sizes, width=4, seed=0):
    draws = torch.Generator().manual_seed(seed)
    features = torch.randn(sum(sizes), width, generator=draws, dtype=torch.float64)
    return features, torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def slow(features, domains):
    """Equation 3 of Gretton 2012 written out, for domains 0 and 1."""
    rows = features.tolist()
    apart = [math.dist(a, b) ** 2 for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
    median = sorted(apart)[(len(apart) - 1) // 2]

    def kernel(a, b):
        return sum(math.exp(-(math.dist(a, b) ** 2) / (factor * median)) for factor in FACTORS) / len(FACTORS)

    x, y = ([row for row, domain in zip(rows, domains.tolist(), strict=True) if domain == number] for number in (0, 1))
    same = [
        sum(kernel(a, b) for i, a in enumerate(part) for j, b in enumerate(part) if i != j)
        / (len(part) * (len(part) - 1))
        for part in (x, y)
    ]
    return sum(same) - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


def test_it_is_the_unbiased_estimate_of_the_paper():
    features, domains = batch([5, 8])
    features[domains == 1] += 0.7
    assert discrepancy(features, domains).item() == pytest.approx(slow(features, domains), rel=1e-9)


def test_it_is_zero_on_average_for_equal_distributions_only():
    draws = [batch([6, 6], seed=seed) for seed in range(300)]
    equal = torch.stack([discrepancy(*draw) for draw in draws])
    assert abs(equal.mean()) < 3 * equal.std() / math.sqrt(300)
    assert equal.min() < 0  # unbiased, so of one batch it may fall below
    shifted = torch.stack([discrepancy(features + domains[:, None], domains) for features, domains in draws])
    wider = torch.stack([discrepancy(features * (1 + 2 * domains[:, None]), domains) for features, domains in draws])
    assert shifted.mean() > 0.15 and wider.mean() > 0.05


def test_of_two_far_apart_points_of_repeated_cases_it_has_a_closed_form():
    """Distances are 0 within and r^2 across, and the median is r^2: 2 - 2 mean exp(-1 / f)."""
    features = torch.tensor([[0.0, 0.0]] * 3 + [[3.0, 4.0]] * 3)
    expected = 2 - 2 * sum(math.exp(-1 / factor) for factor in FACTORS) / len(FACTORS)
    assert discrepancy(features, torch.arange(6) // 3).item() == pytest.approx(expected, rel=1e-5)


def test_several_domains_numbers_of_domains_and_the_order_of_cases():
    features, domains = batch([5, 6, 7])
    order = torch.randperm(18)
    renamed = torch.tensor([9, 0, 4])[domains]
    value = discrepancy(features, domains).item()
    assert discrepancy(features[order], renamed[order]).item() == pytest.approx(value)
    kernel = Mmd().kernel(features)
    parts = [torch.nonzero(domains == number).flatten() for number in range(3)]
    within = [(kernel[p][:, p].sum() - len(p)) / (len(p) * (len(p) - 1)) for p in parts]
    pairs = [within[a] + within[b] - 2 * kernel[parts[a]][:, parts[b]].mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert value == pytest.approx((sum(pairs) / 3).item())


def test_units_and_offsets_of_the_features_do_not_matter():
    features, domains = batch([6, 6])
    value = discrepancy(features + domains[:, None], domains).item()
    assert discrepancy(100 * (features + domains[:, None]) + 50, domains).item() == pytest.approx(value)


def test_the_bandwidth_is_a_constant_for_the_gradient():
    """Cases moved apart by 1 + h under a constant bandwidth are these cases under one narrower by (1 + h)^2."""
    features, domains = batch([6, 6])
    features = (features + 3 * domains[:, None]).requires_grad_()
    (gradient,) = torch.autograd.grad(discrepancy(features, domains), features)

    def apart(h):
        term = Mmd(tuple(factor / (1 + h) ** 2 for factor in FACTORS))
        return term(features, domains, domains == 0, features).item()

    expected = (apart(1e-5) - apart(-1e-5)) / 2e-5
    assert abs(expected) > 0.02
    assert (gradient * features).sum().item() == pytest.approx(expected, rel=1e-6)


def test_following_the_gradient_brings_the_domains_together():
    gaussian, _ = batch([10])
    domains = torch.arange(20) // 10
    offset = torch.full((4,), 2.0, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([offset], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        discrepancy(torch.cat([gaussian, gaussian + offset]), domains).backward()
        optimizer.step()
    assert offset.abs().max() < 0.1


@pytest.mark.parametrize("sizes", [[8], [5, 1], [1, 1], [1]])
def test_without_two_domains_of_two_cases_it_and_its_gradient_are_zero(sizes):
    features, domains = batch(sizes)
    features.requires_grad_()
    value = discrepancy(features, domains)
    value.backward()
    assert value.item() == 0 and not features.grad.any()


def test_features_collapsed_to_a_point_give_zero_and_finite_gradients():
    features = torch.full((8, 5), 0.3, requires_grad=True)
    value = discrepancy(features, torch.arange(8) % 2)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5) and torch.isfinite(features.grad).all()


def test_wide_features_in_single_precision_agree_with_double():
    features, domains = batch([16, 16], width=2000)
    features = 40 + features + 0.2 * domains[:, None]
    assert discrepancy(features.float(), domains).item() == pytest.approx(
        discrepancy(features, domains).item(), abs=1e-5
    )
