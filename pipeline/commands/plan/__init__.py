"""Say what `dvc repro` would run, with which resolved values, time and disk, before any compute."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--minutes", type=float, default=0, help="say which evidence.budget so many minutes allow here")
