import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from pipeline.learning.models.entropy import entropy
from pipeline.learning.training.alignment.mcc import Mcc


def batch(n=8, k=3, seed=0):
    """Half labelled, of domain 0; half unlabelled, of domain 1."""
    draws = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, k, generator=draws, dtype=torch.float64)
    return logits, torch.arange(n) % 2


def value(loss, logits, domains, labelled=None):
    labelled = domains == 0 if labelled is None else labelled
    return loss(torch.zeros(len(domains), 2), domains, labelled, logits)


def unlabelled_only(logits):
    """A batch whose unlabelled cases are these."""
    return torch.cat([torch.zeros(1, logits.shape[1], dtype=logits.dtype), logits]), torch.arange(len(logits) + 1) > 0


def slow_mcc(logits, temperature, weights=None):
    """The four steps of section 3.2, entry by entry."""
    scaled = np.exp(logits / temperature)
    y = scaled / scaled.sum(axis=1, keepdims=True)
    n, k = y.shape
    sure = [1 + math.exp(-scipy_entropy(row)) for row in y]
    weights = [n * one / sum(sure) for one in sure] if weights is None else weights
    c = [[sum(weights[i] * y[i, a] * y[i, b] for i in range(n)) for b in range(k)] for a in range(k)]
    return sum(c[a][b] / sum(c[a]) for a in range(k) for b in range(k) if a != b) / k, weights


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_confusion_is_that_of_the_paper_among_the_unlabelled_cases(temperature):
    logits, domains = batch()
    expected, _ = slow_mcc(logits[domains == 1].numpy(), temperature)
    assert value(Mcc(temperature), logits, domains).item() == pytest.approx(expected)


def test_sure_predictions_confuse_nothing_and_unsure_ones_everything():
    sure = 200 * torch.eye(4, dtype=torch.float64).repeat(2, 1)
    assert value(Mcc(), *unlabelled_only(sure)).item() == pytest.approx(0, abs=1e-9)
    assert value(Mcc(), *unlabelled_only(torch.zeros(8, 4))).item() == pytest.approx(3 / 4)


def test_the_weight_of_a_case_is_a_constant_for_the_gradient():
    logits, domains = batch(k=2)
    own = logits[domains == 1].numpy()
    _, weights = slow_mcc(own, 2.5)
    leaf = logits.clone().requires_grad_()
    value(Mcc(), leaf, domains).backward()
    for row, place in enumerate(torch.nonzero(domains == 1).flatten()):
        up, down = own.copy(), own.copy()
        up[row, 0] += 1e-5
        down[row, 0] -= 1e-5
        slope = (slow_mcc(up, 2.5, weights)[0] - slow_mcc(down, 2.5, weights)[0]) / 2e-5
        assert leaf.grad[place, 0].item() == pytest.approx(slope, rel=1e-4, abs=1e-9)


def test_labelled_cases_numbers_of_domains_and_order_mean_nothing():
    loss = Mcc()
    logits, domains = batch()
    labelled = domains == 0
    others = logits.clone()
    others[labelled] = 7.0
    order = torch.randperm(8)
    expected = value(loss, logits, domains).item()
    assert value(loss, others, domains).item() == expected
    assert value(loss, logits, 5 - 2 * domains, labelled).item() == expected
    assert value(loss, logits[order], domains[order]).item() == pytest.approx(expected)


@pytest.mark.parametrize(("domains", "labelled"), [([1, 1], [True, False]), ([0, 1], [True, True])])
def test_one_domain_or_no_unlabelled_case_gives_zero_and_zero_gradient(domains, labelled):
    logits = torch.randn(2, 3, requires_grad=True)
    result = value(Mcc(), logits, torch.tensor(domains), torch.tensor(labelled))
    result.backward()
    assert result.item() == 0 and not logits.grad.any()


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_one_unlabelled_case_and_huge_logits_give_finite_values(size):
    logits = (size * torch.randn(2, 3)).requires_grad_()
    result = value(Mcc(), logits, torch.arange(2))
    result.backward()
    assert torch.isfinite(result) and torch.isfinite(logits.grad).all()


def test_entropy_is_scipys():
    logits, _ = batch()
    torch.testing.assert_close(entropy(logits), torch.from_numpy(scipy_entropy(logits.softmax(dim=1).numpy(), axis=1)))
