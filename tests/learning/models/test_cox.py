"""The partial likelihood of the probe and of the networks, against its definition."""

import numpy as np
import pytest
import torch

from pipeline.learning.models.cox import fit_cox, partial_likelihood
from pipeline.learning.models.probe import fit_probe, strata
from pipeline.learning.models.tasks import Survival
from pipeline.learning.training.batches import _interleaved


def drawn(count=60, width=3, seed=0):
    """Tied times, a third of them censored; the hazard follows the first feature."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, width))
    time = np.ceil(8 * rng.exponential(np.exp(-features[:, 0]))) / 2
    return features, np.where(rng.random(count) < 0.33, -time, time)[:, None]


def by_definition(hazard, targets):
    time, event = np.abs(targets[:, 0]), targets[:, 0] > 0
    return sum(np.log(np.exp(hazard[time >= time[i]]).sum()) - hazard[i] for i in np.flatnonzero(event))


def test_the_likelihood_is_that_of_the_definition_with_ties():
    rng = np.random.default_rng(1)
    _, targets = drawn()
    hazard = rng.normal(0, 2, len(targets))
    loss, gradient = partial_likelihood(hazard, targets)
    assert loss == pytest.approx(by_definition(hazard, targets), rel=1e-12)
    for row in (0, 17, 40):
        moved = hazard + 1e-6 * (np.arange(len(hazard)) == row)
        assert gradient[row] == pytest.approx((partial_likelihood(moved, targets)[0] - loss) / 1e-6, abs=1e-4)


def test_the_loss_of_networks_has_the_gradient_of_the_likelihood():
    _, targets = drawn()
    hazard = torch.from_numpy(np.random.default_rng(2).normal(size=(len(targets), 1))).requires_grad_()
    loss, events = Survival().losses(hazard, torch.from_numpy(targets), torch.ones(1))
    loss.backward()
    expected, gradient = partial_likelihood(hazard.detach().numpy()[:, 0], targets)
    np.testing.assert_allclose(hazard.grad.numpy()[:, 0], gradient, atol=1e-12)
    time, event = np.abs(targets[:, 0]), targets[:, 0] > 0
    sizes = sum(np.log((time >= time[i]).sum()) for i in np.flatnonzero(event))
    assert float(loss.detach()) == pytest.approx(expected - sizes, rel=1e-12) and float(events) == event.sum()


def test_a_constant_hazard_has_the_loss_zero_in_batches_of_any_size():
    for count in (5, 60):
        targets = torch.from_numpy(drawn(count)[1])
        losses = Survival().case_losses(torch.full((count, 1), 3.0, dtype=torch.float64), targets)
        assert float(losses.abs().max()) < 1e-12


def test_a_weak_penalty_finds_the_maximum_of_the_likelihood():
    features, targets = drawn(300)
    weight = fit_cox(features, targets, 1e6)
    _, gradient = partial_likelihood(features @ weight, targets)
    assert np.abs(features.T @ gradient).max() < 1e-2
    assert 0.7 < weight[0] < 1.3 and np.abs(weight[1:]).max() < 0.25
    assert np.abs(fit_cox(features, targets, 1e-4)).max() < 0.05


def test_the_probe_finds_the_hazard_among_many_features():
    features, targets = drawn(150, 300)
    probe = fit_probe(features, targets, np.arange(150).astype(str), balanced=True, seed=0, task="survival")
    assert abs(probe.weight[0]).argmax() == 0 and probe.weight[0, 0] > 0 and probe.bias == [0.0]
    assert set(strata(targets, "survival")) == {0, 1}


def test_every_batch_holds_its_share_of_events():
    kinds = np.array([0] * 90 + [1] * 30)
    order = _interleaved(kinds, np.random.default_rng(0)).numpy()
    assert sorted(order) == list(range(120)) and not np.array_equal(order, np.arange(120))
    counts = [kinds[part].sum() for part in np.split(order, 10)]
    assert min(counts) >= 2 and max(counts) <= 4
