"""Preprocessing as a MONAI transform, so that the bundle runs what was evaluated, word for word."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from pipeline.bundle.allowed import PREPARATION
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.reading.volumes import is_readable

Config = dict[str, Any]


class PrepareScand(MapTransform):
    """Read the scan that `data[key]` names and give the channels that the network takes.

    Parameters
    ----------
    keys : KeysCollection
    geometry, policy, deface
        As `Preprocessor.as_json` writes them: plain values.

    Raises
    ------
    Unreadable
        From a call, if a scan is refused.
    """

    def __init__(self, keys: KeysCollection, geometry: Config, policy: Config, deface: bool) -> None:
        super().__init__(keys)
        self.steps = Preprocessor.from_json({"geometry": geometry, "policy": policy, "deface": deface})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its (C, H, W) float32 channels, whole numbers from 0 to 255."""
        prepared = dict(data)
        for key in self.keys:
            channels = self.steps.prepare_file(Path(prepared[key])).channels
            prepared[key] = torch.from_numpy(channels).float()
        return prepared


def preparation_config(steps: Preprocessor, key: str = "image") -> Config:
    """Write the transform as a MONAI configuration: `_target_` and plain values, no expression."""
    return {"_target_": PREPARATION, "keys": key, **steps.as_json()}


def scans_in(folder: str) -> list[dict[str, str]]:
    """List the scans of a folder for MONAI's `Dataset`, a DICOM series being a folder in it.

    Results name the file alone, never its path.
    """
    scans = sorted(path for path in Path(folder).iterdir() if path.is_dir() or is_readable(path))
    return [{"image": str(scan), "filename_or_obj": scan.name} for scan in scans]
