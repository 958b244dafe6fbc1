"""Keep to the folder of the cohort: an image elsewhere is refused unless `cohort.roots` names its folder."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.imaging.reading.scan import Finding
from pipeline.schema import Cohort

log = logging.getLogger(__name__)
OUTSIDE = Finding("outside", "it lies outside of the cohort's folder, which DVC watches", "refused", "cohort.roots")


def roots_of(source: Path, cohort: Cohort) -> tuple[Path, ...]:
    """List the folders that may hold images, links followed."""
    return tuple(Path(folder).expanduser().resolve() for folder in (str(source), *cohort.roots))


def is_outside(image: Path, roots: Sequence[Path]) -> bool:
    """Check whether a file, or any file of a DICOM series, lies outside of the roots, links followed."""
    files = [image, *image.iterdir()] if image.is_dir() else [image]
    return not all(any(file.resolve().is_relative_to(root) for root in roots) for file in files)


def warn_of_unwatched(images: Sequence[Path], source: Path) -> None:
    """Say how many images DVC does not watch, because their path leads out of the cohort's folder."""
    folder = os.path.join(os.path.abspath(source), "")
    count = sum(not os.path.abspath(image).startswith(folder) for image in images)
    if count:
        log.warning(
            "%d images lie outside of %s, where DVC does not watch them: after a change there, call "
            "`dvc repro -f cohort`",
            count,
            source,
        )
