"""Import existing data as a cohort: a csv table, class folders, BIDS, a JSON datalist, MedMNIST or DICOM.

Writes cohort.csv and copies (or links) the images to a folder below data/raw, and prints what was imported and what
was left out, with the reasons.
"""

import argparse
from typing import Any

KINDS: dict[str, tuple[str, str, list[str]]] = {  # summary, an example, options of its own
    "csv": (
        "Import a csv table with one image per row.",
        "patients.csv --image file --label diagnosis --patient id --keep age sex",
        ["--image", "--label", "--patient", "--site", "--split", "--mask", "--masks", "--keep", "--root"],
    ),
    "folder": (
        "Import images from one folder per class, or per split and class.",
        "scans --patient-pattern '(P\\d+)_'",
        ["--patient-pattern", "--masks", "--root"],
    ),
    "bids": (
        "Import a BIDS folder.",
        "study --label diagnosis --suffix T1w --keep age sex",
        ["--label", "--unlabelled", "--site", "--split", "--suffix", "--masks", "--keep", "--root"],
    ),
    "datalist": (
        "Import a JSON datalist of MONAI or the Medical Segmentation Decathlon.",
        "dataset.json --root ../share --link",
        ["--unlabelled", "--segmentations", "--keep", "--root"],
    ),
    "medmnist": ("Import an .npz file of MedMNIST.", "pneumoniamnist.npz --rename normal=healthy", []),
    "dicom": (
        "Import a folder of DICOM files, segmentations as masks; the copies are de-identified.",
        "export --labels labels.csv --key accession",
        ["--labels", "--label", "--key", "--site", "--root"],
    ),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "--image": {
        "default": "image",
        "help": "column with the image path, relative to the csv file (default: %(default)s)",
    },
    "--label": {"default": "label", "help": "column with the class; empty: unlabelled (default: %(default)s)"},
    "--patient": {"help": "column with the patient; without it, each image counts as one patient"},
    "--site": {"help": "column with the hospital or scanner"},
    "--split": {"help": "column with the split: train, val, development, test or unlabelled"},
    "--mask": {"help": "column with the path of the mask of the image, relative to the csv file"},
    "--masks": {
        "metavar": "FOLDER",
        "help": "masks by the names of their images, e.g. labelsTr of nnU-Net or a folder of BIDS derivatives",
    },
    "--segmentations": {
        "action": "store_true",
        "help": "take labels that are paths as masks; these images have no class until cohort.csv gives them one",
    },
    "--keep": {
        "nargs": "+",
        "default": [],
        "metavar": "COLUMN",
        "help": "columns that must be kept, or else refused; others stay if they identify no patient",
    },
    "--root": {
        "metavar": "FOLDER",
        "help": "folder that holds all images, for absolute paths and links; its files keep their places below it",
    },
    "--patient-pattern": {
        "metavar": "REGEX",
        "help": "its first group is the patient, e.g. '(P\\d+)_'",
    },
    "--suffix": {"help": "suffix of the images, e.g. T1w (default: the only one in the folder)"},
    "--unlabelled": {"action": "store_true", "help": "import all images without a class"},
    "--labels": {"metavar": "FILE.csv", "help": "table with the classes; without it, all images are unlabelled"},
    "--key": {
        "choices": ["patient", "study", "series", "accession"],
        "default": "patient",
        "help": "column of --labels that identifies the patient, study, series or accession (default: %(default)s)",
    },
}
SITE_OF_HEADER: dict[str, Any] = {
    "choices": ["institution", "station", "scanner", "none"],
    "default": "institution",
    "help": "header field with the site; replaced by a pseudonym unless renamed (default: %(default)s)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds and the options of each."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, (summary, example, own) in KINDS.items():
        one = kinds.add_parser(
            kind,
            help=summary.rstrip("."),
            description=summary,
            epilog=f"example:\n  medadapt import {kind} {example} --into data/raw/mine --use",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--verbose", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        one.add_argument("source", help="the file or folder to import")
        one.add_argument("--into", required=True, metavar="data/raw/NAME", help="folder for the cohort")
        one.add_argument("--link", action="store_true", help="link to the images instead of copying them")
        one.add_argument("--use", action="store_true", help="set cohort.path in params.yaml to the new cohort")
        one.add_argument(
            "--rename", nargs="*", default=[], metavar="OLD=NEW", help="rename classes (and, for dicom, sites)"
        )
        for option in own:
            one.add_argument(option, **(SITE_OF_HEADER if (kind, option) == ("dicom", "--site") else OPTIONS[option]))
