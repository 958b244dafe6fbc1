"""Answer a study that lies in a folder, as the application of `package --map` does: DICOM objects and a table."""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.bundle.dicom_results.source import NoSource
from pipeline.bundle.manifest import MANIFEST
from pipeline.bundle.predictor import BAD_IMAGE
from pipeline.bundle.zipped import MOST_GIB
from pipeline.commands.answering import Answering, answering
from pipeline.commands.dicom_objects import require_highdicom
from pipeline.commands.results import Row, in_order, withheld_line
from pipeline.commands.series_files import Known, header_of, without_others
from pipeline.commands.series_rule import Rule, rule_of
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed, list_scans
from pipeline.imaging.tables.text_table import BadTable
from pipeline.spreadsheets import write_csv

RESULTS = "results.csv"


def answer_study(models: Path, study: Path, results: Path, settings: Mapping[str, Any]) -> None:
    """Answer the series of a study; write their DICOM objects and `results.csv`.

    Parameters
    ----------
    models : Path
        A released bundle, or the folder that holds it.
    study : Path
        DICOM files of any name, order and folder.
    results : Path
        An existing folder.
    settings : mapping
        The options `site`, `adaptation`, `calibration`, `modality` and `description` of `package`; each may be absent.

    Raises
    ------
    UserError
        If the bundle cannot be used, or no scan of the study can be read.
    """
    require_highdicom("the application")
    files = {name: settings.get(name) for name in ("site", "adaptation", "calibration")}
    options = argparse.Namespace(bundle=bundle_in(models), max_size=MOST_GIB, **files)
    name = "the application of `package --map`"
    with answering(options, name) as answer, tempfile.TemporaryDirectory(prefix="medadapt-") as scratch:
        rule = rule_of(settings.get("modality"), settings.get("description"), answer.bundle.kind)
        scans = list(scans_of(study, Path(scratch), rule, answer))
        if not scans:
            raise UserError(f"{study} holds no scan that the model takes; see the reasons above")
        table = in_order([answered(scan, results, answer) for scan in scans], answer.bundle.classes)
    write_csv(table, results / RESULTS)
    print(f"{withheld_line(table)}; research use only, not a medical device")
    if (table["abstains"] == BAD_IMAGE).all():
        raise UserError(f"no scan could be read; see the reasons in {results / RESULTS}")


def bundle_in(models: Path) -> Path:
    """Find the bundle: the folder itself, or the only one in it."""
    if (models / MANIFEST).is_file():
        return models
    found = sorted(manifest.parent for manifest in models.glob(f"*/{MANIFEST}"))
    if len(found) != 1:
        raise UserError(f"{models} holds {len(found)} bundles; name a folder with one")
    return found[0]


def scans_of(study: Path, scratch: Path, rule: Rule, answer: Answering) -> Iterator[Listed]:
    """Sort files into series by their headers; yield the scans of those that are to be answered, named by their UID."""
    for number, (series, known, files) in enumerate(series_in(study), 1):
        why = rule.objection(known["modality"], known["description"])
        place = scratch / str(number)
        place.mkdir()
        for position, file in enumerate([] if why else files):
            (place / f"{position:06}.dcm").symlink_to(file.resolve())
        dropped = without_others(place)
        try:
            listed = list_scans(place, "volume" if answer.bundle.kind == "volume" else "image")
        except BadTable:
            print(f"series {number} is left out: {why or '; '.join(dropped)}")
            continue
        for position, one in enumerate(listed, 1):
            yield Listed(series if len(listed) == 1 else f"{series}-{position}", one.file)


def series_in(study: Path) -> list[tuple[str, Known, list[Path]]]:
    """Group the DICOM files of a folder by series; say how many other files there are."""
    groups, others = dict[str, tuple[Known, list[Path]]](), 0
    for file in sorted(one for one in study.rglob("*") if one.is_file()):
        series, known = header_of(file)
        if series:
            groups.setdefault(series, (known, []))[1].append(file)
        else:
            others += 1
    if others:
        print(f"files that are no DICOM file of a series: {others}")
    return [(series, known, files) for series, (known, files) in sorted(groups.items())]


def answered(scan: Listed, results: Path, answer: Answering) -> Row:
    """Answer a scan, write its objects, and return its row of the table."""
    one = answer(scan)
    try:
        names = answer.objects_of(one).write(results, scan.name)
    except NoSource as error:
        print(f"no DICOM object is written for a scan: {error}")
        names = []
    return one.row | {"dicom": "; ".join(names)}
