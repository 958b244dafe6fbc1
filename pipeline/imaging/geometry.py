"""The grid on which every case of a cohort is stored, and what it costs to train on it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Window = tuple[float, float]
Intensity = Literal["keep", "percentile", "zscore"] | tuple[Window, ...]
Instances = Literal["slab", "slice", "isotropic"]

PASSES_PER_CASE = 36  # six trainings, each with one clean pass, four augmented ones and one for adaptation
REFERENCE_SIZE = 128


@dataclass(frozen=True)
class Geometry:
    """How every case of a cohort is stored.

    Attributes
    ----------
    kind : {"volume", "image"}
    image_size : int
        Rows and columns of a stored channel.
    slices : int
        Instances of a case that the encoder sees one by one; 1 for a image.
    channels : int
        Channels of an instance: its neighbouring slices times the intensity windows, or the channels of a image.
    spacing : tuple of float or None
        Millimetres between columns, rows and channels of a stored volume; None for images.
    fit : {"pad", "stretch"}
        How a image that is not square becomes square.
    intensity : "keep", "percentile", "zscore" or windows
        What becomes 0 and 255; each window (low, high) makes a channel of its own.
    crop : {"none", "foreground"}
        Whether a volume is cut to what is not background first.
    """

    kind: Literal["volume", "image"]
    image_size: int
    slices: int
    channels: int
    spacing: tuple[float, float, float] | None
    fit: Literal["pad", "stretch"]
    intensity: Intensity
    crop: Literal["none", "foreground"] = "none"

    @property
    def windows(self) -> int:
        """Count the intensity windows, each of which makes a channel."""
        return len(self.intensity) if isinstance(self.intensity, tuple) else 1

    @property
    def depth(self) -> int:
        """Count the slices that are stored of a volume."""
        return self.stored_channels // self.windows

    @property
    def stored_channels(self) -> int:
        """Count the channels of a stored case."""
        return self.slices * self.channels

    def as_json(self) -> dict[str, Any]:
        """Give plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Geometry":
        """Rebuild from the values of a JSON file."""
        return cls(**{key: _as_tuples(value) for key, value in values.items()})


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value


def reference_passes(n_cases: int, size: int, slices: int) -> float:
    """Count what a full run costs, in passes of one 128 x 128 image through the encoder."""
    return n_cases * slices * (size / REFERENCE_SIZE) ** 2 * PASSES_PER_CASE
