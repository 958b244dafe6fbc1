"""Check whether a model in use still meets patients like those of its development, and is still calibrated."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the released bundle in use")
    parser.add_argument(
        "results", metavar="RESULTS.csv", help="output of `predict --out`, with columns patient and date if known"
    )
    parser.add_argument("labels", metavar="LABELS.csv", nargs="?", help="columns scan and label, as far as known")
    parser.add_argument("--window", type=int, default=100, metavar="N", help="labelled scans per window (default: 100)")
    parser.add_argument("--out", metavar="PAGE.html", help="write a page that opens without a network")
