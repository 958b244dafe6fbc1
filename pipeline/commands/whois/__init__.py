"""Print the original name behind a pseudonym, from the private key folder.

The name goes to the terminal only; the command writes no file and no log.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pseudonym", nargs="+", help="one or more pseudonyms, e.g. case-0123456789ab")
