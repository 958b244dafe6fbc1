"""Rename the weights of other libraries to timm's names; a layout is recognised by the names in the file."""

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]  # pattern of a name, and what replaces it

UNUSED = ("mask_token", "op_threshs")  # of DINO's pretraining and torchxrayvision's classifier
SEQUENTIAL = ("conv1", "bn1", "", "", "layer1", "layer2", "layer3", "layer4")  # children of torchvision's ResNet
DINO: Rules = (  # transformers to the original repositories, for DINOv2 and DINOv3
    (r"^((dinov2|model|backbone)\.)+", ""),
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
    (r"^(encoder\.)?layer\.", "blocks."),
    (r"\.attention\.(attention\.)?(query|q_proj)\.", ".attn.q."),
    (r"\.attention\.(attention\.)?(key|k_proj)\.", ".attn.k."),
    (r"\.attention\.(attention\.)?(value|v_proj)\.", ".attn.v."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)
DINOV3: Rules = (
    (r"^register_tokens$", "storage_tokens"),
    (r"\.mlp\.gate_proj\.", ".mlp.w1."),
)


def to_timm(state: Mapping[str, Tensor], model: Any) -> State:
    """Bring weights to the names and shapes of a timm network.

    Parameters
    ----------
    state : mapping
        Weights as timm, torchvision, torchxrayvision, transformers (DINOv2, DINOv3), open_clip (timm towers and its own
        ViT), Meta (DINOv2, DINOv3), RadImageNet or MedImageInsight stores them, with or without a classifier.
    model : nn.Module
        The timm network, without a classifier.

    Returns
    -------
    dict
        Under timm's names where the layout is known, otherwise as it came.

    Raises
    ------
    ValueError
        If the weights have something that the network lacks, or timm cannot convert them.
    """
    found = dict(state)
    for marks, convert in LAYOUTS:
        if any(re.match(marks, name) for name in found):
            found = convert(found)
            break
    found = _by_timm(_biases_of_queries(found, model), model)
    return {name: value for name, value in found.items() if name not in UNUSED}


def _by_timm(state: State, model: Any) -> State:
    """Let timm convert what it knows: original repositories, and position embeddings of another size."""
    convert: Callable[..., State] | None = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or model.state_dict().keys() <= state.keys():
        return state
    try:
        found = convert(state, model)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(f"the weights are not of this architecture ({error})") from error
    return {re.sub(r"^norms\.", "head.norm.", name): value for name, value in found.items()}


def _biases_of_queries(state: State, model: Any) -> State:
    """Drop biases that are zero where DINOv3's network has none; timm has a network with and one without them."""
    biased = hasattr(model, "rope") and not any(name.endswith("q_bias") for name in model.state_dict())
    names = [name for name in state if name.endswith("attn.qkv.bias")] if biased else []
    if any(state[name].any() for name in names):
        raise ValueError("they have biases of queries and values; choose the encoder whose name has '_qkvb'")
    return {name: value for name, value in state.items() if name not in names}


def _of_a_tower(state: State) -> State:
    """Take the timm network out of an open_clip model."""
    prefix = "visual.trunk."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _of_torchvisions_children(state: State) -> State:
    """Name the children of a ResNet; RadImageNet stores nn.Sequential(*resnet50.children())."""
    found = {}
    for name, value in state.items():
        _, number, rest = name.split(".", 2)
        found[f"{SEQUENTIAL[int(number)]}.{rest}"] = value
    return found


def _of_medimageinsight(state: State) -> State:
    """Name the DaViT of MedImageInsight as that of Florence-2, which timm converts."""
    prefix = "image_encoder."
    return {f"vision_tower.{name.removeprefix(prefix)}": v for name, v in state.items() if name.startswith(prefix)}


def _of_transformers(state: State) -> State:
    """Rename a DINOv2, which has position embeddings, or a DINOv3, which has none, to the names of its repository."""
    rules = DINO
    if not any(name.endswith("position_embeddings") for name in state):
        gated = any(".mlp.gate_proj." in name for name in state)
        mlp = (("up_proj", "w2"), ("down_proj", "w3")) if gated else (("up_proj", "fc1"), ("down_proj", "fc2"))
        rules = (*DINO, *DINOV3, *((rf"\.mlp\.{old}\.", f".mlp.{new}.") for old, new in mlp))
    return _fused({_renamed(name, rules): value for name, value in state.items()})


def _renamed(name: str, rules: Rules) -> str:
    for pattern, new in rules:
        name = re.sub(pattern, new, name)
    return name


def _fused(state: State) -> State:
    """Join the weights of queries, keys and values; a missing bias, as of DINOv3's keys, is zero."""
    found = {name: value for name, value in state.items() if not re.search(r"\.attn\.[qkv]\.", name)}
    for name, query in state.items():
        if ".attn.q." in name:
            parts = [state.get(name.replace(".attn.q.", f".attn.{part}."), torch.zeros_like(query)) for part in "qkv"]
            found[name.replace(".attn.q.", ".attn.qkv.")] = torch.cat(parts)
    return found


LAYOUTS: tuple[tuple[str, Callable[[State], State]], ...] = (
    (r"visual\.trunk\.", _of_a_tower),
    (r"backbone\.[0-7]\.", _of_torchvisions_children),
    (r"image_encoder\.convs\.", _of_medimageinsight),
    (r"(dinov2\.|model\.|backbone\.)*(encoder\.)?layer\.\d+\.attention\.", _of_transformers),
)
