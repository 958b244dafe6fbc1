"""Print the original names behind pseudonyms to the terminal, and nowhere else."""

import argparse
from pathlib import Path

from pipeline import params, runtime
from pipeline.errors import UserError
from pipeline.imaging.tables.pseudonyms import read_names
from pipeline.stages.cohort.keys import key_errors, key_folders


def run(arguments: argparse.Namespace) -> None:
    """Print a line `pseudonym  original name` for each pseudonym."""
    with key_errors():
        tables = [read_names(folder) for folder in key_folders(Path(params.load().cohort.path))]
    for pseudonym in arguments.pseudonym:
        name = next((names[pseudonym] for names in tables if pseudonym in names), None)
        if name is None:
            known = sum(map(len, tables))
            raise UserError(
                f"{pseudonym} is not among the {known} names in {runtime.keys_folder()}; set MEDADAPT_KEYS to use "
                "another folder"
            )
        print(f"{pseudonym}  {name}")
