"""The front door: `python -m pipeline <stage or command>`. Heavy imports stay inside, so that help is instant."""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from pipeline import __version__
from pipeline.refusal import Refusal

STAGES = {
    "cohort": "read the cohort, audit every file, pseudonymise",
    "preprocess": "turn each scan into planes of one size and scale",
    "split": "lock the test set, deal patient-grouped folds",
    "adapt": "bring the ImageNet encoder into the domain of one fold",
    "finetune": "train one fold",
    "calibrate": "judge the folds and the locked test set, fit the calibrator",
    "release": "pack the final model as a MONAI Bundle with card and checksums",
    "report": "draw one page of all the above",
}
PER_FOLD = ("adapt", "finetune")
COMMANDS = {
    "plan": "say what will run, with which resolved values, time and disk, before any compute",
    "import": "write a cohort table from a csv file or from class folders",
    "predict": "run a released model on new scans",
    "whois": "tell the original name behind a pseudonym",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage or command; return the exit code. A refusal is printed, a defect keeps its traceback."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        run(arguments)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Hand over to the module of the stage or command."""
    name = arguments.name
    if name in COMMANDS:
        importlib.import_module(f"pipeline.commands.{name}_" if name == "import" else f"pipeline.commands.{name}").run(
            arguments
        )
        return
    from pipeline import params

    module = importlib.import_module(f"pipeline.stages.{name}")
    declared = params.for_stage(name)
    if name in PER_FOLD:
        module.run(declared, arguments.fold)
    else:
        module.run(declared)


def build_parser() -> argparse.ArgumentParser:
    """Describe every stage and command."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Domain adaptation for medical imaging. `dvc repro` runs the stages in order.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    doors = parser.add_subparsers(dest="name", required=True, metavar="stage or command")
    for name, what in STAGES.items():
        stage = doors.add_parser(name, help=f"stage: {what}", description=what)
        if name in PER_FOLD:
            stage.add_argument("--fold", required=True, help="a name of split.folds, e.g. 0 or final")
    doors.add_parser("plan", help=COMMANDS["plan"], description=COMMANDS["plan"])
    _describe_import(doors.add_parser("import", help=COMMANDS["import"], description=COMMANDS["import"]))
    _describe_predict(doors.add_parser("predict", help=COMMANDS["predict"], description=COMMANDS["predict"]))
    whois = doors.add_parser("whois", help=COMMANDS["whois"], description=COMMANDS["whois"])
    whois.add_argument("pseudonym", nargs="+", help="e.g. case-0123456789ab")
    return parser


def _describe_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=["csv", "folder"], help="a table of images, or one folder per class")
    parser.add_argument("source", help="the csv file, or the folder that holds the class folders")
    parser.add_argument("--into", required=True, metavar="data/raw/NAME", help="where the cohort is written")
    parser.add_argument("--link", action="store_true", help="link to the images instead of copying them")
    parser.add_argument(
        "--rename", nargs="*", default=[], metavar="OLD=NEW", help="labels to be renamed, e.g. 0=healthy 1=ill"
    )
    table = parser.add_argument_group("csv", "which column holds what")
    table.add_argument("--image", default="image", help="path, relative to the csv file (default: %(default)s)")
    table.add_argument("--label", default="label", help="class name; empty means unlabelled (default: %(default)s)")
    table.add_argument("--patient", help="patient; without it each image is its own patient")
    table.add_argument("--site", help="hospital or scanner")
    table.add_argument("--split", help="train, val, development, test or unlabelled")
    folders = parser.add_argument_group("folder", "what a file's name tells")
    folders.add_argument("--patient-pattern", metavar="REGEX", help="its first group is the patient, e.g. '(P\\d+)_'")


def _describe_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion")
    parser.add_argument("scans", nargs="+", help="NIfTI, PNG or JPEG files")
    parser.add_argument("--out", metavar="FILE.csv", help="write the table there as well")


if __name__ == "__main__":
    sys.exit(main())
