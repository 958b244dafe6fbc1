"""Stored cases of a cohort and their augmented views; every stage that needs either takes it from here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.augmentation.batched import contrastive_pair
from pipeline.imaging.augmentation.per_case import adaptation_view, training_view
from pipeline.imaging.geometry import Geometry

Channels = NDArray[np.uint8]


@dataclass(frozen=True)
class AugmentedViews:
    """Draw augmented views (C, H, W) uint8 of cases by name; each view has its own seed.

    Attributes
    ----------
    load : callable
        Maps a case to its stored channels.
    seed_of : callable
        ``seed_of(*names)`` derives a seed from the names of a draw.
    geometry : Geometry
        Geometry of the cohort.
    whole : bool
        Whether the encoder sees a volume as a whole instead of instance by instance.
    """

    load: Callable[[str], Channels]
    seed_of: Callable[..., int]
    geometry: Geometry
    whole: bool = False

    def stored(self, case: str) -> Channels:
        """Load the case without augmentation."""
        return self.load(case)

    def moved(self, case: str) -> Channels:
        """Move and mirror the case slightly, with its grey values kept."""
        return adaptation_view(self.load(case), self.seed_of("adapt", "view", case))

    def augmented(self, case: str, views: int, mirrored: bool = False) -> Channels:
        """Stack the case and its training views, which are the same in every fold.

        Parameters
        ----------
        views : int
            How many views are drawn.
        mirrored : bool
            Whether the mirror image of the case is a view as well.

        Returns
        -------
        (1 + mirrored + views, C, H, W) uint8
        """
        channels, geometry = np.asarray(self.load(case)), self.geometry
        drawn = [training_view(channels, seed, geometry.kind, geometry.windows) for seed in self.seeds(case, views)]
        return np.stack([channels, *([channels[..., ::-1]] if mirrored else []), *drawn])

    def name(self, case: str, views: int, mirrored: bool = False) -> str:
        """Hash all inputs of `augmented`, as a cache key."""
        how = f"{self.geometry.kind} {self.geometry.windows} {self.seeds(case, views)}{' mirrored' if mirrored else ''}"
        return hashlib.sha256(np.ascontiguousarray(self.load(case)).tobytes() + how.encode()).hexdigest()[:32]

    def seeds(self, case: str, views: int) -> list[int]:
        """List the seed of each view; asking for more views does not change the first ones."""
        return [self.seed_of("view", case, number) for number in range(views)]

    def pair(self, case: str, *draw: object) -> tuple[Channels, Channels]:
        """Draw two contrastive views of one instance of the case; the names `draw` select the instance."""
        seed, channels, geometry = self.seed_of("pair", case, *draw), self.load(case), self.geometry
        if not self.whole:
            start = int(np.random.default_rng(seed).integers(geometry.slices)) * geometry.channels
            channels = channels[start : start + geometry.channels]
        return contrastive_pair(np.array(channels), seed, geometry.kind, geometry.windows)
