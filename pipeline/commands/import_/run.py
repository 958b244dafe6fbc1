"""Import a data set as a cohort table, and report what was imported and what was left out."""

import argparse
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError
from pipeline.imaging.tables.cohort_table import TABLE
from pipeline.imaging.tables.pseudonyms import pseudonym, read_names, remember_names, salt_of, write_private
from pipeline.params import CARD_FILE, COHORT_FILE, PARAMS_FILE
from pipeline.params_text import with_value
from pipeline.progress import progress
from pipeline.stages.cohort.checks import NO_PATIENTS
from pipeline.stages.cohort.importers.bids import Wanted, find_in_bids
from pipeline.stages.cohort.importers.class_folders import find_in_class_folders
from pipeline.stages.cohort.importers.datalist import find_in_datalist
from pipeline.stages.cohort.importers.dicom_tree import Choices, find_in_dicom_tree, read_labels
from pipeline.stages.cohort.importers.found import (
    BadSource,
    Import,
    describe,
    left_out_lines,
    write_import,
)
from pipeline.stages.cohort.importers.masks import attach_masks
from pipeline.stages.cohort.importers.medmnist import find_in_medmnist
from pipeline.stages.cohort.importers.renames import Renames
from pipeline.stages.cohort.importers.table import find_in_csv
from pipeline.stages.cohort.keys import claim_keys, key_errors

log = logging.getLogger(__name__)
HOW_TO_NAME = dict.fromkeys(("bids", "dicom", "medmnist"), "fill the column patient_id of {table}") | {
    "csv": "name the column with --patient COLUMN",
    "folder": "tell it from the file names with --patient-pattern",
    "datalist": 'write "patient" into each entry',
}


def run(arguments: argparse.Namespace) -> None:
    """Import a source of any kind and print a report."""
    into = Path(arguments.into)
    path_in_params(into, []) if arguments.use else None  # refuses before anything is written
    try:
        rename = Renames(arguments.rename)
        found = FINDERS[arguments.kind](arguments, rename)
        rename.refuse_unmet(found)
        if getattr(arguments, "masks", None):
            attach_masks(found, Path(arguments.masks))
        print(describe(found))
        if arguments.kind == "dicom":
            remember(found, into)
        broken = write_import(found, into, arguments.link, progress)
    except BadSource as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.filename or into}: {error.strerror or error}") from error
    if broken:
        print("\n".join([f"left out while writing: {len(broken)}", *left_out_lines(broken)]))
    print(f"wrote {into}/cohort.csv, {COHORT_FILE} with settings to check, and {CARD_FILE} for texts of the model card")
    if not found.knows_patients:
        log.warning(NO_PATIENTS + HOW_TO_NAME[arguments.kind].format(table=into / TABLE))
    if arguments.use:
        text = path_in_params(into, linked_roots(arguments))
        PARAMS_FILE.write_bytes(text.encode())  # not as text, so that ends of lines stay
        print(f"{PARAMS_FILE}: cohort.path is now {into}\nnext: check {into}/{COHORT_FILE}, then run `medadapt plan`")
    else:
        also = f" and `cohort.roots: [{', '.join(linked_roots(arguments))}]`" if arguments.link else ""
        print(f"next: set `cohort.path: {into}`{also} in params.yaml, check {COHORT_FILE}, then run `medadapt plan`")


def linked_roots(arguments: argparse.Namespace) -> list[str]:
    """Name the folder that the links of --link lead to, for `cohort.roots`; none without --link."""
    source = Path(arguments.source).resolve()
    folder = root_of(arguments) or (source if source.is_dir() else source.parent)
    return [str(folder.resolve())] if arguments.link else []


def path_in_params(into: Path, roots: list[str]) -> str:
    """Return the text of params.yaml with `cohort.path` set to a folder, and `cohort.roots` if links lead there."""
    if not PARAMS_FILE.exists():
        raise UserError(f"--use: {PARAMS_FILE} is not here; run the command in the project's top folder")
    inside = into.resolve().is_relative_to(Path.cwd().resolve())
    name = os.path.relpath(into.resolve(), Path.cwd().resolve()) if inside else str(into.resolve())
    try:
        text = with_value(PARAMS_FILE.read_bytes().decode(), "cohort", "path", name)
        return with_value(text, "cohort", "roots", roots) if roots else text
    except ValueError as error:
        raise UserError(f"--use: {PARAMS_FILE} {error}; set cohort.path in it by hand") from error


def from_csv(arguments: argparse.Namespace, rename: dict[str, str]) -> Import:
    """Find the images of a csv table."""
    columns = {name: getattr(arguments, name) for name in ("image", "label", "patient", "site", "split", "mask")}
    return find_in_csv(Path(arguments.source), columns, rename, root=root_of(arguments), keep=arguments.keep)


def from_folder(arguments: argparse.Namespace, rename: dict[str, str]) -> Import:
    """Find the images of class folders."""
    pattern = arguments.patient_pattern
    return find_in_class_folders(Path(arguments.source), pattern, rename, root=root_of(arguments))


def from_bids(arguments: argparse.Namespace, rename: dict[str, str]) -> Import:
    """Find the images of a BIDS data set."""
    label = None if arguments.unlabelled else arguments.label
    columns = {"label": label, "site": arguments.site, "split": arguments.split}
    more = {"suffix": arguments.suffix, "root": root_of(arguments), "keep": arguments.keep}
    return find_in_bids(Path(arguments.source), Wanted(**columns, **more, rename=rename))


def from_datalist(arguments: argparse.Namespace, rename: dict[str, str]) -> Import:
    """Find the images of a JSON datalist."""
    more = {"keep": arguments.keep, "segmentations": arguments.segmentations}
    return find_in_datalist(Path(arguments.source), arguments.unlabelled, rename, root_of(arguments), **more)


def from_medmnist(arguments: argparse.Namespace, rename: dict[str, str]) -> Import:
    """Find the images of an .npz file."""
    if arguments.link:
        raise BadSource("images inside an .npz file cannot be linked; leave out --link")
    return find_in_medmnist(Path(arguments.source), rename)


def from_dicom(arguments: argparse.Namespace, rename: dict[str, str]) -> Import:
    """Find the series of a folder of DICOM files; pseudonyms use the salt of the new cohort."""
    labels = None
    if arguments.labels:
        labels = read_labels(Path(arguments.labels), arguments.key, arguments.label, rename)
    choices = Choices(site=arguments.site, labels=labels, key=arguments.key, rename=rename, link=arguments.link)
    with key_errors():
        name = partial(pseudonym, salt_of(claim_keys(Path(arguments.into)), public=False))
    source = Path(arguments.source)
    found = find_in_dicom_tree(source, choices, name, progress, root=root_of(arguments))
    if arguments.labels:  # it may stand beside the scans
        found.left_out = [
            one for one in found.left_out if (source / one[0]).resolve() != Path(arguments.labels).resolve()
        ]
    return found


def root_of(arguments: argparse.Namespace) -> Path | None:
    """Return the folder of --root, or None."""
    return Path(arguments.root) if getattr(arguments, "root", None) else None


FINDERS: dict[str, Callable[[argparse.Namespace, dict[str, str]], Import]] = {
    "csv": from_csv,
    "folder": from_folder,
    "bids": from_bids,
    "datalist": from_datalist,
    "medmnist": from_medmnist,
    "dicom": from_dicom,
}


def remember(found: Import, into: Path) -> None:
    """Store the original names of sites, and of patients in copied headers, in the private key folder."""
    folder = claim_keys(into)
    names = [("site", name) for name in found.sites.values()]
    names += [("patient", case.row["patient_id"]) for case in found.cases]
    remember_names(folder, names, salt_of(folder, public=False))
    # cohort.csv has shorter pseudonyms of sites, which whois must find, too
    table = pd.DataFrame(sorted((read_names(folder) | found.sites).items()), columns=["pseudonym", "name"])
    write_private(folder / "names.csv", table.to_csv(index=False))
