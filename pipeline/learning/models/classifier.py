"""The network: from one case of any number of channels or slices to one vector of logits.

A case is a stack of channels (B, P, H, W) with grey values from 0 to 255. It is cut into instances of a few channels
each: an image is one instance of its colour channels, a volume is a bag of instances of neighbouring slices. The
encoder computes the features of each instance, attention pools them over the instances, and the head gives logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.learning.models.attention import AttentionPool
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.encoder import Encoder, channels_last
from pipeline.learning.models.heads import build_head
from pipeline.learning.models.instances import InstanceCutter
from pipeline.learning.models.sites import FEATURES, PerSite, SiteValues, varying
from pipeline.learning.models.tent import adapted
from pipeline.learning.models.tta import TestTime, augmented_views

if TYPE_CHECKING:
    from pipeline.learning.models.probe import Probe


@dataclass(frozen=True)
class Activations:
    """Output of the first stages of an encoder for a batch of cases.

    Attributes
    ----------
    maps : (B, S, C, h, w)
        Feature maps of each instance at the stage where the run stopped.
    pooled : (B, S, w)
        Means of the pooled stages up to there; w may be 0.
    """

    maps: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class ModelOutput:
    """Output of the network for a batch of cases.

    Attributes
    ----------
    logits : (B, n_classes)
    features : (B, width)
        What the head sees: standardised and pooled over the instances.
    attention : (B, S)
        Weight of each instance; sums to one.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor


class Classifier(nn.Module):
    """Classify cases: cut instances, encode, standardise the features, pool by attention, apply the head.

    Every argument is a mapping of plain JSON values (only `encoder` may also be an `Encoder`), so that the network of
    a fold (`network.json`) and of a bundle (`network_def`) can be rebuilt from a file.

    Parameters
    ----------
    encoder : mapping or Encoder
        `name` (a timm name; weights are random), and optionally `pooled_stages` and `filter_depth`: arguments of
        `build_encoder`.
    instances : mapping
        `channels` of an instance, and optionally `mean`, `std` and `harmonise`: arguments of `InstanceCutter`.
    head : mapping
        `n_classes`, and optionally `kind` ("linear", "ordinal", "neighbours"), `n_cases` and `findings`: arguments of
        `build_head`.
    sites : mapping, optional
        `names` of the sites that have values of their own, and `per_site`: "normalisation" gives each site its own
        batch normalisation statistics, "features" its own mean and scale of the features. By default all sites share
        all values. `default` is the site that `forward` assumes if it is given
        none, for programs that call the network with channels only (MONAI: `--network_def#sites#default SITE`).
    test_time : mapping, optional
        `tta`, `tent_steps` and `tent_rate`: arguments of `TestTime`; by default a case is run once as it is.

    Examples
    --------
    >>> network = Classifier(
    ...     encoder={"name": "resnet18", "pooled_stages": 2},
    ...     instances={"channels": 3, "mean": [0.45], "std": [0.23]},
    ...     head={"n_classes": 2},
    ... )
    """

    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(
        self,
        encoder: Mapping[str, Any] | Encoder,
        instances: Mapping[str, Any],
        head: Mapping[str, Any],
        sites: Mapping[str, Any] | None = None,
        test_time: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(encoder, Encoder):
            encoder = build_encoder(in_channels=instances["channels"], **encoder)
        self.encoder = encoder
        self.instances = InstanceCutter(**instances, whole=encoder.volumetric)
        self.attention = AttentionPool(encoder.width)
        self.head: Any = build_head(encoder.width, **head)
        self.n_classes = int(head["n_classes"])
        self.test_time = TestTime(**(test_time or {}))
        self.register_buffer("feature_mean", torch.zeros(encoder.width))
        self.register_buffer("feature_scale", torch.ones(encoder.width))
        self._set_sites(**(sites or {}))

    def _set_sites(
        self, names: Sequence[str] = (), per_site: PerSite | None = None, default: str | None = None
    ) -> None:
        self.default_site = default
        self.site_values = SiteValues(names, varying(self, per_site) if per_site else {})

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.feature_mean.device

    def forward(self, channels: Tensor, site: str | None = None) -> Tensor:
        """Compute logits (B, n_classes) of channels (B, P, H, W) with grey values from 0 to 255; see `outputs`."""
        return self.outputs(channels, self.default_site if site is None else site).logits

    def outputs(self, channels: Tensor, site: str | None = None) -> ModelOutput:
        """Compute logits, features and attention of cases.

        Parameters
        ----------
        channels : (B, P, H, W)
            Grey values from 0 to 255.
        site : str, optional
            Site of the cases. None or an unknown site takes the values for unknown sites.

        Returns
        -------
        ModelOutput
            Its logits are means over the test-time augmentations. With `tent_steps` each case is run by a network
            that was adapted to this case alone.
        """
        if not self.test_time.tent_steps:
            return self._output(channels, site)
        found = []
        for case in channels.split(1):
            with adapted(
                self,
                case,
                steps=self.test_time.tent_steps,
                learning_rate=self.test_time.tent_rate,
                logits_of=lambda one: self._output(one, site).logits,
            ):
                found.append(self._output(case, site))
        parts = [[getattr(one, name) for one in found] for name in ("logits", "features", "attention")]
        return ModelOutput(*map(torch.cat, parts))

    def of_members(self, channels: Tensor, site: str | None = None) -> list[ModelOutput]:
        """Compute the output of each member, as a `Portfolio` does; this network is its only one."""
        return [self.outputs(channels, site)]

    def joint(self, found: Sequence[ModelOutput]) -> ModelOutput:
        """Join the outputs of the members, as a `Portfolio` does."""
        return found[0]

    def plain_logits(self, channels: Tensor, site: str | None = None) -> Tensor:
        """Compute logits (B, n_classes) of channels (B, P, H, W) without test-time augmentation or adaptation."""
        return self.logits_from(self.activations(channels, site=site), site=site)

    def activations(self, channels: Tensor, last: int | None = None, site: str | None = None) -> Activations:
        """Run the first `last` stages (None: all) on every instance of channels (B, P, H, W)."""
        images = self.instances(channels)
        with self.site_values.of(site, self):
            maps, pooled = self.encoder.run(images, images.new_zeros(images.shape[0], 0), last=last)
        bag = (channels.shape[0], images.shape[0] // channels.shape[0])
        return Activations(maps.reshape(*bag, *maps.shape[1:]), pooled.reshape(*bag, pooled.shape[1]))

    def features(self, activations: Activations, first: int | None = None, site: str | None = None) -> Tensor:
        """Run the stages from `first` on (None: all are done) and standardise: (B, S, width)."""
        maps, pooled = activations.maps.flatten(0, 1), activations.pooled.flatten(0, 1)
        if first is not None:
            with self.site_values.of(site, self):
                _, pooled = self.encoder.run(channels_last(maps), pooled, first=first)
        return self.standardised(pooled, site).reshape(*activations.maps.shape[:2], self.encoder.width)

    def standardised(self, pooled: Tensor, site: str | None = None) -> Tensor:
        """Subtract the mean of each feature of (..., width) and divide by its scale, by the values of a site."""
        with self.site_values.of(site, self):
            return (pooled - self.feature_mean) / self.feature_scale

    def logits_from(self, activations: Activations, first: int | None = None, site: str | None = None) -> Tensor:
        """Compute logits (B, n_classes) from activations before stage `first` (None: after the last stage)."""
        pooled, _ = self.attention(self.features(activations, first, site))
        logits: Tensor = self.head(pooled)
        return logits

    @torch.no_grad()
    def compose_standardisation(self, mean: NDArray[np.float64], scale: NDArray[np.float64]) -> None:
        """Follow the standardisation of the features by another one, (x - mean) / scale, each (width,)."""
        present = [(self.feature_mean, self.feature_scale)]
        if FEATURES[0] in self.site_values.names:
            present = list(zip(*(self.site_values.all_of(name) for name in FEATURES), strict=True))
        for old_mean, old_scale in present:
            old_mean += old_scale * torch.from_numpy(mean).to(old_mean)
            old_scale *= torch.from_numpy(scale).to(old_scale)
        self.site_values.write_unknown(self)

    def start_from(self, probe: "Probe") -> None:
        """Take a linear probe: its weights become the head, its standardisation follows the present one."""
        self.compose_standardisation(probe.mean, probe.scale)
        self.head.take(probe)

    def _output(self, channels: Tensor, site: str | None) -> ModelOutput:
        features, attention = self.attention(self.features(self.activations(channels, site=site), site=site))
        views = augmented_views(channels, self.test_time.tta)
        logits = [self.head(features), *(self.plain_logits(view, site) for view in views)]
        return ModelOutput(torch.stack(logits).mean(dim=0), features, attention)
