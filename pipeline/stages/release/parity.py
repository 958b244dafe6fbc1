"""Compare the preprocessing of the bundle with the channels that the network was trained on."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser

from pipeline import prepared, runtime
from pipeline.imaging.reading.scan import Unreadable

Config = dict[str, Any]
WHITE = 255.0


def preparation_parity(
    preparation: Config, files: Mapping[str, Path], cases: Sequence[str], masks: Mapping[str, Path]
) -> Config:
    """Run the preprocessing of inference.json on original scans, as MONAI does, and compare it with stored channels.

    Parameters
    ----------
    preparation : dict
        The one transform of the bundle's preprocessing.
    files : mapping
        Original scan by case.
    cases : sequence of str
    masks : mapping
        Original mask by case, of cases that have one.

    Returns
    -------
    dict
        Number of `cases` that were compared, of cases that are `absent` because their scan no longer exists, and the
        `largest_difference` in grey values of 255; None if no case was compared.
    """
    there = [case for case in cases if case in files and files[case].exists()]
    jobs = [(files[case], case, masks.get(case)) for case in there]
    found = runtime.map_cases(partial(difference, preparation=preparation), jobs, "scans")
    return {"cases": len(jobs), "absent": len(cases) - len(jobs), "largest_difference": max(found, default=None)}


def difference(job: tuple[Path, str, Path | None], preparation: Config) -> float:
    """Compute the largest difference from stored channels in grey values; 255 if the scan is refused."""
    file, case, mask = job
    data = {preparation["keys"]: str(file)} | ({"mask": str(mask)} if mask else {})
    parser = ConfigParser({"preprocessing": {"_target_": "Compose", "transforms": [preparation]}})
    try:
        found = np.asarray(parser.get_parsed_content("preprocessing")(data)["image"])
    except Unreadable:
        return WHITE
    expected = prepared.read_channels(case).astype(np.float32)
    return float(np.abs(found - expected).max()) if found.shape == expected.shape else WHITE
