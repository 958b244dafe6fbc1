"""Write the files of a MONAI Application Package, with which another platform runs a bundle.

--map writes what MONAI Deploy's App SDK packages and runs: the application, its app.yaml and requirements, the bundle,
a Containerfile, and a README with the commands. The application takes a DICOM study and writes the objects of
`predict --dicom` and the table of `predict --out`, with the same answers. Research use only, not a medical device.

For example:
  medadapt package model.zip --map application/ --modality MR
  medadapt package model.zip --map application_ours/ --adaptation limits.json --calibration ours.json
"""

import argparse

from pipeline.commands.bundle_options import add_max_size, add_rule, add_site


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle")
    parser.add_argument("--map", metavar="FOLDER", required=True, help="write the application to this new folder")
    add_rule(parser)
    add_site(parser)
    add_max_size(parser)
