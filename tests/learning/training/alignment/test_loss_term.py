import copy

import pytest
import torch
from torch import nn

from pipeline.learning.models.trainable_top import TrainableTop
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.alignment.loss_term import Alignment, Target, by_domain, draw
from pipeline.learning.training.alignment.mmd import Mmd
from pipeline.learning.training.cases import FrozenCases
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Recipe
from tests.conftest import PLAIN, classifier


class Recorder(nn.Module):
    """A loss that keeps what it was given."""

    def forward(self, features, domains, labelled, logits):
        self.seen = (features, domains, labelled, logits)
        return features[~labelled].square().mean()


class Never(nn.Module):
    def forward(self, features, domains, labelled, logits):
        raise AssertionError("a loss of no weight was run")


def task(n=12, seed=0):
    """A top, n labelled cases of sites 0 and 1 in one view, and n unlabelled ones of site 2 in two."""
    torch.manual_seed(1)
    network = classifier().eval()
    top = TrainableTop(network, len(network.encoder.stages) - 2)
    draws = torch.Generator().manual_seed(seed)
    channels = torch.rand(3 * n, 3, 32, 32, generator=draws) * 120
    with torch.no_grad():
        frozen = network.activations(channels, last=top.first)
    maps, pooled = frozen.maps.half(), frozen.pooled.half()
    target = Target(maps[n:].unflatten(0, (2, n)), pooled[n:].unflatten(0, (2, n)), torch.full((n,), 2))
    return top, (maps[:n].float(), pooled[:n].float()), target


def alignment(loss, target, weight=1.0, size=5, seed=0):
    return Alignment(
        loss=loss,
        weight=weight,
        target=target,
        domains=torch.arange(12) % 2,
        batch_size=size,
        draws=torch.Generator().manual_seed(seed),
    )


def test_features_and_logits_agree_with_the_trainable_top_bit_for_bit():
    top, cases, _ = task()
    features, logits = top.features_and_logits(*cases)
    assert features.shape == (12, top.network.encoder.width)
    assert torch.equal(logits, top(*cases)) and torch.equal(logits, top.network.head(features))


def test_loss_receives_labelled_cases_first_and_unlabelled_ones_after():
    top, (maps, pooled), target = task()
    rows, loss = torch.tensor([7, 2, 4]), Recorder()
    features, logits = top.features_and_logits(maps[rows], pooled[rows])
    value = alignment(loss, target, weight=0.25)(top, features, logits, rows)
    seen, domains, labelled, evaluated = loss.seen
    assert domains.tolist() == [1, 0, 0, 2, 2, 2, 2, 2] and labelled.tolist() == [True] * 3 + [False] * 5
    assert torch.equal(seen[:3], features) and torch.equal(evaluated[:3], logits)
    some, rest, _ = draw(target, 5, torch.Generator().manual_seed(0))
    assert torch.equal(evaluated[3:], top(some.float(), rest.float()))
    assert value.item() == pytest.approx(0.25 * seen[3:].square().mean().item())


def test_gradients_reach_the_stages_and_the_labelled_features():
    top, cases, target = task()
    features, logits = top.features_and_logits(*cases)
    features.retain_grad()
    loss = Recorder()
    value = alignment(loss, target)(top, features, logits, torch.arange(12))
    (value + loss.seen[0].sum()).backward()
    moved = [value.grad for value in top.network.encoder.stages[top.first :].parameters()]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in moved)
    assert torch.equal(features.grad, torch.ones_like(features))


def test_loss_of_weight_zero_draws_nothing_and_changes_no_bit():
    def steps(weighted):
        top, (maps, pooled), target = task()
        extra = alignment(Never(), target, weight=0.0)
        before = extra.draws.get_state()
        optimizer = torch.optim.AdamW([p for p in top.parameters() if p.requires_grad], lr=1e-2)
        draws = torch.Generator().manual_seed(3)
        for _ in range(3):
            rows = torch.randperm(12, generator=draws)[:6]
            features, logits = top.features_and_logits(maps[rows], pooled[rows])
            loss = nn.functional.cross_entropy(logits, rows % 2)
            if weighted:
                loss = loss + extra(top, features, logits, rows)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert torch.equal(before, extra.draws.get_state())
        return copy.deepcopy(top.state_dict())

    with_term, without = steps(True), steps(False)
    assert all(torch.equal(value, without[name]) for name, value in with_term.items())


def test_drawing_leaves_the_global_generator_alone():
    top, cases, target = task()
    features, logits = top.features_and_logits(*cases)
    before = torch.get_rng_state()
    alignment(Recorder(), target)(top, features, logits, torch.arange(12))
    assert torch.equal(before, torch.get_rng_state())


def test_draw_takes_distinct_cases_one_view_each_and_follows_its_seed():
    maps = torch.arange(2 * 9).reshape(2, 9, 1, 1, 1, 1).half()
    target = Target(maps, torch.zeros(2, 9, 1, 0), torch.arange(9))
    some, _, domains = draw(target, 6, torch.Generator().manual_seed(0))
    assert (some.flatten() % 9).tolist() == domains.tolist() and len(set(domains.tolist())) == 6
    assert torch.equal(some, draw(target, 6, torch.Generator().manual_seed(0))[0])
    assert not torch.equal(some, draw(target, 6, torch.Generator().manual_seed(1))[0])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw(target, 6, generator)[0] for _ in range(60)])
    assert set(drawn.flatten().int().tolist()) == set(range(18))  # every view of every case has its turn
    assert len(draw(target, 50, generator)[2]) == 9


def test_the_term_is_computed_in_single_precision_whatever_is_around_it():
    class Products(nn.Module):
        def forward(self, features, domains, labelled, logits):
            assert features.dtype == logits.dtype == torch.float32
            assert (features @ features.T).dtype == torch.float32
            return features.sum()

    top, cases, target = task()
    with torch.autocast("cpu", torch.bfloat16):
        features, logits = top.features_and_logits(*cases)
        assert logits.dtype == torch.bfloat16
        value = alignment(Products(), target)(top, features, logits, torch.arange(12))
    assert value.dtype == torch.float32


def test_parameters_of_a_loss_reach_the_optimizer_unless_weight_is_zero():
    _, _, target = task()
    loss = nn.Linear(3, 2)
    (group,) = alignment(loss, target).parameter_groups(0.1)
    assert group["lr"] == 0.1 and group["params"] == [loss.weight, loss.bias]
    assert alignment(loss, target, weight=0.0).parameter_groups(0.1) == []
    assert alignment(Recorder(), target).parameter_groups(0.1) == []


def test_a_batch_is_split_by_domain_and_small_domains_are_left_out():
    features = torch.arange(6.0)[:, None]
    parts = by_domain(features, torch.tensor([5, 0, 5, 3, 0, 5]), fewest=2)
    assert [part.flatten().tolist() for part in parts] == [[1, 4], [0, 2, 5]]


def test_fit_differs_from_fit_without_alignment_only_if_it_has_weight():
    recipe = Recipe(
        2, epochs=2, patience=2, batch_size=6, learning_rate=1e-2, rate_decay=0.5, weight_decay=0.0, **PLAIN
    )
    labels = torch.arange(12) % 2

    def trained(loss, weight):
        top, (maps, pooled), target = task()
        extra = alignment(loss, target, weight) if loss else None
        first = len(top.network.encoder.stages) - 2
        cases = FrozenCases(maps.half()[None], pooled.half()[None], torch.eye(2)[labels], first)
        accelerator = make_accelerator("cpu")
        curve = fit(top.network, cases, cases, recipe, accelerator=accelerator, seed=0, alignment=extra)
        return top.network.state_dict(), curve

    (without, curve), (none, same), (some, _) = trained(None, 0.0), trained(Never(), 0.0), trained(Mmd(), 5.0)
    assert curve == same and all(torch.equal(value, none[name]) for name, value in without.items())
    assert any(not torch.equal(value, some[name]) for name, value in without.items())
