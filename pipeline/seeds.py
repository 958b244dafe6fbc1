"""Derive the seed of every random draw from the project's seed and the name of the draw.

The name of a draw never changes, even where the code's words do, so that equal seeds give equal draws in every version.
"""

import hashlib


def seed_for(seed: int, *names: object) -> int:
    """Derive the seed of one named draw, so that adding a draw never changes another.

    Parameters
    ----------
    seed : int
        The project's seed.
    *names : object
        The name of the draw, e.g. ``"view", fold, case, 3``.

    Returns
    -------
    int
        In [0, 2**32).
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
