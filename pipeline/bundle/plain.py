"""Read the JSON files of a bundle that others may have written: bounded in size and depth, and finite."""

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from pipeline.bundle.manifest import BrokenBundle, readable

DEEPEST = 50  # levels of lists and objects in each other
LARGEST = 1 << 28  # bytes
LEVELS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')


def read_plain(file: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    BrokenBundle
        If it is no JSON, larger or deeper than any of ours, or holds NaN or infinity.
    UnreadableBundle
        If the system does not let this user read it.
    """
    with readable(file):
        if file.stat().st_size > LARGEST:
            raise BrokenBundle(f"{file} has more than {LARGEST >> 20} MiB; no bundle of medadapt does")
        content = file.read_bytes()
    try:
        return parsed(content)
    except ValueError as error:
        raise BrokenBundle(f"{file} cannot be read: {error}; get the bundle from its source again") from error


def parsed(content: bytes) -> Any:
    """Parse JSON; raise a ValueError if it is none, deeper than any of ours, or holds NaN or infinity."""
    if depth_of(content) > DEEPEST:
        raise ValueError(f"it has more than {DEEPEST} levels")
    return json.loads(content, parse_constant=_not_finite, parse_float=_finite)


def depth_of(content: bytes) -> int:
    """Count the levels of lists and objects, without parsing.

    >>> depth_of(b'[{"a": "[["}, [1]]')
    2
    """
    depth = deepest = 0
    for found in LEVELS.finditer(content):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(found[0], 0)
        deepest = max(deepest, depth)
    return deepest


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _not_finite(text)


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a finite number")
