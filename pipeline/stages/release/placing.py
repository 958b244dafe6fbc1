"""Put a bundle in its place: whole, and never in that of another cohort's bundle."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import paths
from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import MANIFEST, sha256_of

UNFINISHED = paths.bundle(".unfinished")  # of a run that is not at its end, or was killed


@contextmanager
def written_whole(place: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `place` if nothing fails; otherwise `place` stays as it was."""
    shutil.rmtree(UNFINISHED, ignore_errors=True)
    UNFINISHED.mkdir(parents=True)
    try:
        yield UNFINISHED
    except BaseException:
        shutil.rmtree(UNFINISHED)
        raise
    if place.exists():
        shutil.rmtree(place)
    UNFINISHED.rename(place)


def problems_of_place(place: Path, cohort: str) -> list[str]:
    """Say why a bundle cannot be written to `place`, if it holds one that is not of the cohort.

    Parameters
    ----------
    place : Path
    cohort : str
        The digest of the cohort's folder.
    """
    if not (place / METADATA).exists() or is_of(place, cohort):
        return []
    whose = "of another cohort" if "cohort" in values_in(place / METADATA) else "that does not name its cohort"
    return [f"{place} holds a model {whose}; choose another release.name, or move that folder"]


def others_of(place: Path, cohort: str) -> list[Path]:
    """List the bundles of the cohort under other names; `release` keeps them."""
    beside = [file.parent.parent for file in sorted(place.parent.glob(f"*/{METADATA}"))]
    return [folder for folder in beside if folder != place and is_of(folder, cohort)]


def is_of(folder: Path, cohort: str) -> bool:
    """Tell whether a bundle is of the cohort, which one of an earlier version is if it was made of the same cases."""
    metadata = values_in(folder / METADATA)
    if "cohort" in metadata:
        return bool(metadata["cohort"] == cohort)
    cases = values_in(folder / MANIFEST).get("data", {}).get("cases")
    return paths.CASES.exists() and bool(cases == sha256_of(paths.CASES))


def values_in(file: Path) -> dict[str, Any]:
    """Read a mapping; nothing if the file is absent or holds none."""
    try:
        values = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
