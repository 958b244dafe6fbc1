import math

import pytest
import torch
from torch import nn

from pipeline.learning.training.alignment.dann import Dann, reversal


def batch(n=12, width=5, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=draws), torch.arange(n) % 3


def domain_loss(loss, features, domains):
    return loss(features, domains, torch.ones(len(domains), dtype=torch.bool), torch.zeros(len(domains), 2))


def test_the_value_is_the_log_loss_of_the_domain_classifier():
    features, domains = batch()
    loss = Dann(5, 3, steps=10)
    expected = nn.functional.cross_entropy(loss.classifier(features), domains)
    assert domain_loss(loss, features, domains).item() == expected.item()


@pytest.mark.parametrize("calls", [0, 3, 10, 25])
def test_classifier_descends_the_loss_and_features_ascend_it_times_lambda(calls):
    features, domains = batch()
    loss = Dann(5, 3, steps=10)
    loss.calls = calls
    leaf, plain = features.clone().requires_grad_(), features.clone().requires_grad_()
    learned = list(loss.parameters())
    turned, *ours = torch.autograd.grad(domain_loss(loss, leaf, domains), [leaf, *learned])
    straight, *theirs = torch.autograd.grad(
        nn.functional.cross_entropy(loss.classifier(plain), domains), [plain, *learned]
    )
    torch.testing.assert_close(turned, -reversal(calls / 10) * straight)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert straight.abs().max() > 0 and (calls == 0) == (not turned.any())


def test_lambda_runs_from_zero_to_almost_one_as_in_the_paper():
    assert reversal(0) == 0
    assert reversal(0.5) == pytest.approx(2 / (1 + math.exp(-5)) - 1)
    assert reversal(1) == reversal(7) == pytest.approx(math.tanh(5))
    assert reversal(0.1, gamma=2) < reversal(0.1) < reversal(0.2)


def test_each_call_with_two_domains_moves_lambda_and_one_domain_is_zero():
    features, domains = batch()
    loss = Dann(5, 3, steps=10)
    features.requires_grad_()
    value = domain_loss(loss, features, torch.ones_like(domains))
    value.backward()
    assert value.item() == 0 and not features.grad.any() and loss.calls == 0
    assert all(parameter.grad is None for parameter in loss.parameters())
    domain_loss(loss, features, domains)
    assert loss.calls == 1


def test_a_seed_gives_one_classifier_and_leaves_the_global_generator():
    before = torch.get_rng_state()
    one, same, other = Dann(5, 3, 10, seed=1), Dann(5, 3, 10, seed=1), Dann(5, 3, 10, seed=2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.classifier[0].weight, same.classifier[0].weight)
    assert not torch.equal(one.classifier[0].weight, other.classifier[0].weight)


def test_the_order_of_cases_means_nothing_and_two_cases_are_enough():
    features, domains = batch()
    order = torch.randperm(12)
    one, other = Dann(5, 3, 10), Dann(5, 3, 10)
    assert domain_loss(one, features[order], domains[order]).item() == pytest.approx(
        domain_loss(other, features, domains).item()
    )
    assert math.isfinite(domain_loss(one, features[:2], domains[:2]).item())


def test_features_that_may_move_lose_what_tells_their_domain():
    """Two gaussians three apart; what the encoder may learn is an offset."""
    draws = torch.Generator().manual_seed(0)
    gaussian, domains = torch.randn(64, 2, generator=draws), torch.arange(64) % 2
    offset = torch.tensor([3.0, 0.0], requires_grad=True)
    loss = Dann(2, 2, steps=200)
    optimizer = torch.optim.Adam([{"params": [offset], "lr": 0.02}, {"params": loss.parameters(), "lr": 0.02}])
    for _ in range(400):
        optimizer.zero_grad()
        domain_loss(loss, gaussian + domains[:, None] * offset, domains).backward()
        optimizer.step()
    assert offset.norm() < 1
