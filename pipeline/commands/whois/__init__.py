"""Print the original name behind a pseudonym, from the private key folder."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pseudonym", nargs="+", help="e.g. case-0123456789ab")
