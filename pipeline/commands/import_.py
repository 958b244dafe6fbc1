"""import: write a cohort table, and say what was taken and what was left out."""

import argparse
from pathlib import Path

from pipeline.imaging.importers import (
    BadSource,
    describe,
    find_in_class_folders,
    find_in_csv,
    parse_renames,
    write_import,
)
from pipeline.refusal import Refusal


def run(arguments: argparse.Namespace) -> None:
    """Import from a csv file or from class folders."""
    source = Path(arguments.source)
    try:
        rename = parse_renames(arguments.rename)
        if arguments.kind == "csv":
            columns = {name: getattr(arguments, name) for name in ("image", "label", "patient", "site", "split")}
            found = find_in_csv(source, columns, rename)
        else:
            found = find_in_class_folders(source, arguments.patient_pattern, rename)
        print(describe(found))
        write_import(found, Path(arguments.into), arguments.link)
    except BadSource as error:
        raise Refusal(str(error)) from error
    print(f"{arguments.into}/cohort.csv is written; now set `cohort.path: {arguments.into}` in params.yaml")
