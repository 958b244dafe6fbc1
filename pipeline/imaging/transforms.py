"""Deterministic preprocessing, as one list of MONAI transforms that the stage runs and the bundle carries.

The list is plain data (a MONAI configuration), so what is released is what was evaluated, word for word.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray
from torch.nn.functional import interpolate, pad

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.volumes import Scan

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
HERE = "pipeline.imaging.transforms"

Config = dict[str, Any]

_ORIENT: Config = {"_target_": "Orientationd", "axcodes": "RAS", "labels": [["L", "R"], ["P", "A"], ["I", "S"]]}


class ToChannelsd(MapTransform):
    """Turn a picture of 1, 2 (grey, alpha), 3 or 4 (red, green, blue, alpha) channels into 1 or 3.

    Transparency is dropped; colour becomes grey by ITU-R BT.601 luma; grey becomes colour by repetition.
    """

    def __init__(self, keys: KeysCollection, channels: int) -> None:
        super().__init__(keys)
        self.channels = channels

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Convert each (C, H, W) image of `data`."""
        converted = dict(data)
        for key in self.keys:
            converted[key] = self._convert(converted[key])
        return converted

    def _convert(self, image: torch.Tensor) -> torch.Tensor:
        colours = image[:3] if image.shape[0] >= 3 else image[:1]
        if colours.shape[0] == self.channels:
            return colours
        if self.channels == 1:
            weights = torch.tensor(LUMA, dtype=colours.dtype).view(3, 1, 1)
            return (colours * weights).sum(dim=0, keepdim=True)
        return colours.repeat(3, 1, 1)


class FitSquared(MapTransform):
    """Resize a picture to a square, anti-aliased: "pad" adds black and keeps its proportions, "stretch" does not.

    torch's bilinear interpolation with `antialias=True`; MONAI's Resized would darken the borders, since it blurs
    with zeros around the picture.
    """

    def __init__(self, keys: KeysCollection, size: int, fit: str) -> None:
        super().__init__(keys)
        self.size = size
        self.fit = fit

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Resize each (C, H, W) image of `data`."""
        converted = dict(data)
        for key in self.keys:
            converted[key] = self._resize(torch.as_tensor(converted[key]).as_subclass(torch.Tensor))
        return converted

    def _resize(self, image: torch.Tensor) -> torch.Tensor:
        height, width = image.shape[-2:]
        longest = max(height, width)
        rows, columns = (
            (self.size, self.size)
            if self.fit == "stretch"
            else (max(round(edge * self.size / longest), 1) for edge in (height, width))
        )
        resized = interpolate(image[None], size=(rows, columns), mode="bilinear", antialias=True)[0]
        top, left = (self.size - rows) // 2, (self.size - columns) // 2
        return pad(resized, (left, self.size - columns - left, top, self.size - rows - top))


class ToPlanesd(MapTransform):
    """Round to whole grey values and stack a volume as axial planes, as a radiologist views them.

    A (1, X, Y, Z) volume in RAS becomes (Z, Y, X) with the patient's front up and right side on the left;
    a (C, H, W) picture keeps its rows and columns. Values stay float, whole numbers from 0 to 255.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Convert each image of `data`."""
        converted = dict(data)
        for key in self.keys:
            image = torch.as_tensor(converted[key]).as_subclass(torch.Tensor)
            planes = image[0].permute(2, 1, 0).flip(1, 2) if image.ndim == 4 else image
            converted[key] = planes.round().clamp(0, 255).contiguous()
        return converted


def preprocessing_config(geometry: Geometry, key: str = "image") -> list[Config]:
    """Write the steps from a channel-first scan to stored planes as a MONAI configuration.

    Parameters
    ----------
    geometry : Geometry
        The resolved grid of the cohort.
    key : str
        The dictionary key of the image.

    Returns
    -------
    list of dict
        Each with `_target_` and plain arguments: no code, no expression.
    """
    # Intensities first: percentiles are the scan's own, whatever is padded or cut off later.
    if geometry.kind == "volume":
        steps = [_ORIENT, _intensity_step(geometry), *_grid_steps(geometry)]
    else:
        colour: Config = {"_target_": f"{HERE}.ToChannelsd", "channels": geometry.channels}
        fit: Config = {"_target_": f"{HERE}.FitSquared", "size": geometry.image_size, "fit": geometry.fit}
        steps = [colour, _intensity_step(geometry), fit]
    steps.append({"_target_": f"{HERE}.ToPlanesd"})
    return [{"_target_": step["_target_"], "keys": key} | step for step in steps]


def build_preprocessing(config: Sequence[Config], key: str = "image") -> Callable[[Scan], NDArray[np.uint8]]:
    """Make the function from a scan to its stored planes, (C, H, W) uint8, of such a configuration."""
    steps = [ConfigParser(dict(step)).get_parsed_content() for step in config]

    def preprocess(scan: Scan) -> NDArray[np.uint8]:
        data: Any = {key: MetaTensor(torch.from_numpy(scan.voxels.copy()), affine=torch.from_numpy(scan.affine))}
        for step in steps:
            data = step(data)
        planes: NDArray[np.uint8] = np.asarray(data[key]).astype(np.uint8)
        return planes

    return preprocess


def _grid_steps(geometry: Geometry) -> list[Config]:
    size = geometry.image_size
    return [
        {"_target_": "Spacingd", "pixdim": list(geometry.spacing or ()), "mode": "bilinear", "padding_mode": "border"},
        {"_target_": "ResizeWithPadOrCropd", "spatial_size": [size, size, geometry.planes]},
    ]


def _intensity_step(geometry: Geometry) -> Config:
    if geometry.intensity == "percentile":
        limits: Config = {"_target_": "ScaleIntensityRangePercentilesd", "lower": 0.5, "upper": 99.5}
    else:
        low, high = (0.0, 255.0) if geometry.intensity == "keep" else geometry.intensity
        limits = {"_target_": "ScaleIntensityRanged", "a_min": low, "a_max": high}
    return limits | {"b_min": 0.0, "b_max": 255.0, "clip": True}
