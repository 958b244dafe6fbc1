import pytest
import torch

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import Ensemble, network_from, state_of_members
from tests.conftest import TINY_ENCODER

ONE = {"encoder": {"name": TINY_ENCODER}, "instances": {"channels": 3}, "head": {"n_classes": 3}}
CHANNELS = torch.randint(0, 256, (2, 6, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def trained(count, **more):
    """Members whose heads say different things, as if each had learned something of its own."""
    members = [Classifier(**ONE, **more) for _ in range(count)]
    for member in members:
        torch.nn.init.normal_(member.head.weight)
    return [inference(member) for member in members]


def ensemble_of(members, **more):
    network = Ensemble([ONE | more] * len(members))
    network.load_state_dict(state_of_members([member.state_dict() for member in members]))
    return inference(network)


@torch.inference_mode()
def test_ensemble_logits_are_the_mean_of_its_members_rounded_once():
    members = trained(3)
    logits = torch.stack([member(CHANNELS) for member in members])
    found = ensemble_of(members)(CHANNELS)
    assert found.dtype == torch.float32 and logits.std(dim=0).min() > 1e-3
    assert torch.equal(found, torch.from_numpy(logits.double().numpy().mean(axis=0)).float())


@torch.inference_mode()
def test_the_order_of_members_changes_no_bit():
    members = trained(3)
    assert torch.equal(ensemble_of(members)(CHANNELS), ensemble_of(members[::-1])(CHANNELS))


@torch.inference_mode()
def test_an_ensemble_of_one_is_that_one():
    [member] = trained(1)
    assert torch.equal(ensemble_of([member])(CHANNELS), member(CHANNELS))


@torch.inference_mode()
def test_every_member_takes_the_values_of_a_site_that_it_knows():
    knows = {"sites": {"names": ["north"], "per_site": "features"}}
    members = [*trained(1, **knows), *trained(1)]
    mean, scale = torch.full((members[0].encoder.width,), 5.0), members[0].feature_scale
    members[0].site_values.remember("north", {"feature_mean": mean, "feature_scale": scale})
    network = Ensemble([ONE | knows, ONE])
    network.load_state_dict(state_of_members([member.state_dict() for member in members]))
    inference(network)
    before = network(CHANNELS)
    expected = (members[0](CHANNELS, "north").double() + members[1](CHANNELS).double()) / 2
    found = network(CHANNELS, "north")
    assert torch.equal(found, expected.float()) and not torch.allclose(found, before)
    assert torch.equal(network(CHANNELS, "elsewhere"), before)


def test_a_network_is_an_ensemble_where_members_are_named():
    assert isinstance(network_from({"members": [ONE, ONE]}), Ensemble)
    assert isinstance(network_from(ONE), Classifier)


@pytest.mark.parametrize("members", [[], [ONE, ONE | {"head": {"n_classes": 2}}]])
def test_ensemble_without_members_or_of_unequal_classes_is_refused(members):
    with pytest.raises(ValueError, match="needs members, all of the same classes"):
        Ensemble(members)
