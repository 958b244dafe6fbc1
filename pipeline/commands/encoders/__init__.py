"""Compare pretrained encoders on the development cases of one fold, before anything is trained."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "candidates",
        nargs="*",
        metavar="NAME=WEIGHTS",
        help="besides the configured one: a timm name, and pip (also without =WEIGHTS), FILE, hub:OWNER/NAME@REVISION, "
        "bundle:FOLDER or none; hub and bundle need #SHA256 behind them",
    )
    parser.add_argument("--out", metavar="FILE.csv", help="write the table to this file as well")
