"""Build encoders from timm backbones: cut into stages, with weights fitted to channels and depth."""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.learning.models.encoder import LAST, Encoder, VolumeEncoder
from pipeline.learning.models.encoder_catalogue import CATALOGUE, architecture_of
from pipeline.learning.models.families import NotInflatable, UnknownEncoder, cutter_of, options_of
from pipeline.learning.models.inflation import inflate
from pipeline.learning.models.layouts import to_timm
from pipeline.learning.models.volume_backbones import DEPTH, VOLUMES, of_the_encoder

OURS = "encoder."  # prefix of an encoder's weights in the state of a classifier


def build_encoder(
    name: str,
    in_channels: int,
    state: Mapping[str, Tensor] | None = None,
    *,
    pooled_stages: int = 1,
    filter_depth: int = 1,
    colour: bool = False,
) -> Encoder:
    """Build an encoder by its name.

    Parameters
    ----------
    name : str
        A name of the catalogue, or a timm model of `families.FAMILIES`.
    in_channels : int
        Channels of an image; weights for another number are fitted to it (see `fit_channels`).
    state : mapping, optional
        Pretrained weights in a layout of `layouts.to_timm` or under the names of a `Classifier` ("encoder.stages...");
        weights after the features are ignored. Two-dimensional kernels are loaded before the encoder is inflated, those
        of an inflated encoder afterwards. Without it the weights are random.
    pooled_stages : int
        How many of the last stages give features; 1 gives the features of timm's own classifier.
    filter_depth : int
        Depth of the filters in slices, odd: 1 for images, more for volumes (see `inflation.inflate`); 3 for networks
        that were pretrained on volumes.
    colour : bool
        Whether the first three channels are red, green and blue.

    Raises
    ------
    UnknownEncoder
        If the name or its family is unknown; the subclass NotInflatable if filters cannot be `filter_depth` deep.
    ValueError
        If the weights do not fit the network; the message names them.
    """
    found = architecture_of(name)
    if found in VOLUMES:
        return _volume_encoder(name, in_channels, state or {}, pooled_stages=pooled_stages, filter_depth=filter_depth)
    if not timm.is_model(found):
        raise UnknownEncoder(
            f"timm knows no model '{name}', nor does the catalogue; `timm.list_models()` and "
            "`medadapt encoders --list` list what they know"
        )
    ours = _ours(state or {})
    deep = any(value.ndim == 5 for value in ours.values())  # loaded into the inflated encoder
    with NoRandomWeights() if state is not None and not deep else nullcontext():
        model: Any = timm.create_model(found, in_chans=in_channels, num_classes=0, **options_of(found))
    cut, first = cutter_of(model, name), _input_layer(model)
    if state is not None and not ours:
        _load(model, _place(model, first), _pretrained(model, state, name), name, colour=colour)
    encoder = Encoder(cut(model), in_channels, pooled_stages)
    place = _place(encoder, first)
    if ours and not deep:
        _load(encoder, place, ours, name)
    if filter_depth != 1:
        encoder = _inflated(encoder, filter_depth, name)
    if deep:
        _load(encoder, place, ours, f"{name} at adapt.filter_depth {filter_depth}")
    return encoder


class NoRandomWeights(TorchFunctionMode):
    """Leave new weights as the memory holds them, since pretrained ones replace all of them.

    To draw the random weights of a large transformer takes longer than to read those of its file.
    """

    DRAWS = (
        Tensor.uniform_,
        Tensor.normal_,
        Tensor.erfinv_,
        nn.init.uniform_,
        nn.init.normal_,
        nn.init.kaiming_uniform_,
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor of a random initialisation as it is, and call every other function."""
        given = kwargs or {}
        if func in self.DRAWS:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _volume_encoder(
    name: str, in_channels: int, state: Mapping[str, Tensor], *, pooled_stages: int, filter_depth: int
) -> Encoder:
    if filter_depth != DEPTH:
        raise UnknownEncoder(f"'{name}' was pretrained on volumes; set adapt.filter_depth to {DEPTH}")
    backbone, ours = VOLUMES[architecture_of(name)](in_channels), _ours(state)
    if state and not ours:
        _load(backbone.network, _place(backbone.network, backbone.first), of_the_encoder(state), name)
    encoder = VolumeEncoder(backbone.cut(), in_channels, pooled_stages)
    if ours:
        _load(encoder, _place(encoder, backbone.first), ours, name)
    return encoder


def fit_channels(kernel: Tensor, in_channels: int, colour: bool = False) -> Tensor:
    """Fit the first layer's weights to another number of channels; its response to a grey image stays the same.

    If the number is a multiple, as from colours to three slices of colours, the weights are repeated and divided by
    the number of repeats. Otherwise every channel gets an equal share of their sum, because no channel is red; if the
    first ones are colours, those keep their ratio, and a mask behind them gets their mean.

    Parameters
    ----------
    kernel : (O, I, h, w) or (O, I, d, h, w)

    Returns
    -------
    (O, in_channels, ...) Tensor
        Its sum over the channels is that of `kernel`.
    """
    present = kernel.shape[1]
    if in_channels == present:
        return kernel
    if colour and in_channels > present:
        mean = kernel.float().mean(dim=1, keepdim=True)
        fitted = torch.cat([kernel.float(), *[mean] * (in_channels - present)], dim=1) * (present / in_channels)
    elif in_channels % present == 0:
        fitted = torch.cat([kernel.float()] * (in_channels // present), dim=1) * (present / in_channels)
    else:
        fitted = torch.cat([kernel.float().sum(dim=1, keepdim=True)] * in_channels, dim=1) / in_channels
    return fitted.to(kernel.dtype)


def preprocessing_of(
    name: str, colour: bool = True, in_channels: int = 3
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Look up the mean and standard deviation of channels in [0, 1] with which an encoder's weights were trained.

    Colour images have one of each a channel, a mask behind the colours their mean; grey channels share one.
    """
    config: Any = CATALOGUE.get(name) or timm.get_pretrained_cfg(name)
    mean, std = (config.mean, config.std) if config else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    shared = (sum(mean) / len(mean),), (sum(std) / len(std),)
    if not colour or len(mean) == 1:
        return shared
    more = in_channels - len(mean)
    return (*mean, *shared[0] * more), (*std, *shared[1] * more)


def _ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the encoder out of the weights of a `Classifier`; of other weights nothing."""
    starts = {key.split(".")[1] for key in state if key.startswith(OURS)}
    ours = "stages" in starts and "stem" not in starts  # nnU-Net's encoder has a stem
    return {key.removeprefix(OURS): value for key, value in state.items() if ours and key.startswith(OURS)}


def _pretrained(model: Any, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    try:
        return _without_classifier(model, to_timm(state, model))
    except ValueError as error:
        raise ValueError(f"the weights do not fit {name}: {error}") from error


def _without_classifier(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    classifier = model.pretrained_cfg["classifier"]
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    around = {f"{head.rpartition('.')[0]}." for head in heads if "." in head}  # RepViT's has normalisations beside it
    kept = model.state_dict()
    return {
        key: value
        for key, value in state.items()
        if key in kept or not key.startswith((*(f"{head}." for head in heads), *around))
    }


def _input_layer(model: Any) -> nn.Conv2d:
    layer: nn.Conv2d = model.get_submodule(model.pretrained_cfg["first_conv"])
    return layer


def _place(network: nn.Module, wanted: nn.Module) -> str:
    places: dict[nn.Module, str] = {layer: place for place, layer in network.named_modules()}
    return places[wanted]


def _inflated(encoder: Encoder, filter_depth: int, name: str) -> Encoder:
    try:
        return inflate(encoder, filter_depth)
    except NotInflatable as error:
        cure = "set it to 1, or choose another adapt.encoder"
        raise NotInflatable(f"adapt.filter_depth: {name} cannot be inflated: {error}; {cure}") from error


def _load(network: nn.Module, place: str, state: dict[str, Tensor], name: str, *, colour: bool = False) -> None:
    """Load weights into a network; those of its first layer, at `place`, are fitted to its channels."""
    key, layer = f"{place}.weight", network.get_submodule(place)
    if key in state and state[key].ndim in LAST and isinstance(layer, nn.Conv2d | nn.Conv3d):
        state = state | {key: fit_channels(state[key], layer.in_channels, colour)}
    try:
        missing, unknown = network.load_state_dict(state, strict=False)
    except RuntimeError as error:  # of another shape
        raise ValueError(f"the weights do not fit {name}: {error}") from error
    if missing or unknown:
        parts = (("they lack", missing), ("it does not have", unknown))
        said = " and ".join(f"{what} {len(names)} names, such as {names[0]}" for what, names in parts if names)
        raise ValueError(f"the weights do not fit {name}: {said}")
