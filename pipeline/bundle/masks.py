"""What a model needs of masks: whether its network sees them, and which of its columns are measured in them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.bundle.columns import Value
from pipeline.imaging.masks.features import is_feature, measure, unit_of
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.preparation.region import MaskFile
from pipeline.imaging.reading.scan import Unreadable
from pipeline.metrics.fusion import Fusion


@dataclass(frozen=True)
class MaskNeeds:
    """Say what a model does with masks.

    Attributes
    ----------
    steps : Preprocessor
    features : tuple of str
        The columns of the model that are measured in masks.
    asks : bool
        Whether a scan without a mask is refused.
    unit : str
        Unit of length of the features, "mm" or "pixels"; empty if none of them has one, or it is not known.
    """

    steps: Preprocessor
    features: tuple[str, ...] = ()
    asks: bool = False
    unit: str = ""

    @property
    def any(self) -> bool:
        """Tell whether the model takes masks at all."""
        return self.steps.sees_masks or bool(self.features)

    @property
    def of_simulated(self) -> MaskFile:
        """The region of scans that are simulated for a test: the whole scan, if the network sees masks."""
        return "whole" if self.steps.sees_masks else None

    @property
    def words(self) -> str:
        """Say what the model does with masks."""
        ways = {
            "none": [],
            "crop": ["the scan is cropped to the mask"],
            "channel": ["the network sees the mask as a channel"],
            "both": ["the scan is cropped to the mask", "the network sees the mask as a channel"],
        }
        said = ways[self.steps.mask.use if self.steps.mask else "none"]
        return ", and ".join(
            [*said, *([f"{', '.join(self.features)} are measured in the mask"] if self.features else [])]
        )

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values for configs/metadata.json; {} if the model takes no masks."""
        if not self.any or self.steps.mask is None:
            return {}
        return asdict(self.steps.mask) | {"features": list(self.features), "needed": self.asks, "in_words": self.words}

    def measured(self, scan: Path, mask: MaskFile) -> Mapping[str, Value]:
        """Measure the features that the model takes; each is missing without a mask.

        Raises
        ------
        Unreadable
            If the scan or its mask cannot be read, the mask is of another scan, or it is measured in pixels and those
            of the development cases were in millimetres, or the other way round.
        """
        if not self.features or not self.steps.mask or mask is None:
            return dict.fromkeys(self.features, "")
        read = self.steps.read(scan)
        if self.unit and unit_of(read) != self.unit:
            lacks = "no size of its pixels" if self.unit == "mm" else "the size of its pixels"
            those = f"those of the development cases in {self.unit}"
            raise Unreadable("mask unit", f"it states {lacks}: its mask is measured in {unit_of(read)}, {those}")
        found = measure(read, self.steps.mask.inside(read, mask, self.steps.policy))
        return {name: found[name] for name in self.features}


def needs_of(steps: Preprocessor, fusion: Fusion | None) -> MaskNeeds:
    """Say what a model with this preparation and these columns does with masks."""
    columns = [one for one in fusion.columns if is_feature(one.column.name)] if fusion else []
    asks = (steps.mask is not None and steps.mask.asks) or any(not one.missing for one in columns)
    unit = next((one.column.unit for one in columns if one.column.unit), "")
    return MaskNeeds(steps, tuple(one.column.name for one in columns), asks, unit)
