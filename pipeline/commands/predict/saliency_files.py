"""Write saliency maps of the most probable class, on the grid of each scan."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pipeline.bundle.limits import ScanOutput
from pipeline.bundle.opening import Opened
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.overlays import write_overlay
from pipeline.imaging.tables.scan_list import Listed
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.ensemble import members_of, network_from
from pipeline.learning.models.saliency import NO_MAP, saliency


class Overlays:
    """Write saliency maps of scans into a folder.

    Parameters
    ----------
    bundle : Opened
        Its network is loaded again, because saliency needs gradients.
    folder : Path
    scans : sequence of Listed
        Each of them gets a file name of its own.

    Raises
    ------
    UserError
        If the folder cannot be created or written to.
    """

    def __init__(self, bundle: Opened, folder: Path, scans: Sequence[Listed]) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise UserError(
                f"--saliency: {folder} cannot be written to ({error.strerror}); name another folder"
            ) from error
        self.network = network_from(bundle.network)
        self.network.load_state_dict(load_file(bundle.weights))
        self.network.eval()
        self.geometry = Geometry.from_json(bundle.preparation["geometry"])
        self.folder, self.stems = folder, stems_of(scans)

    def write(self, scan: Listed, output: ScanOutput) -> str:
        """Write the map of the most probable class; return the file's name, or "" if no location supports the class."""
        members, asked = members_of(self.network), int(output.logits.argmax())
        maps = maps_of(members, output.prepared.channels, asked, scan.known.get("site"))
        if maps is None:
            return ""
        file = self.folder / self.stems[id(scan)]
        return write_overlay(maps, output.prepared.placement, self.geometry, file).name


def maps_of(
    members: Sequence[Classifier], channels: NDArray[np.uint8], asked: int, site: str | None
) -> NDArray[np.float32] | None:
    """Average the saliency maps (S, H, W) of the members for a class; None if no location supports it in any member."""
    found = [saliency(member, torch.from_numpy(channels)[None], asked, site=site) for member in members]
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
