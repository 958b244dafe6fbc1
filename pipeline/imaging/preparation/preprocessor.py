"""Deterministic preprocessing: from a file as sent to stored channels of one size and scale, case by case."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.brain_fit import NotAHead
from pipeline.imaging.preparation.deface import deface
from pipeline.imaging.preparation.images import prepare_image
from pipeline.imaging.preparation.placement import Prepared
from pipeline.imaging.preparation.volumes import prepare_volume
from pipeline.imaging.reading.scan import STRICT, Policy, Scan, Unreadable
from pipeline.imaging.reading.volumes import read_scan


@dataclass(frozen=True)
class Preprocessor:
    """All that is done to a file before the network sees it; it travels with the model.

    Attributes
    ----------
    geometry : Geometry
    policy : Policy
        What is done with a scan that is not quite right.
    deface : bool
        Whether the face is removed from a head first.
    """

    geometry: Geometry
    policy: Policy = STRICT
    deface: bool = False

    def prepare_file(self, file: Path) -> Prepared:
        """Read a scan and prepare it; errors are those of `read`."""
        return self.prepare(self.read(file))

    def read(self, file: Path) -> Scan:
        """Read a scan as it is, in its own units.

        Raises
        ------
        Unreadable
            If the file is refused, or is of another kind than the cohort.
        """
        scan = read_scan(file, self.policy)
        if scan.header.is_volume != (self.geometry.kind == "volume"):
            raise Unreadable("kind", f"not a {self.geometry.kind}")
        return scan

    def prepare(self, scan: Scan) -> Prepared:
        """Prepare a scan that was read; Unreadable if it shows no head that could be defaced."""
        if self.deface and scan.header.is_volume:
            scan = replace(scan, voxels=without_face(scan))
        return prepare(scan, self.geometry)

    def as_json(self) -> dict[str, Any]:
        """Give plain values for a configuration."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessor":
        """Rebuild from such values."""
        low, high = values["policy"]["spacing_mm"]
        policy = Policy(**{**values["policy"], "spacing_mm": (low, high)})
        return cls(Geometry.from_json(values["geometry"]), policy, bool(values["deface"]))


def without_face(scan: Scan) -> NDArray[Any]:
    """Remove the face, or refuse what shows no head."""
    try:
        return deface(scan.voxels, scan.affine)
    except NotAHead as error:
        raise Unreadable("deface", str(error), "preprocess.deface") from error


def prepare(scan: Scan, geometry: Geometry) -> Prepared:
    """Turn a scan into its stored channels.

    Parameters
    ----------
    scan : Scan
        Of the same kind as the geometry.
    geometry : Geometry
        The resolved grid of the cohort.
    """
    return (prepare_volume if geometry.kind == "volume" else prepare_image)(scan, geometry)
