"""Compare pretrained encoders on the training and validation cases of the first fold, without training any.

Prints for each encoder LogME and H-score of the frozen features, and the cross-validated log-loss and AUC of a linear
probe with standard errors. Held-out and test cases are not read.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "candidates",
        nargs="*",
        metavar="NAME=WEIGHTS",
        help="encoders to compare with the configured one: a timm name, and as weights pip (the default), FILE, "
        "hub:OWNER/NAME@REVISION, bundle:FOLDER or none; after hub and bundle, append #SHA256",
    )
    parser.add_argument("--out", metavar="FILE.csv", help="also write the table to this file")
