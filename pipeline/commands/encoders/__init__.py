"""Compare pretrained encoders on the training and validation cases of the first fold, without training any.

Prints for each encoder LogME and H-score of the frozen features, and the cross-validated log-loss and AUC of a linear
probe with standard errors. For each pair of encoders it prints the same metrics of the mean of both probes'
probabilities, as a portfolio would average them. Held-out and test cases are not read.
"""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "candidates",
        nargs="*",
        metavar="NAME=WEIGHTS",
        help="encoders to compare with the configured one: a name of the catalogue or of timm, and as weights "
        "catalogue (the default for its names), pip (the default for others), FILE, hub:OWNER/NAME@REVISION, "
        "bundle:FOLDER or none; after catalogue, hub and bundle, append #SHA256",
    )
    parser.add_argument("--list", action="store_true", help="list the catalogue of pretrained encoders, and stop")
    parser.add_argument("--out", metavar="FILE.csv", help="also write the table here, and the pairs to FILE-pairs.csv")
