"""Show the metrics of this run with their intervals: one line for each evaluated set and fold.

`medadapt compare` sets several runs side by side; `medadapt status` shows which stages are up to date.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--json", action="store_true", help="print every metric of every set as JSON instead")
