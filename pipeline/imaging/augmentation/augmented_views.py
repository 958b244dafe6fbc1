"""Stored cases of a cohort and their augmented views; every stage that needs either takes it from here."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

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
        seed = self.seed_of("adapt", "view", case)
        return adaptation_view(self.load(case), seed, mask_every=self.geometry.mask_every)

    def augmented(self, case: str, views: int) -> Channels:
        """Draw the training views of a case, which are the same in every fold: (views, C, H, W) uint8."""
        channels, geometry = np.asarray(self.load(case)), self.geometry
        draw = partial(training_view, kind=geometry.kind, windows=geometry.windows, mask_every=geometry.mask_every)
        drawn = [draw(channels, seed) for seed in self.seeds(case, views)]
        return np.stack(drawn) if drawn else np.zeros((0, *channels.shape), np.uint8)

    def parts(self, case: str, views: int, mirrored: bool = False) -> dict[str, Callable[[], Channels]]:
        """List the views of a case by what they are, each with a function that draws it as (V, C, H, W) uint8.

        The names do not depend on the content of the case, which is not read: see `named_parts`.

        Parameters
        ----------
        views : int
            How many training views are drawn.
        mirrored : bool
            Whether the mirror image of the case is a view as well.

        Returns
        -------
        dict
            The case itself, its mirror image, then the training views.
        """
        how = f"{self.geometry.kind} {self.geometry.windows} {self.seeds(case, views)}"
        how += f" mask {self.geometry.mask_every}" * self.geometry.mask_channel
        found: dict[str, Callable[[], Channels]] = {"": lambda: np.asarray(self.load(case))[None]}
        if mirrored:
            found["mirrored"] = lambda: np.asarray(self.load(case))[None, ..., ::-1]
        if views:
            found[how] = lambda: self.augmented(case, views)
        return found

    def named_parts(self, case: str, views: int, mirrored: bool = False) -> dict[str, Callable[[], Channels]]:
        """List the views of a case as `parts` does, by names for a cache: hashes of all that a view depends on."""
        content = hashlib.sha256(np.ascontiguousarray(self.load(case)).tobytes())
        return {_named(content, name): draw for name, draw in self.parts(case, views, mirrored).items()}

    def seeds(self, case: str, views: int) -> list[int]:
        """List the seed of each view; asking for more views does not change the first ones."""
        return [self.seed_of("view", case, number) for number in range(views)]

    def pair(self, case: str, *draw: object) -> tuple[Channels, Channels]:
        """Draw two contrastive views of one instance of the case; the names `draw` select the instance."""
        seed, channels, geometry = self.seed_of("pair", case, *draw), self.load(case), self.geometry
        if not self.whole:
            start = int(np.random.default_rng(seed).integers(geometry.slices)) * geometry.channels
            channels = channels[start : start + geometry.channels]
        windows, mask_every = geometry.windows, geometry.mask_every
        return contrastive_pair(np.array(channels), seed, geometry.kind, windows, mask_every=mask_every)


def _named(content: "hashlib._Hash", view: str) -> str:
    own = content.copy()
    own.update(view.encode())
    return own.hexdigest()[:32]
