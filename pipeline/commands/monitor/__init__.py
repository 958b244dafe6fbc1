"""Monitor a model in use: detect changes of patients or scanners, and loss of calibration.

Reads the table that `medadapt predict --out` wrote (append the rows of later days) and, if known, the labels.
Run it as often as you like: a false alarm at any time has a probability of at most 5%. Exit code 3 after an alarm.
"""

import argparse

from pipeline.commands.bundle_options import add_max_size


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="the released bundle in use")
    parser.add_argument(
        "results",
        metavar="RESULTS",
        help="table of `predict --out`, with the columns patient and date if known, or folder of a ledger",
    )
    parser.add_argument(
        "labels",
        metavar="LABELS.csv",
        nargs="?",
        help="known labels: columns scan (of a ledger also accession) and label; for survival time and event instead",
    )
    parser.add_argument("--window", type=int, default=100, metavar="N", help="labelled scans per window (default: 100)")
    parser.add_argument("--out", metavar="PAGE.html", help="also write the charts to a self-contained web page")
    add_max_size(parser)
