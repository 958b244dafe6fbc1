"""Check that a released bundle is unchanged and that its predictions can be reproduced on this machine.

Checks the checksums and, with --allowed-signers, the signature first; the bundle is opened only if they hold.
Then checks the configuration, metadata, status, model card and every other file that `predict` and MONAI open, and
predicts the simulated scans in the bundle again, as `predict` does.
Exit code 3 if a check fails.
"""

import argparse

from pipeline.commands.bundle_options import add_max_size


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion_classification")
    parser.add_argument(
        "--allowed-signers",
        metavar="FILE",
        help="reject a bundle that none of these signers signed (file in the format of ssh-keygen)",
    )
    add_max_size(parser)
