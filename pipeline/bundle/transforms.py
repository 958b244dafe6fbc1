"""Wrap the preprocessing in a MONAI transform, so that a bundle runs the preprocessing that was evaluated."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from pipeline.bundle.allowed import PREPARATION
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.reading.volumes import is_readable
from pipeline.imaging.tables.mask_list import masks_by_name, stem_of

Config = dict[str, Any]
MASK = "mask"


class PrepareScand(MapTransform):
    """Read the scan at the path `data[key]` and prepare the channels of the network.

    Parameters
    ----------
    keys : KeysCollection
    geometry, policy, deface, mask
        As `Preprocessor.as_json` writes them: plain values; `mask` only if the cohort had masks.

    Raises
    ------
    Unreadable
        When called, if a scan, or its mask at the path `data["mask"]`, is refused.
    """

    def __init__(
        self, keys: KeysCollection, geometry: Config, policy: Config, deface: bool, *, mask: Config | None = None
    ) -> None:
        super().__init__(keys)
        self.steps = Preprocessor.from_json({"geometry": geometry, "policy": policy, "deface": deface, "mask": mask})

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its channels, (C, H, W) float32, whole numbers from 0 to 255."""
        prepared = dict(data)
        mask = Path(prepared[MASK]) if self.steps.sees_masks and prepared.get(MASK) else None
        for key in self.keys:
            channels = self.steps.prepare_file(Path(prepared[key]), mask).channels
            prepared[key] = torch.from_numpy(channels).float()
        return prepared


def preparation_config(steps: Preprocessor, key: str = "image") -> Config:
    """Write the transform as a MONAI configuration: `_target_` and plain values, no expression."""
    return {"_target_": PREPARATION, "keys": key, **steps.as_json()}


def scans_in(folder: str, masks: str = "") -> list[dict[str, str]]:
    """List the scans of a folder for MONAI's `Dataset`; a DICOM series is a folder in it.

    `filename_or_obj`, which results show, is the name of the file without its path. With a folder of `masks`, `mask` is
    the path of the one with the name of the scan, whatever its ending.
    """
    scans = sorted(path for path in Path(folder).iterdir() if path.is_dir() or is_readable(path))
    found = masks_by_name(Path(masks)) if masks else {}
    named = [{"image": str(scan), "filename_or_obj": scan.name} for scan in scans]
    return [one | ({MASK: str(found[stem])} if (stem := stem_of(one["image"])) in found else {}) for one in named]
