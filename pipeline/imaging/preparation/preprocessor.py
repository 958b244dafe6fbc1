"""Convert a file to stored channels of one size and intensity scale, case by case."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.images import prepare_image
from pipeline.imaging.preparation.placement import Prepared
from pipeline.imaging.preparation.region import MaskFile, MaskUse, Region
from pipeline.imaging.preparation.volumes import prepare_volume
from pipeline.imaging.reading.scan import STRICT, Policy, Scan, Unreadable
from pipeline.imaging.reading.volumes import read_scan

NOT_A_VOLUME = "it is a 2D image; volumes are needed, such as NIfTI or a DICOM series"
NOT_AN_IMAGE = "it is a volume; 2D images are needed, such as PNG, JPEG or a DICOM file with one slice"


@dataclass(frozen=True)
class Preprocessor:
    """Read and prepare a file for the network; its settings are part of a released model.

    Attributes
    ----------
    geometry : Geometry
    policy : Policy
        How faulty scans are handled.
    deface : bool
        Whether faces are removed from volumes first.
    mask : MaskUse or None
        What the network sees of masks; None for a cohort without masks.
    """

    geometry: Geometry
    policy: Policy = STRICT
    deface: bool = False
    mask: MaskUse | None = None

    @property
    def sees_masks(self) -> bool:
        """Tell whether the network sees the masks of scans."""
        return self.mask is not None and self.mask.use != "none"

    @property
    def without_masks(self) -> "Preprocessor":
        """The same steps for whole scans."""
        return replace(self, geometry=self.geometry.without_mask, mask=None)

    def marked(self, scan: Scan, mask: MaskFile) -> NDArray[np.bool_]:
        """Bring the mask of a scan to the grid of the stored channels.

        Returns
        -------
        (D, image_size, image_size)
            D is `geometry.depth`, or 1 for an image. Everything is marked where there is no mask.
        """
        known = self.mask or MaskUse()
        crops = known.use in ("crop", "both")
        use = replace(known, use="both" if crops else "channel", missing="whole")
        steps = replace(self, geometry=self.geometry.with_mask, mask=use)
        return np.asarray(steps.prepare(scan, mask).channels[steps.geometry.mask_places] > 0)

    def prepare_file(self, file: Path, mask: MaskFile = None) -> Prepared:
        """Read and prepare a scan; raise the errors of `read` and `prepare`."""
        return self.prepare(self.read(file), mask)

    def read(self, file: Path) -> Scan:
        """Read a scan without preparing it, in its own units.

        Raises
        ------
        Unreadable
            If the file is refused, or is not of the kind (volume or image) of the cohort.
        """
        scan = read_scan(file, self.policy)
        if scan.header.is_volume != (self.geometry.kind == "volume"):
            raise Unreadable("kind", NOT_A_VOLUME if self.geometry.kind == "volume" else NOT_AN_IMAGE)
        return scan

    def prepare(self, scan: Scan, mask: MaskFile = None) -> Prepared:
        """Prepare a scan, with its mask if the network sees masks.

        Raises
        ------
        Unreadable
            If it is to be defaced but shows no head, its mask cannot be used, or a library fails on it: one scan must
            not end a list of many.
        """
        region = self.mask.region(scan, mask, self.policy) if self.mask else None
        _, scan = self.after_defacing(scan)
        try:
            return prepare(scan, self.geometry, region)
        except (ArithmeticError, LookupError, ValueError) as error:
            detail = f"it can be read but not prepared ({type(error).__name__}); look at its values and its grid"
            raise Unreadable("preparation", detail) from error

    def after_defacing(self, scan: Scan) -> tuple["Preprocessor", Scan]:
        """Remove the face, if it is to be removed; return the steps that remain and the scan.

        Raises
        ------
        Unreadable
            If it is to be defaced but shows no head.
        """
        if not (self.deface and scan.header.is_volume):
            return self, scan
        return replace(self, deface=False), replace(scan, voxels=without_face(scan))

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values for a configuration."""
        values = asdict(self) | {"geometry": self.geometry.as_json()}
        return {name: one for name, one in values.items() if name != "mask" or one is not None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Preprocessor":
        """Rebuild the preprocessor from the values of `as_json`."""
        low, high = values["policy"]["spacing_mm"]
        policy = Policy(**{**values["policy"], "spacing_mm": (low, high)})
        mask = MaskUse.from_json(values["mask"]) if values.get("mask") else None
        return cls(Geometry.from_json(values["geometry"]), policy, bool(values["deface"]), mask=mask)


def without_face(scan: Scan) -> NDArray[Any]:
    """Remove the face; raise Unreadable if the scan shows no head."""
    from pipeline.imaging.preparation.brain_fit import NotAHead  # not above: few cohorts are defaced
    from pipeline.imaging.preparation.deface import deface

    try:
        return deface(scan.voxels, scan.affine)
    except NotAHead as error:
        raise Unreadable("deface", str(error), "preprocess.deface") from error


def prepare(scan: Scan, geometry: Geometry, region: Region | None = None) -> Prepared:
    """Convert a scan to stored channels.

    Parameters
    ----------
    scan : Scan
        Scan of the geometry's kind.
    geometry : Geometry
        Grid of the cohort.
    region : Region, optional
        What the mask marks, if the network sees masks.
    """
    return (prepare_volume if geometry.kind == "volume" else prepare_image)(scan, geometry, region)
