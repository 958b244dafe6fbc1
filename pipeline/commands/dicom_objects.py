"""The DICOM objects of a scan's result: its report and, if it is answered, its saliency map."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.bundle.dicom_results.model import RESEARCH, Model, identity_of
from pipeline.bundle.dicom_results.source import NoSource, Source, source_of
from pipeline.bundle.predictor import BAD_IMAGE, Prediction
from pipeline.commands.drawings import Drawing
from pipeline.errors import UserError
from pipeline.imaging.overlays import on_slices
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.slices import Slices, slices_shown
from pipeline.imaging.tables.scan_list import Listed
from pipeline.stages.explain.thumbnails import overlaid

NARROWEST = 480  # pixels of a rendering, so that its caption can be read
LETTERS = 15  # pixels


@dataclass(frozen=True)
class Objects:
    """The objects of one result, by the kind that names their files: report, segmentation, capture."""

    of_kind: dict[str, Any]

    def write(self, folder: Path, stem: str) -> list[str]:
        """Write them as files; return their names."""
        names = []
        for kind, one in self.of_kind.items():
            names.append(f"{stem}_{kind}.dcm")
            one.save_as(folder / names[-1], enforce_file_format=True)
        return names


def objects_of(
    scan: Listed, found: Prediction, drawing: Drawing | None, *, model: Model, steps: Preprocessor
) -> Objects:
    """Write the result of a scan as DICOM objects that go back to its study.

    Parameters
    ----------
    scan : Listed
    found : Prediction
    drawing : Drawing or None
        With the map of an answered scan.
    model : Model
    steps : Preprocessor
        Of the bundle.

    Raises
    ------
    NoSource
        If the scan cannot be read, is not DICOM, or its headers let no object refer to it.
    """
    from pipeline.bundle.dicom_results.report import report_of  # highdicom takes a second to import

    if BAD_IMAGE in found.abstains or found.output is None:
        raise NoSource("the scan cannot be used, so that there is no result to refer to it")
    source = source_of(scan.file)
    saw, site = found.output.prepared.channels.tobytes(), scan.known.get("site", "")
    identity = identity_of(model, source.uids, saw, site)
    try:
        objects = {"report": report_of(source, found, model, identity)}
        if found.probabilities is not None and drawing is not None and drawing.maps is not None:
            slices = with_map(steps, scan.file, drawing)
            asked = list(found.probabilities)[drawing.asked]
            words = f"{asked}: {found.probabilities[asked]:.2f}; saliency of {asked}"
            frame_of = source.slice_numbers(drawing.placement.scan_affine, len(slices.grey))
            objects |= MapObjects(source=source, slices=slices, frame_of=frame_of, model=model, identity=identity).of(
                asked, words
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # highdicom on headers that break the standard
        raise NoSource(f"its headers break the DICOM standard ({type(error).__name__})") from error
    return Objects(objects)


def with_map(steps: Preprocessor, file: Path, drawing: Drawing | None, *, as_stored: bool = True) -> Slices:
    """Read a scan again, with its saliency map on its own grid."""
    scan, saliency = steps.read(file), None
    if drawing is not None and drawing.maps is not None:
        saliency = drawing.placement.on_scan(on_slices(drawing.maps, steps.geometry)).clip(0, 1)
    return slices_shown(scan, saliency, as_stored=as_stored)


@dataclass(frozen=True, kw_only=True)
class MapObjects:
    """The objects of a saliency map.

    Attributes
    ----------
    source : Source
    slices : Slices
        With their map.
    frame_of : (frames,) int or None
        The slice of each frame of the source; None if they do not match, as for an image.
    model : Model
    identity : tuple of str
    """

    source: Source
    slices: Slices
    frame_of: NDArray[np.int64] | None
    model: Model
    identity: tuple[str, ...]

    def of(self, asked: str, words: str) -> dict[str, Any]:
        """Write the map of the class `asked`: as a segmentation where frames match slices, and as a rendering."""
        from pipeline.bundle.dicom_results.maps import STRONG, capture_of, segmentation_of

        saliency = self.slices.saliency
        if saliency is None:
            return {}
        objects: dict[str, Any] = {}
        strong, peak, shown = saliency >= STRONG, int(saliency.sum(axis=(1, 2)).argmax()), None
        said: dict[str, Any] = {"model": self.model, "identity": self.identity}
        if self.frame_of is not None:
            shown = int(np.flatnonzero(self.frame_of == peak)[0])
            if "FrameOfReferenceUID" in self.source.images[0] and strong.any():
                objects["segmentation"] = segmentation_of(self.source, strong[self.frame_of], asked, **said)
        over = overlaid(self.slices.shown(peak)[None], saliency[peak : peak + 1])[0]
        image = captioned(enlarged(over, self.slices.spacing), [words, f"{RESEARCH}; {self.model.title}"])
        return objects | {"capture": capture_of(self.source, image, shown, **said)}


def enlarged(image: NDArray[np.uint8], spacing: tuple[float, float]) -> NDArray[np.uint8]:
    """Show an image in the proportions of the body, and wide enough for a caption."""
    rows, columns = image.shape[:2]
    times = max(1, math.ceil(NARROWEST / columns))
    height = max(1, round(rows * times * spacing[0] / spacing[1]))
    return np.asarray(Image.fromarray(image).resize((columns * times, height), Image.Resampling.NEAREST))


def captioned(image: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Put lines of text below an image (rows, columns, 3)."""
    font = ImageFont.load_default(LETTERS)
    below = Image.new("RGB", (image.shape[1], (LETTERS + 5) * len(lines) + 5))
    for number, line in enumerate(lines):
        ImageDraw.Draw(below).text((4, 3 + number * (LETTERS + 5)), line, font=font, fill="white")
    return np.concatenate([image, np.asarray(below)])


def require_highdicom(option: str) -> None:
    """Refuse to go on without the packages of the extra `clinic`."""
    if find_spec("highdicom") is None:
        raise UserError(f"{option} needs highdicom: pip install 'medadapt[clinic]'")
