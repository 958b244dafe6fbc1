"""Predictions whose metrics have a closed form, without a random draw.

The prediction p is uniform on (0, 1) and right: each p is once an event of weight p, and once no event of weight 1 - p.
"""

import numpy as np

GRID = (np.arange(4000) + 0.5) / 4000
P = np.tile(GRID, 2)
Y = np.arange(8000) < 4000
ONE = np.concatenate([GRID, 1 - GRID])[None]
OVERCONFIDENT = P**2 / (P**2 + (1 - P) ** 2)  # the same predictions at temperature 1/2
