"""Position of the stored slices of a case in its scan, for resampling a map back to the scan."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

Affine = NDArray[np.float64]
Channels = NDArray[np.uint8]


@dataclass(frozen=True)
class Placement:
    """Map stored slices to the grid of their scan.

    Attributes
    ----------
    scan_shape : (X, Y, Z)
        Shape as stored in the file; (1, rows, columns) for an image.
    scan_affine : (4, 4)
        Voxel index of the scan to RAS+ millimetres; the identity for an image.
    to_scan : (4, 4)
        Index (slice, row, column) in the stored slices to the voxel index of the scan.
    """

    scan_shape: tuple[int, int, int]
    scan_affine: Affine
    to_scan: Affine

    def as_text(self) -> str:
        """Convert to one line of JSON for a column of a table."""
        values = {"shape": self.scan_shape, "affine": self.scan_affine.tolist(), "to_scan": self.to_scan.tolist()}
        return json.dumps(values, separators=(",", ":"))

    def on_scan(self, stored: NDArray[np.float32], outside: float = 0.0) -> NDArray[np.float32]:
        """Resample a map from the stored slices to the grid of the scan, by linear interpolation.

        Parameters
        ----------
        stored : (slices, rows, columns)
            A saliency map, or the slices of one intensity window.
        outside : float
            Value of voxels outside the stored slices.

        Returns
        -------
        array of `scan_shape`
        """
        to_stored = np.linalg.inv(self.to_scan)
        resampled: NDArray[np.float32] = affine_transform(
            np.asarray(stored, dtype=np.float32),
            to_stored[:3, :3],
            np.round(to_stored[:3, 3], 9),
            output_shape=self.scan_shape,
            order=1,
            cval=outside,
            mode="constant",
        )
        return resampled


@dataclass(frozen=True)
class Prepared:
    """Hold a case as the network sees it.

    Attributes
    ----------
    channels : (C, image_size, image_size) uint8
        Volume: axial slices from feet to head, the patient's front up and right side on the left; the intensity windows
        of a slice are consecutive channels. Image: its channels.
    placement : Placement
        Position in the scan.
    """

    channels: Channels
    placement: Placement
