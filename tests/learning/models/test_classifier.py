import pytest
import torch

from pipeline.learning.models.attention import AttentionPool
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.trainable_top import TrainableTop
from tests.conftest import classifier


def network(in_channels=3, n_classes=2):
    return inference(classifier(in_channels, n_classes, pooled_stages=3))


@torch.no_grad()
@pytest.mark.parametrize(("channels", "in_channels"), [(1, 1), (3, 3), (12, 3)])
def test_images_and_volumes_of_any_size_go_through_one_network(channels, in_channels):
    for size in (32, 64):
        assert network(in_channels, 4)(torch.randint(0, 255, (2, channels, size, size))).shape == (2, 4)


@torch.no_grad()
def test_a_volume_is_a_bag_of_neighbouring_slices_in_order():
    model = network()
    volume = torch.randint(0, 255, (1, 6, 32, 32)).float()
    bag = model.activations(volume, last=0).maps
    assert bag.shape == (1, 2, 3, 32, 32)
    torch.testing.assert_close(bag[0, 1], (volume[0, 3:] / 255 - 0.5) / 0.5)


@torch.no_grad()
def test_the_order_of_the_instances_does_not_change_the_logits():
    model = network()
    torch.nn.init.normal_(model.attention.score.weight)
    volume = torch.randint(0, 255, (1, 12, 32, 32)).float()
    turned = volume.reshape(1, 4, 3, 32, 32).flip(1).reshape(1, 12, 32, 32)
    torch.testing.assert_close(model(turned), model(volume), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_attention_starts_as_the_mean_and_sums_to_one():
    pool = AttentionPool(8)
    features = torch.randn(3, 5, 8)
    pooled, attention = pool(features)
    torch.testing.assert_close(pooled, features.mean(dim=1))
    torch.nn.init.normal_(pool.score.weight)
    pooled, attention = pool(features)
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(3))
    assert not torch.allclose(pooled, features.mean(dim=1))


@torch.no_grad()
def test_the_trainable_top_on_frozen_activations_is_the_whole_network():
    model = network()
    volume = torch.randint(0, 255, (2, 6, 64, 64)).float()
    for first in range(len(model.encoder.stages) + 1):
        top = TrainableTop(model, first)
        frozen = model.activations(volume, last=first)
        torch.testing.assert_close(top(frozen.maps, frozen.pooled), model(volume), rtol=1e-4, atol=1e-5)


def test_the_trainable_top_trains_the_last_stages_and_nothing_before_them():
    model = network()
    TrainableTop(model, 2)
    trained = {name.split(".")[2] for name, p in model.named_parameters() if p.requires_grad and "stages" in name}
    assert trained == {str(n) for n in range(2, len(model.encoder.stages))}


@torch.no_grad()
def test_a_score_does_not_depend_on_the_cases_beside_it():
    model = network()
    cases = torch.randint(0, 255, (4, 6, 64, 64)).float()
    torch.testing.assert_close(torch.cat([model(case[None]) for case in cases]), model(cases), rtol=1e-4, atol=1e-5)
