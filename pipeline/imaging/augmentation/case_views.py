"""The stored cases of a cohort and the views that are drawn of them: the one place where either is made."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.augmentation.views import adaptation_view, contrastive_pair, training_view
from pipeline.imaging.geometry import Geometry

Channels = NDArray[np.uint8]


@dataclass(frozen=True)
class CaseViews:
    """Views (P, H, W) uint8 of cases, by name; each is drawn from a seed of its own.

    Attributes
    ----------
    load : callable
        From a case to its stored channels.
    seed_of : callable
        seed_of(*names) gives the seed of what bears those names.
    geometry : Geometry
        Of the cohort.
    whole : bool
        Whether the encoder sees a volume whole, and not instance by instance.
    """

    load: Callable[[str], Channels]
    seed_of: Callable[..., int]
    geometry: Geometry
    whole: bool = False

    def stored(self, case: str) -> Channels:
        """Give the case as it is."""
        return self.load(case)

    def moved(self, case: str) -> Channels:
        """Move and mirror the case a little, grey values untouched."""
        return adaptation_view(self.load(case), self.seed_of("adapt", "view", case))

    def augmented(self, case: str, views: int) -> Channels:
        """Stack the case as it is and augmented views of it for training, in any fold: (1 + views, P, H, W)."""
        channels, geometry = np.asarray(self.load(case)), self.geometry
        seeds = self.seeds(case, views)
        return np.stack([channels, *(training_view(channels, seed, geometry.kind, geometry.windows) for seed in seeds)])

    def name(self, case: str, views: int) -> str:
        """Name what `augmented` gives by all that it depends on."""
        how = f"{self.geometry.kind} {self.geometry.windows} {self.seeds(case, views)}"
        return hashlib.sha256(np.ascontiguousarray(self.load(case)).tobytes() + how.encode()).hexdigest()[:32]

    def seeds(self, case: str, views: int) -> list[int]:
        """Give the seed of each view; a further view leaves the others what they are."""
        return [self.seed_of("view", case, number) for number in range(views)]

    def pair(self, case: str, *draw: object) -> tuple[Channels, Channels]:
        """Draw two strong views of one instance of the case, which the names `draw` choose."""
        seed, channels, geometry = self.seed_of("pair", case, *draw), self.load(case), self.geometry
        if not self.whole:
            start = int(np.random.default_rng(seed).integers(geometry.slices)) * geometry.channels
            channels = channels[start : start + geometry.channels]
        return contrastive_pair(np.array(channels), seed, geometry.kind, geometry.windows)
