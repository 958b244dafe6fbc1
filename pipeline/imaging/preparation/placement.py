"""Where the stored channels of a case lie in its scan, so that a map on the channels can be laid back over the scan."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

Affine = NDArray[np.float64]
Channels = NDArray[np.uint8]


@dataclass(frozen=True)
class Placement:
    """The way from stored channels to the scan's own grid.

    Attributes
    ----------
    scan_shape : (X, Y, Z)
        As stored in the file; (1, rows, columns) for a image.
    scan_affine : (4, 4)
        Voxel index of the scan to RAS+ millimetres; the identity for a image.
    to_scan : (4, 4)
        Index (slice, row, column) of a stored channel to the voxel index of the scan.
    """

    scan_shape: tuple[int, int, int]
    scan_affine: Affine
    to_scan: Affine

    def as_text(self) -> str:
        """Write it as one line of JSON, for a column of a table."""
        values = {"shape": self.scan_shape, "affine": self.scan_affine.tolist(), "to_scan": self.to_scan.tolist()}
        return json.dumps(values, separators=(",", ":"))

    def on_scan(self, stored: NDArray[np.float32], outside: float = 0.0) -> NDArray[np.float32]:
        """Lay a map on the stored channels back over the scan's own grid, by linear interpolation.

        Parameters
        ----------
        stored : (slices, rows, columns)
            A saliency map, or the channels of one window.
        outside : float
            What voxels get that were cut off.

        Returns
        -------
        array of `scan_shape`
        """
        to_stored = np.linalg.inv(self.to_scan)
        laid: NDArray[np.float32] = affine_transform(
            np.asarray(stored, dtype=np.float32),
            to_stored[:3, :3],
            np.round(to_stored[:3, 3], 9),
            output_shape=self.scan_shape,
            order=1,
            cval=outside,
            mode="constant",
        )
        return laid


@dataclass(frozen=True)
class Prepared:
    """A case as the network sees it.

    Attributes
    ----------
    channels : (C, image_size, image_size) uint8
        Volume: axial, feet first, the patient's front up and right side on the left; the windows of a slice
        follow each other. Image: its channels.
    placement : Placement
        The way back to the scan's own grid.
    """

    channels: Channels
    placement: Placement
