import pytest
import timm
import torch

from pipeline.learning.training.lora import low_rank


def blocks():
    return timm.create_model("test_vit").blocks[-1:].eval()


def test_an_update_starts_at_zero_and_is_merged_into_the_weights():
    stage, tokens = blocks(), torch.randn(2, 5, 64)
    before, shapes = stage(tokens), {name: value.shape for name, value in stage.state_dict().items()}
    with low_rank([stage], 2, seed=0):
        torch.testing.assert_close(stage(tokens), before)
        for name, value in stage.named_parameters():
            if name.endswith(".up"):
                torch.nn.init.normal_(value.data)
        during = stage(tokens)
    assert not torch.allclose(during, before)
    torch.testing.assert_close(stage(tokens), during)
    assert {name: value.shape for name, value in stage.state_dict().items()} == shapes


def test_only_a_few_numbers_are_trained_and_the_update_has_its_rank():
    stage = blocks()
    weight = stage[0].attn.qkv.weight.detach().clone()
    with low_rank([stage], 2, seed=0):
        trained = [(name, value) for name, value in stage.named_parameters() if value.requires_grad]
        assert trained and all(name.endswith((".down", ".up")) for name, _ in trained)
        stage(torch.randn(2, 5, 64)).square().sum().backward()
        with torch.no_grad():
            for _, value in trained:
                value.sub_(0.1 * (value.grad + 1))
    moved = stage[0].attn.qkv.weight - weight
    assert torch.linalg.matrix_rank(moved, rtol=1e-3) == 2


def test_no_rank_leaves_the_stages_alone():
    stage = blocks()
    with low_rank([stage], 0, seed=0):
        assert all(value.requires_grad for value in stage.parameters())


def test_convolutions_are_refused():
    with pytest.raises(ValueError, match="no attention"), low_rank([timm.create_model("test_resnet").layer4], 2, 0):
        pass
