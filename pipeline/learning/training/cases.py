"""Labelled cases as inputs of a training: activations at the freeze boundary, or the images themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.learning.models.resize import shrunk

Rows = Tensor | NDArray[np.int64]
Batch = tuple[Tensor, Tensor]
Seeds = NDArray[np.uint32]


class Cases(Protocol):
    """Labelled cases that give batches of maps (B, S, C, h, w) and pooled features (B, S, w).

    Attributes
    ----------
    targets : (n, n_classes) float32
        As described in `tasks`.
    first : int
        The stage of the encoder that takes the maps.
    """

    @property
    def targets(self) -> Tensor: ...  # noqa: D102

    @property
    def first(self) -> int: ...  # noqa: D102

    def drawn(self, rows: Tensor, seeds: Seeds) -> Batch:
        """Return a random view of each of these cases, each drawn from its own seed."""

    def plain(self, rows: Tensor) -> Batch:
        """Return these cases without augmentation."""


@dataclass(frozen=True)
class FrozenCases:
    """Cases for which the frozen stages were run once for each of a few views.

    Attributes
    ----------
    maps : (V, n, S, C, h, w) float16
        With an inflated encoder (V, n, 1, C, D, h, w). View 0 is the case without augmentation.
    pooled : (V, n, S, w) float16
        Means of the pooled stages before the boundary.
    """

    maps: Tensor
    pooled: Tensor
    targets: Tensor
    first: int

    def drawn(self, rows: Tensor, seeds: Seeds) -> Batch:
        """Choose one of the stored views of each case."""
        views = torch.from_numpy(seeds.astype(np.int64) % len(self.maps))
        return self.maps[views, rows], self.pooled[views, rows]

    def plain(self, rows: Tensor) -> Batch:
        """Return view 0."""
        return self.maps[0, rows], self.pooled[0, rows]

    def some(self, rows: Rows) -> "FrozenCases":
        """Select some of the cases."""
        return FrozenCases(self.maps[:, rows], self.pooled[:, rows], self.targets[rows], self.first)


@dataclass(frozen=True)
class WholeCases:
    """Cases as images, for an encoder that is trained from its first stage on.

    Attributes
    ----------
    load : callable
        From rows (B,) to channels (B, P, H, W) uint8, held on the device or read from disk.
    prepare : callable
        From channels (B, P, H, W) to encoder inputs (B, S, C, H, W): `Classifier.activations` with last=0.
    augment : callable
        From channels (B, P, H, W) uint8 and one seed per case to random views, on the same device.
    vary : callable, optional
        As `augment`, to views as of other scanners; the same as `augment` if not given.
    side : int, optional
        Rows and columns to which images are shrunk first.
    instances : int, optional
        How many instances of a volume are drawn for a view; all if not given.
    channels : int
        Channels of an instance.
    """

    load: Callable[[Tensor], Tensor]
    prepare: Callable[[Tensor], Batch]
    augment: Callable[[Tensor, Seeds], Tensor]
    targets: Tensor
    first: int = 0
    side: int | None = None
    instances: int | None = None
    channels: int = 1
    vary: Callable[[Tensor, Seeds], Tensor] | None = None

    def drawn(self, rows: Tensor, seeds: Seeds) -> Batch:
        """Draw a new view of each case."""
        views = self.augment(self._shrunk(rows), seeds)
        if self.instances is not None and self.instances * self.channels < views.shape[1]:
            views = drawn_instances(views, seeds, self.instances, self.channels)
        return self.prepare(views)

    def varied(self, rows: Tensor, seeds: Seeds) -> Batch:
        """Draw a view of each case as of another scanner."""
        return replace(self, augment=self.vary or self.augment).drawn(rows, seeds)

    def plain(self, rows: Tensor) -> Batch:
        """Return the images without augmentation."""
        return self.prepare(self._shrunk(rows))

    def _shrunk(self, rows: Tensor) -> Tensor:
        channels = self.load(rows)
        return shrunk(channels.float(), self.side).round().to(torch.uint8) if self.side else channels

    def some(self, rows: Rows) -> "WholeCases":
        """Select some of the cases."""
        chosen = torch.as_tensor(rows)

        def load(part: Tensor) -> Tensor:
            return self.load(chosen[part])

        return replace(self, load=load, targets=self.targets[chosen])


def drawn_instances(channels: Tensor, seeds: Seeds, count: int, size: int) -> Tensor:
    """Draw instances of each case from its seed: one out of each of `count` equal parts of the volume, in order.

    Parameters
    ----------
    channels : (B, S * size, H, W)
        S instances of `size` channels.
    seeds : (B,)
    count : int
        At most S.

    Returns
    -------
    (B, count * size, H, W)
    """
    edges = np.arange(count + 1) * (channels.shape[1] // size) // count
    chosen = np.array([np.random.default_rng([seed, 1]).integers(edges[:-1], edges[1:]) for seed in seeds])
    columns = torch.from_numpy((chosen[:, :, None] * size + np.arange(size)).reshape(len(chosen), -1))
    return channels[torch.arange(len(channels))[:, None], columns.to(channels.device)]


def in_order(cases: Cases, size: int) -> Iterator[tuple[Tensor, Batch]]:
    """Iterate over the cases in order and without augmentation: rows and their batch, `size` cases at a time."""
    for rows in torch.arange(len(cases.targets)).split(size):
        yield rows, cases.plain(rows)
