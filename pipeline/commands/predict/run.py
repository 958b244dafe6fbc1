"""Predict scans with a released bundle: probabilities, sets, decisions, and reasons for abstaining."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.opening import Opened, open_bundle, reference_in
from pipeline.bundle.plain import read_plain
from pipeline.bundle.predictor import BAD_IMAGE, Predictor
from pipeline.bundle.scoring import BadModel
from pipeline.bundle.zipped import unpacked
from pipeline.commands.answering import check_site
from pipeline.commands.drawings import Overlays
from pipeline.commands.labels import scans_named
from pipeline.commands.numbers import refuse_options
from pipeline.commands.predict.dicom_folder import DicomFolder
from pipeline.commands.predict.inputs import inputs_of, with_inputs
from pipeline.commands.predict.masks import with_masks
from pipeline.commands.predict.patients import Logits, patient_table
from pipeline.commands.predict.printing import print_predictions
from pipeline.commands.predict.report import scan_section, write_report
from pipeline.commands.predict.saliency_files import SaliencyFolder
from pipeline.commands.predict.site_adaptation import adapt_to_site
from pipeline.commands.predict.site_calibration import recalibrate
from pipeline.commands.predict.site_prevalence import adjust_to_prevalence
from pipeline.commands.results import Row, in_order, row_of
from pipeline.commands.site_files import settings_of, with_site_files
from pipeline.commands.site_limits import limits_in
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed, documents_in, list_scans
from pipeline.imaging.tables.text_table import BadTable
from pipeline.progress import progress
from pipeline.spreadsheets import write_csv


def run(arguments: argparse.Namespace) -> None:
    """Predict the scans, or recalibrate for a site; print the result and write it to --out and --report."""
    try:
        with unpacked(Path(arguments.bundle), arguments.max_size) as folder:
            predict(folder, arguments)
    except (BrokenBundle, BadModel) as error:
        raise UserError(str(error)) from error


def predict(folder: Path, arguments: argparse.Namespace) -> None:
    """Predict the scans with the bundle in a folder, or recalibrate it for a site."""
    bundle = open_bundle(folder)
    refuse_options(bundle, arguments)
    check_site(arguments.site, bundle.sites)
    find = with_labels if arguments.site_recalibrate else named
    scans = find(arguments, bundle)
    if arguments.site_adapt and arguments.inputs:
        raise UserError("--inputs: --site-adapt looks at the scans alone; leave --inputs out")
    if not arguments.site_adapt:
        scans = with_inputs(scans, bundle, arguments.inputs)
    predictor = Predictor.from_opened(bundle)
    if not arguments.site_adapt or (predictor.masks and predictor.masks.steps.sees_masks):
        scans = with_masks(scans, predictor, arguments.masks)
    if arguments.site_recalibrate:
        recalibrate(folder, predictor, scans, arguments.out, force=arguments.force)
        return
    if arguments.site_adapt:
        adapt_to_site(folder, predictor, scans, arguments.out, force=arguments.force)
        return
    if arguments.site_prevalence:
        known = reference_in(folder)
        if arguments.adaptation:
            predictor = replace(predictor, limits=limits_in(Path(arguments.adaptation), folder))
        adjust_to_prevalence(folder, predictor, scans, arguments.out, reference=known, force=arguments.force)
        return
    predictor = with_site_files(predictor, bundle, arguments)
    if predictor.limits is None:
        print(f"{folder} has no operating limits: no prediction sets, and the model never abstains")
    found = predict_all(scans, bundle, predictor, arguments)
    table = in_order(found.rows, bundle.classes)
    patients = patient_table(scans, found.logits, predictor, bundle.per_patient)
    print_predictions(table, patients, bundle, show_withheld=arguments.show_withheld)
    write_results(table, patients, arguments.out)
    if arguments.report:
        page = write_report(bundle, name_of(folder), found.sections, table=table, patients=patients)
        Path(arguments.report).write_text(page)
    if (table["abstains"] == BAD_IMAGE).all():
        raise UserError("no scan could be read; see the reasons above")


@dataclass(frozen=True)
class Found:
    """The results of all scans: rows of the table, logits of the answered ones, and sections of the page."""

    rows: list[Row] = field(default_factory=list)
    logits: list[Logits] = field(default_factory=list)
    sections: list[Row] = field(default_factory=list)


def predict_all(scans: Sequence[Listed], bundle: Opened, predictor: Predictor, arguments: argparse.Namespace) -> Found:
    """Predict and, for --saliency and --report, draw each scan."""
    found = Found()
    overlays = Overlays(bundle) if arguments.saliency or arguments.report or arguments.dicom else None
    maps = (
        SaliencyFolder(Path(arguments.saliency), scans, overlays.geometry) if overlays and arguments.saliency else None
    )
    objects = DicomFolder(Path(arguments.dicom), scans, bundle, settings_of(arguments)) if arguments.dicom else None
    for scan in progress(scans, "predict"):
        one = predictor(scan.file, scan.known.get("site"), inputs_of(scan, bundle.fusion), mask=scan.mask)
        answered, row = one.probabilities is not None, row_of(scan, one, predictor)
        with_map = answered or arguments.show_withheld
        drawing = overlays.draw(scan, one.output, with_map) if overlays and one.output else None
        if maps:
            row["saliency"] = maps.write(scan, drawing) if drawing else ""
        if objects:
            row["dicom"] = objects.write(scan, one, drawing)
        found.rows.append(row)
        found.logits.append(one.logits if answered else None)
        if arguments.report:
            found.sections.append(scan_section(scan, one, drawing, bundle.classes))
    return found


def write_results(table: pd.DataFrame, patients: pd.DataFrame | None, out: str | None) -> None:
    """Write the table of scans, and beside it that of patients."""
    if not out:
        return
    file = Path(out)
    write_csv(table, file)
    if patients is not None:
        file = file.with_name(f"{file.stem}_patients{file.suffix}")
        try:
            write_csv(patients, file)
        except OSError as error:
            raise UserError(f"--out: {file} cannot be written ({error.strerror}); name another file") from error


def listed(paths: list[str], bundle: Opened, site: str | None) -> list[Listed]:
    """List the scans in order; the site in a table takes precedence over --site."""
    kind: Any = bundle.kind
    try:
        scans = [scan for path in paths for scan in list_scans(Path(path), kind)]
    except BadTable as error:
        raise UserError(str(error)) from error
    if not scans:
        raise UserError("name a scan, a folder of scans, or a .csv file with the column image")
    if documents := [name for path in paths for name in documents_in(Path(path))]:
        some = ", ".join(documents[:3]) + (", …" if len(documents) > 3 else "")
        print(f"left out, because they are documents, not images: {len(documents)} ({some})")
    default = {"site": site} if site else {}
    return [replace(scan, known={**default, **scan.known}) for scan in scans]


def named(arguments: argparse.Namespace, bundle: Opened) -> list[Listed]:
    """List the scans that the user names."""
    return listed(arguments.scans, bundle, arguments.site)


def with_labels(arguments: argparse.Namespace, bundle: Opened) -> list[Listed]:
    """List the scans of the table of --site-recalibrate: below its folder, or among the scans that are named."""
    labels = listed([arguments.site_recalibrate], bundle, arguments.site)
    if not arguments.scans:
        refuse_twice(labels, arguments.site_recalibrate)
        return labels
    scans = {scan.name: scan for scan in named(arguments, bundle)}
    try:
        names = scans_named([one.name for one in labels], list(scans))
    except ValueError as error:
        raise UserError(f"--site-recalibrate: {arguments.site_recalibrate}: {error}") from error
    meant = [
        replace(one, file=scans[name].file, mask=one.mask or scans[name].mask)
        for one, name in zip(labels, names, strict=True)
    ]
    refuse_twice(meant, arguments.site_recalibrate)
    return meant


def refuse_twice(scans: Sequence[Listed], table: str) -> None:
    """Refuse a table of labels that names a file twice, by whichever path."""
    named: dict[Path, str] = {}
    for scan in scans:
        if (file := scan.file.resolve()) in named:
            names = " and ".join(dict.fromkeys((named[file], scan.name)))
            raise UserError(f"--site-recalibrate: {table} names one scan twice, as {names}; keep one row of it")
        named[file] = scan.name


def name_of(folder: Path) -> str:
    """Read name and version of the model."""
    metadata = read_plain(folder / METADATA)
    return f"{metadata['name']} {metadata['version']}"
