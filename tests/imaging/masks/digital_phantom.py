"""The digital phantom of the IBSI reference manual (arXiv 1612.07003v11, section 5.1): 5 x 4 x 4 voxels of 2 mm."""

import numpy as np

SLICES = [
    ["14411", "14611", "41641", "44641"],
    ["14411", "11611", ".1311", "44611"],
    ["144..", "11111", "11.11", "11611"],
    ["144..", "11111", "11111", "11611"],
]
VALUES = [[[int(one.replace(".", "0")) for one in row] for row in rows] for rows in SLICES]
PHANTOM = np.array(VALUES).transpose(2, 1, 0)
INSIDE = PHANTOM > 0
TO_MM = 2.0 * np.eye(3)

SHAPE = {  # values and tolerances of the manual
    "volume": (556, 0.5),
    "surface": (388, 0.5),
    "surface_volume_ratio": (0.698, 5e-4),
    "compactness": (0.599, 5e-4),
    "sphericity": (0.843, 5e-4),
    "max_diameter": (13.1, 0.05),
    "major_axis": (11.4, 0.05),
    "minor_axis": (9.31, 5e-3),
    "least_axis": (8.54, 5e-3),
    "elongation": (0.816, 5e-4),
    "flatness": (0.749, 5e-4),
}
FIRST_ORDER = {
    "mean": (2.15, 5e-3),
    "variance": (3.05, 5e-3),
    "skewness": (1.08, 5e-3),
    "kurtosis": (-0.355, 5e-4),
    "median": (1, 0),
    "minimum": (1, 0),
    "p10": (1, 0),
    "p90": (4, 0),
    "maximum": (6, 0),
    "iqr": (3, 0),
    "range": (5, 0),
    "mad": (1.55, 5e-3),
    "robust_mad": (1.11, 5e-3),
    "median_ad": (1.15, 5e-3),
    "cov": (0.812, 5e-4),
    "qcod": (0.6, 1e-12),
    "energy": (567, 1e-9),
    "rms": (2.77, 5e-3),
    "entropy": (1.27, 5e-3),
    "uniformity": (0.512, 5e-4),
}
