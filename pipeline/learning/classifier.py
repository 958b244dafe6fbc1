"""The network: one case in, one vector of logits out, whatever the case is made of.

A case is a stack of planes (B, P, H, W) with grey values from 0 to 255. It is cut into instances of a few planes
each: a picture is one instance of its colour channels, a volume is a bag of instances of three neighbouring
slices. The encoder looks at each instance, attention weighs them, a linear head decides.
"""

import torch
from torch import Tensor, nn

from pipeline.learning.encoder import Encoder, build_encoder


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


class Classifier(nn.Module):
    """Encoder, attention over instances, linear head.

    Parameters
    ----------
    encoder : str or Encoder
        A timm name (random weights), or an encoder at hand.
    in_channels : int
        Planes of an instance.
    n_classes : int
        Number of logits, at least 2.
    mean, std : sequence of float
        Of the encoder's pretraining, for grey values in [0, 1]; one value, or one per plane of an instance.
    """

    def __init__(
        self,
        encoder: str | Encoder,
        in_channels: int,
        n_classes: int,
        mean: tuple[float, ...] = (0.5,),
        std: tuple[float, ...] = (0.5,),
    ) -> None:
        super().__init__()
        self.encoder = build_encoder(encoder, in_channels) if isinstance(encoder, str) else encoder
        self.attention = AttentionPool(self.encoder.width)
        self.head = nn.Linear(self.encoder.width, n_classes)
        self.in_channels = in_channels
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, planes: Tensor) -> Tensor:
        """Turn planes (B, P, H, W), grey values 0 to 255, into logits (B, n_classes)."""
        return self.judge(self.activations(planes))

    def activations(self, planes: Tensor, last: int | None = None) -> Tensor:
        """Run the first `last` stages on every instance: (B, P, H, W) to (B, S, C, h, w)."""
        batch, count, height, width = planes.shape
        instances = planes.reshape(batch * count // self.in_channels, self.in_channels, height, width)
        scaled = (instances.float() / 255 - self.mean) / self.std
        maps = self.encoder.run(scaled.contiguous(memory_format=torch.channels_last), last=last)
        return maps.reshape(batch, -1, *maps.shape[1:])

    def features(self, activations: Tensor, first: int | None = None) -> Tensor:
        """Run the stages from `first` on (None: all are done) and pool: (B, S, C, h, w) to (B, S, width)."""
        maps = activations.flatten(0, 1)
        if first is not None:
            maps = self.encoder.run(maps.contiguous(memory_format=torch.channels_last), first=first)
        return self.encoder.pool(maps).reshape(*activations.shape[:2], -1)

    def judge(self, activations: Tensor, first: int | None = None) -> Tensor:
        """Turn activations before stage `first` into logits (B, n_classes)."""
        pooled, _ = self.attention(self.features(activations, first))
        logits: Tensor = self.head(pooled)
        return logits


class Tail(nn.Module):
    """The trained end of a network, from the activations at the freeze boundary to logits; it shares its weights."""

    def __init__(self, network: Classifier, first: int) -> None:
        super().__init__()
        self.network = network
        self.first = first
        network.requires_grad_(False)
        for module in (*network.encoder.stages[first:], network.encoder.norm, network.attention, network.head):
            module.requires_grad_(True)

    def forward(self, activations: Tensor) -> Tensor:
        """Turn activations (B, S, C, h, w) into logits (B, n_classes)."""
        return self.network.judge(activations, self.first)
