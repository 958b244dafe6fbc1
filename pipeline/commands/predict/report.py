"""Write the results of `predict --report` as one self-contained page that opens without a network."""

import base64
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from pipeline.bundle.opening import Opened
from pipeline.bundle.predictor import Prediction
from pipeline.commands.answer_words import measured, ordered
from pipeline.commands.drawings import Drawing, Pixels, png_of
from pipeline.commands.results import Row, decision_counts, in_words, withheld_line
from pipeline.imaging.tables.scan_list import Listed
from pipeline.stages.report.page import HERE, templates


def write_report(
    bundle: Opened, name: str, scans: Sequence[Row], table: pd.DataFrame, patients: pd.DataFrame | None
) -> str:
    """Fill page.html; names of files, patients and classes are escaped.

    Parameters
    ----------
    bundle : Opened
    name : str
        Name and version of the model.
    scans : sequence of dict
        As `scan_section` returns them.
    table : pandas.DataFrame
        A row for each scan.
    patients : pandas.DataFrame or None
        A row for each patient, see `patients.patient_table`.
    """
    return (
        templates(Path(__file__).parent, Path(__file__).parent.parent)
        .get_template("page.html")
        .render(
            style=Markup((HERE / "page.css").read_text()),  # our own file
            name=name,
            today=date.today().isoformat(),
            status=bundle.status,
            know_before_use=bundle.know_before_use,
            classes=bundle.classes,
            counts=withheld_line(table),
            decisions=decision_counts(table),
            point=bundle.operating_point,
            patients=[] if patients is None else patients.astype(object).to_dict("records"),
            scans=scans,
            multilabel=bundle.multilabel,
            volumes=bundle.kind == "volume",
            measured=measured(bundle.operating_point),
        )
    )


def scan_section(scan: Listed, found: Prediction, drawing: Drawing | None, classes: Sequence[str]) -> Row:
    """Collect what the page shows of a scan: the image with its map, and the answer or why there is none."""
    section: dict[str, Any] = {
        "name": scan.name,
        "patient": scan.known.get("patient", ""),
        "answered": found.probabilities is not None,
        "probabilities": ordered(found.probabilities or {}),
        "set": found.set,
        "decision": found.decision,
        "why": in_words(found.abstains),
        "reason": found.reason,
        "image": None,
    }
    if drawing is None:
        return section
    return section | {
        "image": embedded(drawing.image),
        "over": embedded(drawing.over) if drawing.over is not None and found.probabilities is not None else None,
        "asked": classes[drawing.asked],
        "slice": f"slice {drawing.slice_number} of {drawing.slices}" if drawing.slices > 1 else "",
    }


def embedded(image: Pixels) -> str:
    """Encode an image (H, W, 3) for the `src` of an image on the page."""
    return f"data:image/png;base64,{base64.b64encode(png_of(image)).decode()}"
