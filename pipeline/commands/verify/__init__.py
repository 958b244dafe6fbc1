"""Check that a released bundle is unchanged and predicts on this machine what it predicted at release."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion_classification")
    parser.add_argument(
        "--allowed-signers", metavar="FILE", help="refuse a bundle that none of these signed (format of ssh-keygen)"
    )
