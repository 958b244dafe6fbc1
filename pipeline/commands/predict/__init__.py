"""Run a released model on new scans, or fit its calibration to a new site."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion_classification")
    parser.add_argument(
        "scans",
        nargs="*",
        metavar="SCAN",
        help="an image file, a DICOM series, a folder of scans, or a .csv with a column image "
        "(and case_id, patient_id, site), whose paths are relative to it",
    )
    parser.add_argument("--site", help="site of the scans, for a model with parameters of its own for each site")
    parser.add_argument("--out", metavar="FILE", help="write the table (.csv), or the site's calibration, to this file")
    parser.add_argument(
        "--saliency", metavar="FOLDER", help="write a saliency map of each scan, on its own grid, to this folder"
    )
    parser.add_argument(
        "--site-recalibrate",
        metavar="LABELS.csv",
        help="fit the calibration to a new site's labelled scans (columns scan, label and, if known, patient)",
    )
    parser.add_argument("--calibration", metavar="FILE.json", help="apply a calibration that was fitted to a site")
