"""The grid on which every case of a cohort is stored, and the cost of training on it."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Window = tuple[float, float]
Intensity = Literal["keep", "percentile", "zscore"] | tuple[Window, ...]
Instances = Literal["slab", "slice", "isotropic"]

PASSES_PER_CASE = 36  # six trainings with one plain, four augmented and one adaptation pass each
REFERENCE_SIZE = 128


@dataclass(frozen=True)
class Geometry:
    """Describe how every case of a cohort is stored.

    Attributes
    ----------
    kind : {"volume", "image"}
    image_size : int
        Rows and columns of a stored channel.
    slices : int
        Instances of a case that the encoder sees one by one; 1 for an image.
    channels : int
        Channels of an instance: neighbouring slices times intensity windows, or the channels of an image.
    spacing : tuple of float or None
        Millimetres between columns, rows and slices of a stored volume; None for images.
    fit : {"pad", "stretch"}
        How an image that is not square becomes square.
    intensity : "keep", "percentile", "zscore" or windows
        Which values become 0 and 255; each window (low, high) gives a separate channel.
    crop : {"none", "foreground"}
        Whether a volume is first cropped to its foreground.
    mask_channel : bool
        Whether each slice, or the image, has its mask (0 or 255) as one more channel, behind its intensity windows.
    """

    kind: Literal["volume", "image"]
    image_size: int
    slices: int
    channels: int
    spacing: tuple[float, float, float] | None
    fit: Literal["pad", "stretch"]
    intensity: Intensity
    crop: Literal["none", "foreground"] = "none"
    mask_channel: bool = False

    @property
    def windows(self) -> int:
        """Count the channels of a slice: its intensity windows, and its mask if that is a channel."""
        return (len(self.intensity) if isinstance(self.intensity, tuple) else 1) + self.mask_channel

    @property
    def colour(self) -> bool:
        """Tell whether the first three channels are red, green and blue; a mask may follow."""
        return self.kind == "image" and self.channels - self.mask_channel == 3

    @property
    def depth(self) -> int:
        """Count the stored slices of a volume."""
        return self.stored_channels // self.windows

    @property
    def stored_channels(self) -> int:
        """Count the channels of a stored case."""
        return self.slices * self.channels

    @property
    def without_mask(self) -> "Geometry":
        """The same grid without the channel of the mask."""
        if not self.mask_channel:
            return self
        return replace(self, channels=self.channels - len(self.mask_places) // self.slices, mask_channel=False)

    @property
    def with_mask(self) -> "Geometry":
        """The same grid with the mask as a channel."""
        if self.mask_channel:
            return self
        more = self.channels // self.windows if self.kind == "volume" else 1
        return replace(self, channels=self.channels + more, mask_channel=True)

    @property
    def mask_every(self) -> int:
        """Tell that each so many-th stored channel holds the mask; 0 if it is no channel."""
        return (self.windows if self.kind == "volume" else self.channels) * self.mask_channel

    @property
    def mask_places(self) -> list[int]:
        """List the stored channels that hold the mask; none if it is no channel."""
        return np.flatnonzero(masks_among(self.stored_channels, self.mask_every)).tolist()

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values for a JSON file."""
        values = asdict(self)
        return values if self.mask_channel else {name: one for name, one in values.items() if name != "mask_channel"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Geometry":
        """Rebuild the geometry from the values of a JSON file."""
        return cls(**{key: _as_tuples(value) for key, value in values.items()})


def masks_among(count: int, mask_every: int) -> NDArray[np.bool_]:
    """Tell which of a number of channels (count,) hold a mask, if each `mask_every`-th one does; 0 means none."""
    return np.asarray(np.arange(1, count + 1) % (mask_every or count + 1) == 0)


def images_in(channels: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Leave the mask out of stored channels (P, H, W)."""
    return np.delete(channels, geometry.mask_places, axis=0) if geometry.mask_channel else channels


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def reference_passes(n_cases: int, size: int, slices: int) -> float:
    """Estimate the cost of a full run, in passes of one 128 x 128 image through the encoder."""
    return n_cases * slices * (size / REFERENCE_SIZE) ** 2 * PASSES_PER_CASE
