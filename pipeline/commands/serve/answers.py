"""What the page shows of an upload: each scan with its slices, its answer in words, and files to download."""

import base64
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bundle.dicom_results.source import NoSource, is_dicom_scan
from pipeline.commands.answer_words import ordered
from pipeline.commands.answering import Answered, Answering
from pipeline.commands.dicom_objects import with_map
from pipeline.commands.results import in_order, in_words
from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.slices import Slices
from pipeline.imaging.tables.scan_list import Listed
from pipeline.spreadsheets import write_csv

MOST_PIXELS = 384  # of a side that is sent
MOST_VALUES = 12 * 10**6  # of all slices of a scan that are sent
MOST_SHOWN = 4  # scans of an upload whose slices are sent


def answers_of(scans: list[Listed], dropped: Counter[str], answer: Answering) -> tuple[dict[str, Any], list[Answered]]:
    """Answer scans; return what the page shows, and the answers."""
    found = [answer(scan) for scan in scans]
    shown = [section(one, answer, number < MOST_SHOWN) for number, one in enumerate(found)]
    left_out = [f"{why} ({count})" for why, count in dropped.items()]
    return {"scans": shown, "left_out": left_out, "csv": table_of(found, answer) if found else ""}, found


def section(one: Answered, answer: Answering, with_view: bool) -> dict[str, Any]:
    """Collect what the page shows of a scan."""
    found = one.found
    view = view_of(one, answer) if with_view and found.output is not None else None
    return {
        "name": one.scan.name,
        "answered": found.probabilities is not None,
        "probabilities": [
            {"name": name, "shown": text, "value": (found.probabilities or {})[name]}
            for name, text in ordered(found.probabilities or {})
        ],
        "set": found.set,
        "decision": found.decision,
        "why": in_words(found.abstains),
        "reason": found.reason,
        "nearest": found.nearest_site,
        "asked": answer.bundle.classes[one.drawing.asked] if one.drawing and found.probabilities else "",
        "view": view,
        "dicom": dicom_of(one, answer),
    }


def view_of(one: Answered, answer: Answering) -> dict[str, Any] | None:
    """Send the slices as 16-bit greys or 8-bit colours and the map as 8-bit values, coarser where they are large."""
    drawing = one.drawing if one.found.probabilities is not None else None
    try:
        slices = with_map(answer.steps, one.scan.file, drawing, as_stored=is_dicom_scan(one.scan.file))
    except Unreadable:
        return None
    grey, saliency = coarser(slices)
    low, high = (0.0, 255.0) if slices.in_colour else (float(grey.min()), float(grey.max()))
    scaled = (grey.astype(np.float32) - low) / max(high - low, 1e-6)
    pixels = grey.astype(np.uint8) if slices.in_colour else np.rint(scaled * 65535).astype("<u2")
    maps = None if saliency is None else np.rint(saliency * 255).astype(np.uint8)
    return {
        "shape": grey.shape[:3],
        "colour": slices.in_colour,
        "aspect": slices.spacing[0] / slices.spacing[1],
        "low": low,
        "high": high,
        "range": slices.range,
        "start": len(grey) // 2 if maps is None else int(maps.sum(axis=(1, 2), dtype=np.int64).argmax()),
        "pixels": encoded(pixels.tobytes()),
        "map": None if maps is None else encoded(maps.tobytes()),
    }


def coarser(slices: Slices) -> tuple[Any, Any]:
    """Leave out rows, columns and slices where a scan has more than a page needs."""
    depth, rows, columns = slices.grey.shape[:3]
    step = math.ceil(max(rows, columns) / MOST_PIXELS)
    apart = math.ceil(depth * (rows // step) * (columns // step) / MOST_VALUES)
    chosen = (slice(None, None, apart), slice(None, None, step), slice(None, None, step))
    return slices.grey[chosen], None if slices.saliency is None else slices.saliency[chosen]


def dicom_of(one: Answered, answer: Answering) -> list[dict[str, str]]:
    """Write the DICOM objects of an answer; none for a scan without a study."""
    try:
        objects = answer.objects_of(one)
    except NoSource:
        return []
    with tempfile.TemporaryDirectory(prefix="medadapt-") as folder:
        names = objects.write(Path(folder), "result")
        return [{"name": name, "data": encoded((Path(folder) / name).read_bytes())} for name in names]


def table_of(found: list[Answered], answer: Answering) -> str:
    """Write the table that `predict --out` writes."""
    with tempfile.TemporaryDirectory(prefix="medadapt-") as folder:
        file = Path(folder) / "results.csv"
        write_csv(in_order([one.row for one in found], answer.bundle.classes), file)
        return file.read_text()


def encoded(content: bytes) -> str:
    """Encode bytes for JSON."""
    return base64.b64encode(content).decode()
