"""A portfolio predicts the mean of its members' probabilities."""

import pytest
import torch

from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import Ensemble, Portfolio, classifiers_in, network_from
from pipeline.learning.models.saliency import mean_saliency
from tests.conftest import TINY_ENCODER
from tests.learning.models.blob import blob_network

ONE = {"encoder": {"name": TINY_ENCODER}, "instances": {"channels": 3}, "head": {"n_classes": 3}}
CHANNELS = torch.randint(0, 256, (2, 6, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def portfolio(*changes, **more):
    network = Portfolio([ONE | change for change in changes], **more)
    for member in classifiers_in(network):
        torch.nn.init.normal_(member.head.weight)
    return inference(network)


@torch.inference_mode()
def test_probabilities_are_the_mean_of_those_of_the_members():
    network = portfolio({}, {}, {})
    expected = torch.stack([member(CHANNELS).softmax(1) for member in classifiers_in(network)]).mean(dim=0)
    torch.testing.assert_close(network(CHANNELS).softmax(1), expected)
    assert torch.equal(network.outputs(CHANNELS).logits, network(CHANNELS))


@torch.inference_mode()
def test_probabilities_of_findings_are_means_of_each_sigmoid():
    network = portfolio({}, {}, findings=True)
    expected = torch.stack([member(CHANNELS).sigmoid() for member in classifiers_in(network)]).mean(dim=0)
    torch.testing.assert_close(network(CHANNELS).sigmoid(), expected)


@torch.inference_mode()
def test_the_log_loss_of_a_portfolio_is_not_above_the_mean_of_its_members():
    network = portfolio({}, {})
    losses = torch.stack([-member(CHANNELS).log_softmax(1) for member in classifiers_in(network)])
    assert (-network(CHANNELS).log_softmax(1) <= losses.mean(dim=0) + 1e-6).all()


@torch.inference_mode()
def test_a_member_may_see_smaller_images_than_another():
    small = {"instances": {"channels": 3, "side": 32}}
    network = portfolio({}, small)
    whole, shrunk = (member.activations(CHANNELS, last=1).maps.shape[-1] for member in classifiers_in(network))
    assert whole == 2 * shrunk and network(CHANNELS).isfinite().all()


def test_an_ensemble_of_portfolios_averages_the_logits_of_the_folds():
    network = network_from({"members": [{"portfolio": [ONE, ONE]}, {"portfolio": [ONE]}]})
    assert isinstance(network, Ensemble) and len(classifiers_in(network)) == 3
    inference(network)
    with torch.inference_mode():
        first, second = (member(CHANNELS) for member in network.members)
        torch.testing.assert_close(network(CHANNELS), (first + second) / 2)


def test_members_of_other_classes_or_none_are_refused():
    with pytest.raises(ValueError, match="all of the same classes"):
        Portfolio([ONE, ONE | {"head": {"n_classes": 2}}])


def test_saliency_of_a_portfolio_is_the_mean_of_maps_that_exist():
    channels = torch.zeros(1, 1, 32, 32, dtype=torch.uint8)
    channels[..., 8:16, 16:24] = 255
    one = mean_saliency([blob_network()], channels, 1, "gradcam", site=None)
    both = mean_saliency([blob_network(), blob_network()], channels, 1, "gradcam", site=None)
    torch.testing.assert_close(torch.from_numpy(both.maps), torch.from_numpy(one.maps))
    assert both.maps.max() == 1
