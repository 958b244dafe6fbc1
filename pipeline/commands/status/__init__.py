"""Show for every stage and fold whether it is done, running, out of date or never ran, and since when."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare no options: the command has none."""
