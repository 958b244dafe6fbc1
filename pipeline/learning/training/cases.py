"""Labelled cases as a training meets them: their activations at the freeze boundary, or the images themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = Tensor | NDArray[np.int64]
Batch = tuple[Tensor, Tensor]
Seeds = NDArray[np.uint32]


class Cases(Protocol):
    """Labelled cases, of which a training takes batches (B, S, C, h, w) of maps and (B, S, w) of pooled features.

    Attributes
    ----------
    targets : (n, n_classes) float32
        As `tasks` describes them.
    first : int
        The stage of the encoder that takes the maps.
    """

    @property
    def targets(self) -> Tensor: ...  # noqa: D102

    @property
    def first(self) -> int: ...  # noqa: D102

    def drawn(self, rows: Tensor, seeds: Seeds) -> Batch:
        """Give a random view of each of these cases, every one from its own seed."""

    def plain(self, rows: Tensor) -> Batch:
        """Give these cases as they are."""


@dataclass(frozen=True)
class FrozenCases:
    """Cases whose first stages have been run, once for each of a few views.

    Attributes
    ----------
    maps : (V, n, S, C, h, w) float16
        Of an inflated encoder (V, n, 1, C, D, h, w). View 0 is the case as it is.
    pooled : (V, n, S, w) float16
        What the pooled stages before the boundary gave.
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
        """Give view 0."""
        return self.maps[0, rows], self.pooled[0, rows]

    def some(self, rows: Rows) -> "FrozenCases":
        """Take some of the cases."""
        return FrozenCases(self.maps[:, rows], self.pooled[:, rows], self.targets[rows], self.first)


@dataclass(frozen=True)
class WholeCases:
    """Cases as images, for an encoder that is trained from its first stage.

    Attributes
    ----------
    load : callable
        From rows (B,) to channels (B, P, H, W) uint8, resident on the device or read from the disk.
    prepare : callable
        From channels (B, P, H, W) to what the encoder takes, (B, S, C, H, W); `Classifier.activations` with last=0.
    augment : callable
        From channels (B, P, H, W) uint8 and a seed of each to random views of them, on the same device.
    """

    load: Callable[[Tensor], Tensor]
    prepare: Callable[[Tensor], Batch]
    augment: Callable[[Tensor, Seeds], Tensor]
    targets: Tensor
    first: int = 0

    def drawn(self, rows: Tensor, seeds: Seeds) -> Batch:
        """Draw a new view of each case."""
        return self.prepare(self.augment(self.load(rows), seeds))

    def plain(self, rows: Tensor) -> Batch:
        """Give the images as they are."""
        return self.prepare(self.load(rows))

    def some(self, rows: Rows) -> "WholeCases":
        """Take some of the cases."""
        chosen = torch.as_tensor(rows)

        def load(validation: Tensor) -> Tensor:
            return self.load(chosen[validation])

        return WholeCases(load, self.prepare, self.augment, self.targets[chosen], self.first)


def in_order(cases: Cases, size: int) -> Iterator[tuple[Tensor, Batch]]:
    """Go through the cases as they are, in their order: rows and what they are, `size` at a time."""
    for rows in torch.arange(len(cases.targets)).split(size):
        yield rows, cases.plain(rows)
