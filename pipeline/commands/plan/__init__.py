"""Show what `dvc repro` would run: stages, resolved `auto` values, estimated time and disk space.

Checks table and headers of the cohort first, as the stages cohort, preprocess and split do, and lists every reason to
stop at once (exit code 1). Then times single steps on this machine, unless earlier runs were recorded; trains nothing.
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
