"""Compare runs: paired differences of each metric, and which parameters, code and data differ.

A run is `workspace` (this project), a folder with data/ (another checkout), a git revision or a DVC experiment of
this repository. Revisions and experiments are read from git and from DVC's cache; the workspace does not change.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="REV_OR_FOLDER",
        help="workspace, a folder, a git revision or a DVC experiment; the first one is the reference",
    )
    parser.add_argument("--out", metavar="PAGE.html", help="also write the comparison to a self-contained web page")
