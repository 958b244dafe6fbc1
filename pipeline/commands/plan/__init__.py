"""Show what `dvc repro` would run: stages, resolved `auto` values, estimated time and disk space.

Reads the headers of the images and times the encoder on this machine; trains nothing.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--minutes",
        type=float,
        default=0,
        metavar="N",
        help="also print the evidence.budget that N minutes on this machine allow",
    )
