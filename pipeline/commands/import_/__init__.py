"""Write a cohort table from existing data: csv, class folders, BIDS, datalist, MedMNIST or DICOM."""

import argparse
from typing import Any

KINDS: dict[str, tuple[str, list[str]]] = {
    "csv": ("Import a table with one image per row.", ["--image", "--label", "--patient", "--site", "--split"]),
    "folder": ("Import one folder per class, or per split and class.", ["--patient-pattern"]),
    "bids": ("Import a BIDS folder.", ["--label", "--unlabelled", "--site", "--split", "--suffix"]),
    "datalist": ("Import a JSON list of MONAI or of the Medical Segmentation Decathlon.", ["--unlabelled"]),
    "medmnist": ("Import an .npz file of MedMNIST.", []),
    "dicom": ("Import a tree of DICOM files; copies are de-identified.", ["--labels", "--label", "--key", "--site"]),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "--image": {"default": "image", "help": "column: path, relative to the csv file (default: %(default)s)"},
    "--label": {"default": "label", "help": "column: class name; empty means unlabelled (default: %(default)s)"},
    "--patient": {"help": "column: patient; without it each image is its own patient"},
    "--site": {"help": "column: hospital or scanner"},
    "--split": {"help": "column: train, val, development, test or unlabelled"},
    "--patient-pattern": {"metavar": "REGEX", "help": "its first group is the patient, e.g. '(P\\d+)_'"},
    "--suffix": {"help": "kind of image, e.g. T1w (default: the only one there is)"},
    "--unlabelled": {"action": "store_true", "help": "import all images without class"},
    "--labels": {"metavar": "FILE.csv", "help": "table with the classes; without it all images are unlabelled"},
    "--key": {
        "choices": ["patient", "study", "series", "accession"],
        "default": "patient",
        "help": "column of --labels that identifies whose class it is (default: %(default)s)",
    },
}
SITE_OF_HEADER: dict[str, Any] = {
    "choices": ["institution", "station", "scanner", "none"],
    "default": "institution",
    "help": "header field that names the site, by pseudonym unless renamed (default: %(default)s)",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the kinds and the options of each."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for kind, (summary, own) in KINDS.items():
        one = kinds.add_parser(kind, help=summary.rstrip("."), description=summary)
        one.add_argument("source", help="the file or folder to import")
        one.add_argument("--into", required=True, metavar="data/raw/NAME", help="folder to write the cohort to")
        one.add_argument("--link", action="store_true", help="link to the images instead of copying them")
        one.add_argument(
            "--rename", nargs="*", default=[], metavar="OLD=NEW", help="rename classes (and sites, of dicom)"
        )
        for option in own:
            one.add_argument(option, **(SITE_OF_HEADER if (kind, option) == ("dicom", "--site") else OPTIONS[option]))
