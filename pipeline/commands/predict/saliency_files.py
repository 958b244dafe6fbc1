"""Write saliency maps of the most probable class, on the grid of each scan."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipeline.bundle.opening import Opened
from pipeline.bundle.scoring import Look
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.overlays import write_overlay
from pipeline.imaging.tables.scan_list import Listed
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.ensemble import members_of, network_from
from pipeline.learning.models.saliency import NO_MAP, saliency


def overlays_by(bundle: Opened, folder: Path, scans: Sequence[Listed]) -> Callable[[Listed, Look], str]:
    """Load the network with gradients and return the function that writes the saliency map of a scan to a folder.

    The function returns the name of the file, or "" if no location supports the class. File names are unique.

    Raises
    ------
    UserError
        If the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--saliency: {folder} cannot be created ({error.strerror}); name another folder") from error
    network = network_from(bundle.network)
    network.load_state_dict(load_file(bundle.weights))
    network.eval()
    geometry = Geometry.from_json(bundle.preparation["geometry"])
    stems = stems_of(scans)

    def overlay(scan: Listed, seen: Look) -> str:
        network.at(scan.known.get("site"))
        maps = maps_of(members_of(network), seen.prepared.channels, int(seen.logits.argmax()))
        if maps is None:
            return ""
        return write_overlay(maps, seen.prepared.placement, geometry, folder / stems[id(scan)]).name

    return overlay


def maps_of(members: Sequence[Classifier], channels: NDArray[np.uint8], asked: int) -> NDArray[np.float32] | None:
    """Average the saliency maps (S, H, W) of the members for a class; None if no location supports it in any member."""
    found = [saliency(member, torch.from_numpy(channels)[None], asked) for member in members]
    if all(one.method == NO_MAP for one in found):
        return None
    return np.asarray(np.mean([one.maps for one in found], axis=0), dtype=np.float32)


def stems_of(scans: Sequence[Listed]) -> dict[int, str]:
    """Name the file of each scan by its position, which keeps names unique, and the name of the scan."""
    width = len(str(len(scans)))
    return {
        id(scan): f"{number:0{width}}_{re.sub(r'[^A-Za-z0-9-]+', '_', stem_of(scan.name))}_saliency"
        for number, scan in enumerate(scans, 1)
    }


def stem_of(name: str) -> str:
    """Remove the folder and the suffix from a name."""
    return Path(name).name.removesuffix(".gz").rsplit(".", 1)[0] or "scan"
