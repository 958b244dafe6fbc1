import copy

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.learning.models.encoder import inference
from pipeline.learning.models.probe import Probe
from pipeline.learning.models.sites import SiteValues, varying
from pipeline.learning.training.frozen import Case, frozen_views, mean_features
from tests.conftest import classifier


def network(per_site, sites=("a", "b"), **parts):
    torch.manual_seed(0)
    return inference(classifier(pooled_stages=3, sites={"names": sites, "per_site": per_site}, **parts))


def shifted(model, site, by):
    values = {name: value + by for name, value in varying(model, model_kind(model)).items()}
    model.site_values.remember(site, values)


def model_kind(model):
    return "features" if "feature_mean" in model.site_values.names else "normalisation"


def channels(seed=0):
    return torch.randint(0, 255, (1, 6, 64, 64), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_a_site_takes_its_own_values_and_any_other_those_of_the_unknown():
    values = SiteValues(["a"], {"x": torch.zeros(2)})
    values.remember("a", {"x": torch.ones(2)})
    for site, expected in (("a", 1.0), (None, 0.0), ("moon", 0.0)):
        network = nn.Module()
        network.register_buffer("x", torch.full((2,), 7.0))
        with values.of(site, network):
            assert network.x.tolist() == [expected] * 2
        assert network.x.tolist() == [7.0] * 2
    values.write_unknown(network)
    assert network.x.tolist() == [0.0] * 2


@pytest.mark.parametrize(("per_site", "by"), [("features", 0.5), ("normalisation", 0.3)])
def test_logits_follow_the_site_whatever_was_predicted_before(per_site, by):
    model = network(per_site)
    shifted(model, "b", by)
    plain = network(per_site)(channels())
    for site, moved in (("b", True), ("a", False), ("b", True), (None, False)):
        assert torch.allclose(model(channels(), site), plain, atol=1e-6) != moved


@pytest.mark.parametrize("per_site", ["features", "normalisation"])
def test_values_of_sites_are_saved_with_the_network(per_site):
    model, other = network(per_site), network(per_site)
    shifted(model, "b", 0.2)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(model(channels(), "b"), other(channels(), "b"))


@pytest.mark.parametrize("per_site", ["features", "normalisation"])
def test_a_site_with_its_own_values_adapts_at_test_time_with_all_views(per_site):
    """Gradients pass through several runs of the network, whose buffers are exchanged in between."""
    model = network(per_site, test_time={"tent_steps": 1, "tent_rate": 1e-2, "tta": ["mirror"]})
    shifted(model, "b", 0.2)
    one, other = model(channels(), "b"), model(channels(), "a")
    assert torch.equal(one, model(channels(), "b")) and not torch.allclose(one, other)


def test_the_default_site_is_assumed_where_none_is_given():
    sites = {"names": ("a", "b"), "per_site": "features", "default": "b"}
    model = inference(classifier(pooled_stages=3, sites=sites))
    shifted(model, "b", 0.5)
    assert torch.equal(model(channels()), model(channels(), "b"))
    assert not torch.allclose(model(channels()), model(channels(), "a"))


def test_a_network_that_is_the_same_everywhere_saves_nothing_for_sites():
    assert not [name for name in classifier().state_dict() if name.startswith("site_values")]


def test_only_batch_normalisation_varies_with_normalisation():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
    assert sorted(varying(model, "normalisation")) == ["1.running_mean", "1.running_var"]


@pytest.mark.parametrize("per_site", ["features", "normalisation"])
def test_a_probe_on_frozen_features_is_the_network_at_each_site(per_site):
    """The probe is fitted on features each of which came through its own site; scoring has to agree with it."""
    model = network(per_site)
    shifted(model, "a", 0.4)
    shifted(model, "b", -0.2)
    first = len(model.encoder.stages)
    cases = [(site, channels(number)) for number, site in enumerate(["a", "b", "moon"])]
    todo = [Case(site, {str(number): lambda case=case: case}) for number, (site, case) in enumerate(cases)]
    maps, pooled = frozen_views(model, todo, first)
    features = mean_features(model, maps[0], pooled[0], first)
    rng, width = np.random.default_rng(0), features.shape[1]
    probe = Probe(
        rng.normal(size=(2, width)), np.array([0.5, -0.5]), rng.normal(size=width), 1 + rng.random(width), 1.0
    )
    expected = (features - probe.mean) / probe.scale @ probe.weight.T + probe.bias
    model.start_from(probe)
    for (site, case), logits in zip(cases, expected, strict=True):
        found = model(case, site)[0].numpy()
        np.testing.assert_allclose(found, logits, rtol=2e-2, atol=0.2)  # frozen in half precision
