"""Write saliency maps into a folder: on the grid of each scan, and as a PNG to look at."""

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.commands.drawings import Drawing, png_of
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.overlays import write_overlay
from pipeline.imaging.tables.scan_list import Listed


class SaliencyFolder:
    """Write saliency maps into a folder.

    Parameters
    ----------
    folder : Path
    scans : sequence of Listed
        Each of them gets a file name of its own.
    geometry : Geometry

    Raises
    ------
    UserError
        If the folder cannot be created or written to.
    """

    def __init__(self, folder: Path, scans: Sequence[Listed], geometry: Geometry) -> None:
        self.folder, self.stems, self.geometry = writable(folder, "--saliency"), stems_of(scans), geometry

    def write(self, scan: Listed, drawing: Drawing) -> str:
        """Write the map on the scan's own grid, and a PNG to look at; return the map's name, "" without a map."""
        if drawing.maps is None or drawing.over is None:
            return ""
        stem = self.stems[id(scan)]
        (self.folder / f"{stem}_overlay.png").write_bytes(png_of(drawing.over))
        return write_overlay(drawing.maps, drawing.placement, self.geometry, self.folder / f"{stem}_saliency").name


def writable(folder: Path, option: str) -> Path:
    """Create a folder, and check that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(f"{option}: {folder} cannot be written to ({error.strerror}); name another folder") from error
    return folder


def stems_of(scans: Sequence[Listed]) -> dict[int, str]:
    """Name the files of each scan by its position, which keeps names unique, and the name of the scan."""
    width = len(str(len(scans)))
    return {
        id(scan): f"{number:0{width}}_{re.sub(r'[^A-Za-z0-9-]+', '_', stem_of(scan.name))}"
        for number, scan in enumerate(scans, 1)
    }


def stem_of(name: str) -> str:
    """Remove the folder and the suffix from a name."""
    return Path(name).name.removesuffix(".gz").rsplit(".", 1)[0] or "scan"
