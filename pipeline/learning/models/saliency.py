"""Where a network looks: maps of what spoke for a class, by MONAI's GradCAM or by hiding parts of the image."""

import warnings
from collections.abc import Iterator
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

PATCH = 1 / 6  # of an image's side, hidden at a time; half of it is the step
NO_MAP = "none"


@dataclass(frozen=True)
class Saliency:
    """What spoke for a class, and how it was found.

    Attributes
    ----------
    maps : (S, H, W) float32
        Of each instance, 0 (did not speak for it) to 1 (most of the case); all 0 if `method` is "none". A volume
        that is seen whole has one for each slice.
    method : {"gradcam", "occlusion", "none"}
        "none" where nothing spoke for the class, be it by gradients or by hiding.
    attention : (S,) float32
        How much each instance counted; sums to one. Of a volume that is seen whole, how much of the map is in it.
    """

    maps: Floats
    method: str
    attention: Floats


class _Evaluating(nn.Module):
    """From channels to logits, without test-time augmentation and without adaptation to the case."""

    def __init__(self, network: Classifier, site: str | None) -> None:
        super().__init__()
        self.network = network
        self.site = site
        self.train(network.training)  # MONAI puts back the mode that it finds here, through and through

    def forward(self, channels: Tensor) -> Tensor:
        return self.network.plain_logits(channels, self.site)


class _OneInstance(nn.Module):
    """One instance of a case, as images (N, C, H, W), to logits (N, C'); the other instances stay what they are."""

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
    """Find what spoke for a class in a case.

    GradCAM whose map is zero everywhere (nothing with a positive gradient was active) gives way to occlusion, as it
    does where a network's tokens are no image; a case where occlusion shows nothing either has no map.

    Parameters
    ----------
    network : Classifier
        In evaluation mode, with gradients.
    channels : (1, P, H, W) uint8
    asked : int
        The logit that is asked.
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


def _gradcam(network: Classifier, channels: Tensor, asked: int, site: str | None) -> Floats | None:
    """Weight the maps of the first pooled stage by their mean gradients (Selvaraju et al. 2017, equations 1 and 2).

    Of all that the head sees, that stage's maps are the last through which everything passes. The deepest ones alone
    would not do: where several stages are pooled, most of the evidence may go around them.
    """
    from monai.visualize import GradCAM  # here and below: it takes seconds

    encoder = network.encoder
    if encoder.pooled != slice(None) or _is_column(network, channels):
        return None
    copy = deepcopy(network)  # MONAI never takes its hooks off again
    found = GradCAM(_Evaluating(copy, site), f"network.encoder.stages.{encoder.first_pooled}")
    with _quiet():
        raw: Tensor = found.compute_map(channels, class_idx=asked).detach()
    size = tuple(channels.shape[2:])
    if raw.ndim == 5:  # a volume that is seen whole: (1, 1, D, h, w)
        depth = channels.shape[1] // network.instances.channels
        return interpolate(raw, size=(depth, *size), mode="trilinear")[0, 0].numpy()
    return interpolate(raw, size=size, mode="bilinear")[:, 0].numpy()


def _is_column(network: Classifier, channels: Tensor) -> bool:
    """Tell whether the maps are tokens in one column, without a place in the image."""
    with torch.no_grad():
        maps = network.activations(channels[..., :64, :64], last=network.encoder.first_pooled + 1).maps
    return maps.shape[-1] == 1 and maps.shape[-2] > 1


def _occlusion(network: Classifier, channels: Tensor, asked: int, site: str | None, *, instances: int) -> Floats:
    """Hide one patch after the other of the instance that says most (Zeiler and Fergus 2014, section 2.1).

    What the logit loses is what the patch said for it. Of a volume that is seen whole, patches go through all slices.
    """
    from monai.visualize import OcclusionSensitivity

    images = channels.reshape(instances, -1, *channels.shape[2:]).float()
    with torch.no_grad(), _quiet():
        evaluates = [_instance_model(network, channels, number, site) for number in range(len(images))]
        before = float(evaluates[0](images[:1])[0, asked])
        hidden = images.mean(dim=(1, 2, 3), keepdim=True).expand_as(images)
        without = [float(evaluate(one[None])[0, asked]) for evaluate, one in zip(evaluates, hidden, strict=True)]
        number = int(np.argmin(without))
        evaluate, image = evaluates[number], images[number : number + 1]
        hide: Any = OcclusionSensitivity(
            evaluate,
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
    """Keep back what torch says about how MONAI 1.6 indexes and hooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _instance_model(network: Classifier, channels: Tensor, number: int, site: str | None) -> nn.Module:
    one = network.encoder.volumetric or channels.shape[1] == network.instances.channels
    return _Evaluating(network, site) if one else _OneInstance(network, channels, number, site)
