"""The network: one case in, one vector of logits out, whatever the case is made of.

A case is a stack of channels (B, P, H, W) with grey values from 0 to 255. It is cut into instances of a few channels
each: a image is one instance of its colour channels, a volume is a bag of instances of three neighbouring
slices. The encoder looks at each instance, attention weighs them, a linear head decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.encoder import Encoder, channels_last
from pipeline.learning.models.harmonise import Harmoniser
from pipeline.learning.models.heads import Kind, build_head
from pipeline.learning.models.probe import Probe
from pipeline.learning.models.sites import PerSite, SiteValues, varying
from pipeline.learning.models.tent import adapted
from pipeline.learning.models.tta import View, augmented_views


class AttentionPool(nn.Module):
    """Gated attention over the instances of a bag (Ilse, Tomczak, Welling 2018, equation 9).

    a_k = softmax_k( w' ( tanh(V h_k) * sigmoid(U h_k) ) ),  z = sum_k a_k h_k.
    It starts at w = 0, which is the plain mean, so that a linear probe on mean features is where training begins.
    """

    def __init__(self, width: int, hidden: int = 64) -> None:
        super().__init__()
        self.tangent = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Pool (B, S, width) features; return (B, width) and the attention (B, S), which sums to one."""
        if features.shape[1] == 1:
            return features[:, 0], features.new_ones(features.shape[:2])
        scores = self.score(torch.tanh(self.tangent(features)) * torch.sigmoid(self.gate(features)))
        attention = scores.squeeze(-1).softmax(dim=1)
        return (attention.unsqueeze(-1) * features).sum(dim=1), attention


@dataclass(frozen=True)
class Activations:
    """What the first stages of an encoder made of a batch of cases.

    Attributes
    ----------
    maps : (B, S, C, h, w)
        Feature maps of each instance at the stage where the run stopped.
    pooled : (B, S, w)
        What the pooled stages before it gave; w may be 0.
    """

    maps: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class ModelOutput:
    """What the network made of a batch of cases.

    Attributes
    ----------
    logits : (B, n_classes)
    features : (B, width)
        Standardised and pooled over the instances: what the head sees.
    attention : (B, S)
        Of each instance; sums to one.
    """

    logits: Tensor
    features: Tensor
    attention: Tensor


class Classifier(nn.Module):
    """Encoder, standardised features, attention over instances, linear head; and all that adaptation put around it.

    Parameters
    ----------
    encoder : str or Encoder
        A timm name (random weights), or an encoder at hand.
    in_channels : int
        Channels of an instance; of a volume that is seen whole, its intensity windows.
    n_classes : int
        Number of logits, at least 2.
    mean, std : sequence of float
        Of the encoder's pretraining, for grey values in [0, 1]; one value, or one per channel of an instance.
    pooled_stages : int
        How many of the encoder's last stages give features.
    filter_depth : int
        Slices that a filter sees: 1 looks at instances one by one; more is a three-dimensional encoder, to which a
        volume is one instance.
    harmonise : mapping, optional
        Arguments of `Harmoniser`: each case's grey values are mapped to a standard scale first.
    sites : sequence of str
        Sites that have values of their own for what `per_site` says.
    per_site : {"normalisation", "features"}, optional
        What differs between sites.
    site : str, optional
        Where the cases come from that are evaluated next; see `at`.
    test_time_steps, test_time_rate : int, float
        Of the adaptation to every single case before it is evaluated (`methods/tent.py`); 0 steps is none.
    head : {"linear", "ordinal", "neighbours"}
        How features become logits, see `heads`.
    neighbours_of : int
        Training cases that a head of neighbours remembers.
    findings : bool
        Whether the logits are of findings, each by itself.
    tta : sequence of {"mirror", "crops"}
        Test-time augmentation: views of a case (`tta.py`) whose logits are averaged with its own.
    """

    mean: Tensor
    std: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        encoder: str | Encoder,
        in_channels: int,
        n_classes: int,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
        pooled_stages: int = 1,
        filter_depth: int = 1,
        harmonise: Mapping[str, Any] | None = None,
        sites: Sequence[str] = (),
        per_site: PerSite | None = None,
        site: str | None = None,
        test_time_steps: int = 0,
        test_time_rate: float = 1e-3,
        head: Kind = "linear",
        neighbours_of: int = 0,
        findings: bool = False,
        tta: Sequence[View] = (),
    ) -> None:
        super().__init__()
        if isinstance(encoder, str):
            encoder = build_encoder(encoder, in_channels, pooled_stages=pooled_stages, filter_depth=filter_depth)
        self.encoder: Encoder = encoder
        self.harmoniser = Harmoniser(**harmonise) if harmonise else None
        self.attention = AttentionPool(self.encoder.width)
        self.head: Any = build_head(head, self.encoder.width, n_classes, neighbours_of, findings)
        self.n_classes = n_classes
        self.tta = tuple(tta)
        self.in_channels = in_channels
        self.filter_depth = filter_depth
        self.test_time_steps = test_time_steps
        self.test_time_rate = test_time_rate
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)
        self.register_buffer("centre", torch.zeros(self.encoder.width))
        self.register_buffer("spread", torch.ones(self.encoder.width))
        self.site = site
        self.of_site = SiteValues(sites, varying(self, per_site) if per_site else {})

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.centre.device

    def forward(self, channels: Tensor) -> Tensor:
        """Turn channels (B, P, H, W), grey values 0 to 255, into logits (B, n_classes)."""
        return self.look(channels).logits

    def at(self, site: str | None) -> None:
        """Take the values of a site; None or an unknown one takes those that all unknown sites share."""
        self.site = site
        self.of_site.put(site, dict(self.named_buffers()))

    def look(self, channels: Tensor) -> ModelOutput:
        """Evaluate channels (B, P, H, W), every case after adaptation to it alone where that is on."""
        if not self.test_time_steps:
            return self._output(channels)
        found, settings = [], (self.test_time_steps, self.test_time_rate)
        for case in channels.split(1):
            with adapted(self, case, *settings, evaluate=lambda one: self._output(one).logits):
                found.append(self._output(case))
        parts = [[getattr(one, name) for one in found] for name in ("logits", "features", "attention")]
        return ModelOutput(*map(torch.cat, parts))

    def _output(self, channels: Tensor) -> ModelOutput:
        features, attention = self.attention(self.features(self.activations(channels)))
        logits = [self.head(features), *map(self._logits, augmented_views(channels, self.tta))]
        return ModelOutput(torch.stack(logits).mean(dim=0), features, attention)

    def _logits(self, channels: Tensor) -> Tensor:
        return self.evaluate(self.activations(channels))

    def instances(self, channels: Tensor) -> Tensor:
        """Cut channels (B, P, H, W) into instances, scaled as the encoder expects.

        Returns
        -------
        (B * S, in_channels, H, W) Tensor
            A three-dimensional encoder gets (B, in_channels, P / in_channels, H, W).
        """
        channels = channels.float() if self.harmoniser is None else self.harmoniser(channels)
        batch, count, height, width = channels.shape
        cut = channels.reshape(batch * count // self.in_channels, self.in_channels, height, width)
        scaled: Tensor = (cut / 255 - self.mean) / self.std
        if self.filter_depth > 1:
            scaled = scaled.reshape(batch, -1, *scaled.shape[1:]).transpose(1, 2)
        return channels_last(scaled)

    def activations(self, channels: Tensor, last: int | None = None) -> Activations:
        """Run the first `last` stages (None: all) on every instance of channels (B, P, H, W)."""
        self.at(self.site)
        images = self.instances(channels)
        maps, pooled = self.encoder.run(images, images.new_zeros(len(images), 0), last=last)
        bag = (len(channels), len(images) // len(channels))
        return Activations(maps.reshape(*bag, *maps.shape[1:]), pooled.reshape(*bag, pooled.shape[1]))

    def features(self, activations: Activations, first: int | None = None) -> Tensor:
        """Run the stages from `first` on (None: all are done) and standardise: (B, S, width)."""
        maps, pooled = activations.maps.flatten(0, 1), activations.pooled.flatten(0, 1)
        if first is not None:
            _, pooled = self.encoder.run(channels_last(maps), pooled, first=first)
        standardised = (pooled - self.centre) / self.spread
        return standardised.reshape(*activations.maps.shape[:2], self.encoder.width)

    def evaluate(self, activations: Activations, first: int | None = None) -> Tensor:
        """Turn activations before stage `first` into logits (B, n_classes)."""
        pooled, _ = self.attention(self.features(activations, first))
        logits: Tensor = self.head(pooled)
        return logits

    @torch.no_grad()
    def standardise(self, centre: NDArray[np.float64], spread: NDArray[np.float64]) -> None:
        """Let a standardisation (width,) of the features follow on the one that is there."""
        there = [(self.centre, self.spread)]
        if "centre" in self.of_site.names:
            there = list(zip(self.of_site.all_of("centre"), self.of_site.all_of("spread"), strict=True))
        for old_centre, old_spread in there:
            old_centre += old_spread * torch.from_numpy(centre).to(old_centre)
            old_spread *= torch.from_numpy(spread).to(old_spread)
        self.at(self.site)

    def start_from(self, probe: Probe) -> None:
        """Take a linear probe: its weights become the head, its standardisation follows on the one that is there."""
        self.standardise(probe.centre, probe.spread)
        self.head.take(probe)


class Tail(nn.Module):
    """The end of a network, from the activations at the freeze boundary to logits; it shares its weights.

    Parameters
    ----------
    first : int
        The stage that takes the activations.
    lowest : int, optional
        The lowest stage that is trained; `first` if not given.
    updates : bool
        Whether of the stages only low-rank updates are trained (`lora.low_rank`).
    """

    def __init__(self, network: Classifier, first: int, lowest: int | None = None, updates: bool = False) -> None:
        super().__init__()
        self.network = network
        self.first = first
        network.requires_grad_(False)
        for module in (network.encoder.norm, network.attention, network.head):
            module.requires_grad_(True)
        for name, value in network.encoder.stages[first if lowest is None else lowest :].named_parameters():
            value.requires_grad_(not updates or name.endswith((".down", ".up")))

    def forward(self, maps: Tensor, pooled: Tensor) -> Tensor:
        """Turn activations, maps (B, S, C, h, w) and pooled (B, S, w), into logits (B, n_classes)."""
        return self.network.evaluate(Activations(maps, pooled), self.first)
