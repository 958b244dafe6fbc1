import copy

import pytest
import torch
from torch import nn

from pipeline.learning.models.entropy import entropy
from pipeline.learning.models.tent import adapted, affine_parameters, tent
from tests.conftest import classifier


def network():
    """One with batch normalisation whose stored statistics are nobody's, and a head that has an opinion."""
    torch.manual_seed(1)
    model = classifier().eval()
    with torch.no_grad():
        model.head.weight.mul_(5)
    return model


def case(seed=0, views=4):
    return torch.rand(views, 6, 32, 32, generator=torch.Generator().manual_seed(seed)) * 255


def state(model):
    return copy.deepcopy(model.state_dict())


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_no_steps_are_the_network_itself_to_the_bit():
    model = network()
    before = state(model)
    assert torch.equal(tent(model, 0, 0.1)(case()), model(case()))
    assert same(before, model.state_dict())


def test_steps_make_the_network_surer_of_the_case():
    model = network()
    plain, few, more = (entropy(tent(model, steps, 1e-3)(case())).mean() for steps in (0, 2, 6))
    assert more < few < plain


@pytest.mark.parametrize("mode", [True, False])
def test_after_the_case_everything_is_what_it_was(mode):
    model = network()
    model.requires_grad_(False)
    model.head.weight.requires_grad_(True)
    layer = affine_parameters(model)[0]
    layer.requires_grad_(True)
    layer.grad = torch.full_like(layer, 7.0)
    model.train(mode)
    model.attention.train(not mode)
    before, wanted = state(model), [value.requires_grad for value in model.parameters()]
    flags = [module.training for module in model.modules()]
    tent(model, 3, 1e-2)(case())
    assert same(before, model.state_dict())
    assert wanted == [value.requires_grad for value in model.parameters()]
    assert flags == [module.training for module in model.modules()]
    assert torch.equal(layer.grad, torch.full_like(layer, 7.0)) and model.head.weight.grad is None


def test_a_failure_within_leaves_the_network_as_it_was_too():
    model = network()
    before = state(model)
    with pytest.raises(KeyError), adapted(model, case(), steps=2, learning_rate=1e-2):
        assert not same(before, model.state_dict())
        raise KeyError
    assert same(before, model.state_dict())
    with pytest.raises(ValueError), adapted(model, case()[:, :, :, :, None], steps=2, learning_rate=1e-2):
        pass
    assert same(before, model.state_dict())


def test_a_case_does_not_see_the_case_before_it():
    model = network()
    predict = tent(model, 3, 1e-2)
    alone = predict(case(1))
    predict(case(0))
    assert torch.equal(predict(case(1)), alone)


def test_only_scales_and_shifts_move_and_stored_statistics_stay():
    model = network()
    before = state(model)
    with adapted(model, case(), steps=1, learning_rate=1e-2) as moved:
        changed = {name for name, value in moved.state_dict().items() if not torch.equal(value, before[name])}
    affine = {id(value) for value in affine_parameters(model)}
    names = {name for name, value in model.named_parameters() if id(value) in affine}
    assert changed and changed <= names
    assert not any("running" in name for name in changed)


def test_the_first_step_is_adams_down_the_entropy():
    """Whose first step is the learning rate against the sign of the gradient."""
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 3))
    views = torch.randn(5, 4)
    gradient = torch.autograd.grad(entropy(model(views)).mean(), model[0].weight)[0]
    with adapted(model, views, steps=1, learning_rate=1e-3):
        moved = model[0].weight.detach().clone()
    torch.testing.assert_close(moved, 1 - 1e-3 * gradient.sign(), rtol=0, atol=1e-6)


def test_batch_normalisation_uses_its_stored_statistics_for_the_one_case():
    """With statistics of the batch, the views of a uniform shift would come out as without it."""
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).train()
    views = torch.randn(4, 3)
    with adapted(model, views, steps=2, learning_rate=1e-3):
        assert not torch.allclose(model(views), model(views + 5))
        torch.testing.assert_close(model(views[:1]), model(views)[:1])
    assert not model[0].running_mean.any()


def test_it_works_inside_inference_mode_on_a_frozen_network():
    model = network().requires_grad_(False)
    expected = tent(model, 2, 1e-2)(case())
    with torch.inference_mode():
        views = case().mul(1)
        assert torch.equal(tent(model, 2, 1e-2)(views), expected)
    assert not any(value.requires_grad for value in model.parameters())
    plain = nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2))  # keeps the views themselves for the way back
    with torch.inference_mode():
        assert tent(plain, 2, 1e-2)(torch.randn(4, 3)).shape == (4, 2)
    model.requires_grad_(True)
    model(case()).sum().backward()  # its weights may still be trained


def test_a_network_without_normalisation_is_left_alone():
    model = nn.Linear(3, 2)
    views = torch.randn(2, 3)
    assert torch.equal(tent(model, 5, 0.1)(views), model(views))
