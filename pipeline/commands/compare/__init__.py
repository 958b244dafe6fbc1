"""Compare two or more runs: paired differences of every metric, and what changed between them."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="REV_OR_FOLDER",
        help="workspace, a folder with data/, a git revision or a DVC experiment; the first is the reference",
    )
    parser.add_argument("--out", metavar="PAGE.html", help="write a page that opens without a network")
