"""Print the original names behind pseudonyms to the terminal, and nowhere else."""

import argparse
from pathlib import Path

from pipeline import params, runtime
from pipeline.errors import UserError
from pipeline.imaging.tables.pseudonyms import read_names


def run(arguments: argparse.Namespace) -> None:
    """Print a line `pseudonym  original name` for each pseudonym."""
    folder = runtime.keys_folder() / Path(params.load().cohort.path).name
    names = read_names(folder)
    for pseudonym in arguments.pseudonym:
        if pseudonym not in names:
            raise UserError(
                f"{pseudonym} is not among the {len(names)} names in {folder}; set MEDADAPT_KEYS to use another folder"
            )
        print(f"{pseudonym}  {names[pseudonym]}")
