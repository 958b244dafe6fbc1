"""Serve a page on this machine: drop a scan, see its slices, the answer in words, and why there may be none.

Prints an address with a token; only requests from this machine with the token are answered. The page gives the answers
of `predict`, loads nothing from a network, and offers them as CSV, PDF and DICOM. Scans are deleted as soon as they are
answered; nothing is kept unless --ledger names a folder for pseudonymised answers. Research use only.

For example:
  medadapt serve model.zip
  medadapt serve model.zip --port 8765 --adaptation limits.json --ledger ledger/
"""

import argparse

from pipeline.commands.bundle_options import add_max_size, add_site


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument(
        "--max-upload",
        type=float,
        default=1.0,
        metavar="GIB",
        help="refuse a larger upload, and a zip that unpacks to more than twice this (default: 1)",
    )
    parser.add_argument("--ledger", metavar="FOLDER", help="keep pseudonymised answers for `monitor` in this folder")
    add_site(parser)
    add_max_size(parser)
