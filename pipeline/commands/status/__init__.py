"""Show the state of each stage and fold: done, running, out of date, missing or never run.

Also shows when the outputs were written, how long the run took, and what has changed. Nothing is computed.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""
