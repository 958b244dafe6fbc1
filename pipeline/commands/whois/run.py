"""whois: the original name behind a pseudonym, from the private key folder to the terminal and nowhere else."""

import argparse
from pathlib import Path

from pipeline import params, runtime
from pipeline.errors import UserError
from pipeline.imaging.tables.pseudonyms import read_names


def run(arguments: argparse.Namespace) -> None:
    """Print `pseudonym  original name`, a line each."""
    folder = runtime.keys_folder() / Path(params.load().cohort.path).name
    names = read_names(folder)
    for pseudonym in arguments.pseudonym:
        if pseudonym not in names:
            raise UserError(
                f"{pseudonym} is not among the {len(names)} names in {folder}; MEDADAPT_KEYS names another folder"
            )
        print(f"{pseudonym}  {names[pseudonym]}")
