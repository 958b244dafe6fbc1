"""Predict new scans with a released model, or adapt its limits or its calibration to a new site.

Prints for each scan the calibrated probabilities, the prediction set and the decision at the model's operating point.
Where the model gives no answer these stay blank, and the reason is printed. With --site-adapt it refits the limits of
what counts as out of distribution to unlabelled scans of a site; use them later with --adaptation. With
--site-recalibrate it fits a recalibration to labelled scans of a site, with --site-prevalence to unlabelled ones; use
it later with --calibration. The bundle itself never changes. Research use only, not a medical device.

For example:
  medadapt predict model.zip scan.nii.gz
  medadapt predict model.zip inbox/ --out results.csv --report results.html
  medadapt predict model.zip study/ --dicom results/
  medadapt predict with_columns.zip inbox/ --inputs age_and_stage.csv
  medadapt predict with_masks.zip inbox/ --masks masks/
  medadapt predict model.zip unlabelled/ --site-adapt --out limits.json
  medadapt predict model.zip inbox/ --adaptation limits.json --out results.csv
  medadapt predict model.zip --site-recalibrate labels.csv --out ours.json
  medadapt predict model.zip unlabelled/ --site-prevalence --out ours.json
  medadapt predict model.zip inbox/ --calibration ours.json --out results.csv
"""

import argparse

from pipeline.commands.bundle_options import add_max_size


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion_classification")
    parser.add_argument(
        "scans",
        nargs="*",
        metavar="SCAN",
        help="an image file, a DICOM series, a folder of scans, or a .csv file with the column image (paths relative "
        "to the file) and, if known, case_id, patient_id and site",
    )
    parser.add_argument(
        "--inputs",
        metavar="TABLE.csv",
        help="the columns that the model takes besides the scan, e.g. age: a row for each scan, named in the column "
        "scan; a list of scans (.csv) may have these columns as well",
    )
    parser.add_argument(
        "--masks",
        metavar="FOLDER",
        help="masks of the scans, by the names of their files, for a model that takes masks; a list of scans (.csv) "
        "may have them in a column mask instead",
    )
    parser.add_argument("--site", help="site of the scans; needed by a model with separate parameters for each site")
    parser.add_argument(
        "--out", metavar="FILE", help="write the table (.csv) or the recalibration (.json) to this file"
    )
    parser.add_argument(
        "--report", metavar="PAGE.html", help="write a page with each scan, its saliency map and its answer in words"
    )
    parser.add_argument(
        "--saliency",
        metavar="FOLDER",
        help="write a saliency map of each answered scan, on its own grid and as a PNG to look at, to this folder",
    )
    parser.add_argument(
        "--dicom",
        metavar="FOLDER",
        help="write a DICOM structured report of each DICOM scan and, if it is answered, its saliency map as "
        "segmentation and secondary capture to this folder; needs pip install 'medadapt[clinic]'",
    )
    parser.add_argument(
        "--show-withheld",
        action="store_true",
        help="print, in brackets, the probabilities and sets that are withheld where the model gives no answer",
    )
    add_options_of_site(parser)
    add_max_size(parser)


def add_options_of_site(parser: argparse.ArgumentParser) -> None:
    """Declare the options that adapt the limits or the calibration to a new site."""
    one = parser.add_mutually_exclusive_group()
    one.add_argument(
        "--site-adapt",
        action="store_true",
        help="refit the out-of-distribution limits to the named scans, unlabelled and of one new site, of five or more "
        "patients (column patient_id of a table; otherwise each scan counts as a patient)",
    )
    one.add_argument(
        "--site-recalibrate",
        metavar="LABELS.csv",
        help="recalibrate for a new site with its labelled scans: columns scan (name or path, relative to the table or "
        "to the named scans), label and, if known, patient",
    )
    one.add_argument(
        "--site-prevalence",
        action="store_true",
        help="adjust to the prevalences of a new site, estimated from the named scans without labels, of twenty or "
        "more patients who are typical of the site; refused if the scans themselves look different",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="write the result of --site-recalibrate even if it does not lower the log-loss of other patients there, "
        "that of --site-adapt even if the scans look like corrupted ones, and that of --site-prevalence even if it is "
        "not supported by the scans",
    )
    parser.add_argument("--adaptation", metavar="FILE.json", help="apply limits that --site-adapt wrote")
    parser.add_argument(
        "--calibration",
        metavar="FILE.json",
        help="apply a recalibration that --site-recalibrate or --site-prevalence wrote",
    )
