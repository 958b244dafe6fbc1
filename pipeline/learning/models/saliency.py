"""Saliency maps: image regions that support a class, by MONAI's GradCAM or by occlusion."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.learning.models.classifier import Classifier

Floats = NDArray[np.float32]
Method = Literal["gradcam", "occlusion"]

PATCH = 1 / 6  # side of an occluded patch relative to the image; the step is half of it
NO_MAP = "none"


@dataclass(frozen=True)
class Saliency:
    """Saliency maps of a case for one class.

    Attributes
    ----------
    maps : (S, H, W) float32
        Of each instance, from 0 (no support for the class) to 1 (the maximum of the case); all 0 if `method` is
        "none". A volume that forms one instance has one map per slice.
    method : {"gradcam", "occlusion", "none"}
        The method used; "none" if neither found any support for the class.
    attention : (S,) float32
        Attention of each instance; sums to one. For a volume that forms one instance, each slice's share of the map.
    """

    maps: Floats
    method: str
    attention: Floats


class _PlainLogits(nn.Module):
    """From channels to logits, without test-time augmentation and without adaptation to the case."""

    def __init__(self, network: Classifier, site: str | None) -> None:
        super().__init__()
        self.network = network
        self.site = site
        self.train(network.training)  # MONAI restores the mode that it finds here, for all modules

    def forward(self, channels: Tensor) -> Tensor:
        return self.network.plain_logits(channels, self.site)


class _OneInstance(nn.Module):
    """From variants (N, C, H, W) of one instance of a case to logits (N, C'); the other instances are fixed."""

    def __init__(self, network: Classifier, channels: Tensor, number: int, site: str | None) -> None:
        super().__init__()
        self.network = network
        self.number = number
        self.site = site
        self.features = network.features(network.activations(channels, site=site), site=site)
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        bags = self.features.repeat(len(images), 1, 1)
        bags[:, self.number] = self._features(images)[:, 0]
        logits: Tensor = self.network.head(self.network.attention(bags)[0])
        return logits

    def _features(self, images: Tensor) -> Tensor:
        return self.network.features(self.network.activations(images, site=self.site), site=self.site)


def saliency(
    network: Classifier, channels: Tensor, asked: int, method: Method = "gradcam", *, site: str | None = None
) -> Saliency:
    """Find the regions of a case that support a class.

    Occlusion replaces GradCAM if its map is zero everywhere (no active unit has a positive gradient), and for networks
    whose maps are tokens. If occlusion finds no support either, there is no map.

    Parameters
    ----------
    network : Classifier
        In evaluation mode, with gradients.
    channels : (1, P, H, W) uint8
    asked : int
        Number of the class whose logit is explained.
    method : {"gradcam", "occlusion"}
    site : str, optional
        Site of the case.
    """
    with torch.no_grad():
        features = network.features(network.activations(channels, site=site), site=site)
        attention = network.attention(features)[1][0].numpy()
    maps = _gradcam(network, channels, asked, site) if method == "gradcam" else None
    used: Method = "gradcam"
    if maps is None or not maps.max() > 0:
        maps, used = _occlusion(network, channels, asked, site, instances=len(attention)), "occlusion"
    if maps.max() > 0:
        whole = len(maps) != len(attention)
        share = maps.sum(axis=(1, 2)) / maps.sum() if whole else attention
        return Saliency(maps / maps.max(), used, share.astype(np.float32))
    return Saliency(np.zeros((len(attention), *channels.shape[2:]), dtype=np.float32), NO_MAP, attention)


def mean_saliency(
    networks: Sequence[Classifier], channels: Tensor, asked: int, method: Method, *, site: str | None
) -> Saliency:
    """Average the saliency maps of the members of a model; arguments as for `saliency`.

    Members whose map is zero everywhere do not count. The attention is that of the first member.
    """
    found = [saliency(network, channels, asked, method, site=site) for network in networks]
    seen = [one for one in found if one.method != NO_MAP] or found
    maps = np.asarray(np.mean([one.maps for one in seen], axis=0), dtype=np.float32)
    return Saliency(np.asarray(maps / max(float(maps.max()), 1e-12)), seen[0].method, found[0].attention)


def _gradcam(network: Classifier, channels: Tensor, asked: int, site: str | None) -> Floats | None:
    """Weight the maps of the first pooled stage by their mean gradients (Selvaraju et al. 2017, equations 1 and 2).

    All features that the head sees pass through the maps of that stage. The deepest maps alone do not suffice: if
    several stages are pooled, most of the evidence may bypass them.
    """
    from monai.visualize import GradCAM  # imported here and below because it takes seconds

    encoder = network.encoder
    if encoder.pooled != slice(None) or _is_column(network, channels):
        return None
    copy = deepcopy(network)  # MONAI does not remove its hooks
    found = GradCAM(_PlainLogits(copy, site), f"network.encoder.stages.{encoder.first_pooled}")
    with _quiet():
        raw: Tensor = found.compute_map(channels, class_idx=asked).detach()
    size = tuple(channels.shape[2:])
    if raw.ndim == 5:  # a volume that forms one instance: (1, 1, D, h, w)
        depth = channels.shape[1] // network.instances.channels
        return interpolate(raw, size=(depth, *size), mode="trilinear")[0, 0].numpy()
    return interpolate(raw, size=size, mode="bilinear")[:, 0].numpy()


def _is_column(network: Classifier, channels: Tensor) -> bool:
    """Tell whether the maps are tokens in one column, without a position in the image."""
    with torch.no_grad():
        maps = network.activations(channels[..., :64, :64], last=network.encoder.first_pooled + 1).maps
    return maps.shape[-1] == 1 and maps.shape[-2] > 1


def _occlusion(network: Classifier, channels: Tensor, asked: int, site: str | None, *, instances: int) -> Floats:
    """Occlude one patch after another of the most important instance (Zeiler and Fergus 2014, section 2.1).

    The decrease of the logit is the support by the patch. In a volume that forms one instance, patches span all slices.
    """
    from monai.visualize import OcclusionSensitivity

    images = channels.reshape(instances, -1, *channels.shape[2:]).float()
    with torch.no_grad(), _quiet():
        models = [_instance_model(network, channels, number, site) for number in range(len(images))]
        before = float(models[0](images[:1])[0, asked])
        hidden = images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images)
        without = [float(model(one[None])[0, asked]) for model, one in zip(models, hidden, strict=True)]
        number = int(np.argmin(without))
        model, image = models[number], images[number : number + 1]
        hide: Any = OcclusionSensitivity(
            model,
            mask_size=max(round(channels.shape[-1] * PATCH), 2),
            n_batch=16,
            verbose=False,
            mode="mean_img",
            overlap=0.5,
            activate=False,
        )
        lost = before - np.asarray(hide(image)[0][0, asked])
    maps = np.zeros((instances, *channels.shape[2:]), dtype=np.float32)
    maps[number] = np.clip(lost, 0, None)
    return maps


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence torch's warnings about the indexing and hooks of MONAI 1.6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _instance_model(network: Classifier, channels: Tensor, number: int, site: str | None) -> nn.Module:
    one = network.encoder.volumetric or channels.shape[1] == network.instances.channels
    return _PlainLogits(network, site) if one else _OneInstance(network, channels, number, site)
