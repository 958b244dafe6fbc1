"""The region of a scan that its mask marks, and what the network sees of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.masks.matching import on_scan
from pipeline.imaging.masks.reading import about_mask, read_mask
from pipeline.imaging.reading.scan import Policy, Scan, Unreadable

Marks = NDArray[np.bool_]
MaskFile = Path | Literal["whole"] | None  # "whole": the whole scan is the region


@dataclass(frozen=True)
class MaskUse:
    """Choose what the network sees of masks; a part of a released model.

    Attributes
    ----------
    use : {"none", "crop", "channel", "both"}
        "none" only measures features of masks.
    margin_mm : float
        Kept around the mask; of an image without pixel size, in pixels.
    missing : {"refuse", "whole"}
        What to do with a scan without a mask, or with an empty one; "whole" takes the whole scan as its region.
    labels : tuple of int
        Label numbers that count; none for all but 0.
    """

    use: Literal["none", "crop", "channel", "both"] = "none"
    margin_mm: float = 10.0
    missing: Literal["refuse", "whole"] = "refuse"
    labels: tuple[int, ...] = ()

    @property
    def channel(self) -> bool:
        """Tell whether the mask is a channel."""
        return self.use in ("channel", "both")

    @property
    def asks(self) -> bool:
        """Tell whether a scan without a mask is refused."""
        return self.use != "none" and self.missing == "refuse"

    def region(self, scan: Scan, mask: MaskFile, policy: Policy) -> "Region | None":
        """Find the region of a scan; None if the network sees no masks.

        Raises
        ------
        Unreadable
            If the mask cannot be read, is of another scan, or is missing or empty though it is needed.
        """
        if self.use == "none":
            return None
        inside = self.inside(scan, mask, policy)
        if not inside.any() and self.missing == "refuse":
            what = "it has no mask" if mask is None else "its mask is empty"
            raise Unreadable("mask missing", f"{what}, and the model looks at masks", "preprocess.mask_missing")
        crops = self.use in ("crop", "both")
        return Region(inside if inside.any() else ~inside, crops, self.margin_mm)

    def inside(self, scan: Scan, mask: MaskFile, policy: Policy) -> Marks:
        """Read a mask, on the grid of its scan; without one, nothing is inside."""
        if isinstance(mask, Path):
            try:
                return on_scan(read_mask(mask, policy), scan, self.labels)
            except Unreadable as error:
                raise Unreadable(*about_mask(error.finding)) from error
        return np.full(scan.voxels.shape[1:], mask == "whole")

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "MaskUse":
        """Rebuild from plain values."""
        return cls(**{**values, "labels": tuple(values["labels"])})


@dataclass(frozen=True)
class Region:
    """Mark the voxels inside a mask, on the grid of the scan, and say whether the scan is cropped to them.

    Attributes
    ----------
    inside : array of the scan's shape without channels
        At least one is inside.
    crops : bool
    margin_mm : float
        Kept around the mask if the scan is cropped.
    """

    inside: Marks
    crops: bool
    margin_mm: float


def box_around(inside: Marks, margin_mm: float, spacing: tuple[float, ...]) -> list[slice]:
    """Find the smallest box around a mask with a margin, within the scan."""
    box = []
    for axis, millimetres in enumerate(spacing):
        filled = np.flatnonzero(inside.any(axis=tuple(other for other in range(inside.ndim) if other != axis)))
        margin = round(margin_mm / millimetres)
        box.append(slice(max(int(filled[0]) - margin, 0), min(int(filled[-1]) + margin + 1, inside.shape[axis])))
    return box
