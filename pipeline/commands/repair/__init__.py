"""Repair what a kill or a damaged disk left: dvc.lock, DVC's locks, and outputs whose content differs from the record.

A truncated dvc.lock is replaced by the copy that the last stage kept, else by that of git. An output whose
content differs from its hash in dvc.lock is restored from DVC's cache; if that copy is damaged, too, both are removed,
and `dvc repro` computes the output again. Results that DVC has in its run cache are not computed again.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare no options."""
