"""The front door: `python -m pipeline <stage or command>`. Heavy imports stay inside, so that help is instant."""

import argparse
import gc
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline import __version__
from pipeline.refusal import Refusal

STAGES = {
    "cohort": "read the cohort, audit every file, pseudonymise",
    "preprocess": "turn each scan into planes of one size and scale",
    "split": "lock the test set, deal patient-grouped folds",
    "adapt": "bring the ImageNet encoder into the domain of one fold",
    "finetune": "train one fold",
    "calibrate": "judge the folds and the locked test set, fit the calibrator",
    "evidence": "tell whether transfer and adaptation paid, on these data and folds",
    "explain": "show the most confident mistakes, and where the network looked",
    "release": "pack the final model as a MONAI Bundle with card and checksums",
    "report": "draw one page of all the above",
}
PER_FOLD = ("adapt", "finetune")
LAUNCHERS = ("local", "slurm", "dummy")
COMMANDS = {
    "plan": "say what will run, with which resolved values, time and disk, before any compute",
    "encoders": "compare pretrained encoders on the development cases of one fold, before anything is trained",
    "folds": "train several folds at a time, on this machine or through SLURM",
    "import": "write a cohort table from what lies around: csv, class folders, BIDS, datalist, MedMNIST, DICOM",
    "predict": "run a released model on new scans",
    "verify": "check that a released bundle is what was released, and forecasts here what it did there",
    "monitor": "tell whether a model in use still meets the patients it was developed on, and is still calibrated",
    "compare": "put two or more runs side by side: paired differences, and what changed",
    "status": "say of every stage and fold whether it is done, running, stale or never run, and since when",
    "whois": "tell the original name behind a pseudonym",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage or command; return the exit code. A refusal is printed, a defect keeps its traceback."""
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's solves are small here: a second thread mostly waits
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
        _make_room_for(getattr(arguments, "out", None))
        _imported(f"commands.{name}_" if name == "import" else f"commands.{name}").run(arguments)
        return
    from pipeline import engine, params, paths

    module = _imported(f"stages.{name}")
    declared = params.for_stage(name)
    if name in PER_FOLD:
        module.run(declared, arguments.fold)
    else:
        with engine.metered(paths.cost(name)):
            module.run(declared)


def _imported(name: str) -> ModuleType:
    """Import a door, and spare the garbage collector what comes with it.

    The libraries are half a million objects that stay to the end. Looked through at every collection, they would cost
    a small training, which ends with one (`Accelerator.free_memory`), as much time as all its epochs.
    """
    gc.disable()
    try:
        return importlib.import_module(f"pipeline.{name}")
    finally:
        if not gc.get_freeze_count():  # once: where a process comes by again, its garbage must not be kept, too
            gc.freeze()
        gc.enable()


def _make_room_for(out: str | None) -> None:
    """Make sure that a result can be written where it is asked for, before it is computed."""
    if out is None:
        return
    file, new = Path(out), not Path(out).exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise Refusal(f"--out: {file} cannot be written ({error.strerror}); name another file") from error
    if new:
        file.unlink()


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
    plan = doors.add_parser("plan", help=COMMANDS["plan"], description=COMMANDS["plan"])
    plan.add_argument("--minutes", type=float, default=0, help="say what so many minutes buy in evidence.budget")
    _describe_encoders(doors.add_parser("encoders", help=COMMANDS["encoders"], description=COMMANDS["encoders"]))
    _describe_folds(doors.add_parser("folds", help=COMMANDS["folds"], description=COMMANDS["folds"]))
    _describe_import(doors.add_parser("import", help=COMMANDS["import"], description=COMMANDS["import"]))
    _describe_predict(doors.add_parser("predict", help=COMMANDS["predict"], description=COMMANDS["predict"]))
    verify = doors.add_parser("verify", help=COMMANDS["verify"], description=COMMANDS["verify"])
    verify.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion_classification")
    verify.add_argument(
        "--allowed-signers", metavar="FILE", help="refuse what none of these signed (ssh-keygen's form)"
    )
    _describe_monitor(doors.add_parser("monitor", help=COMMANDS["monitor"], description=COMMANDS["monitor"]))
    _describe_compare(doors.add_parser("compare", help=COMMANDS["compare"], description=COMMANDS["compare"]))
    doors.add_parser("status", help=COMMANDS["status"], description=COMMANDS["status"])
    whois = doors.add_parser("whois", help=COMMANDS["whois"], description=COMMANDS["whois"])
    whois.add_argument("pseudonym", nargs="+", help="e.g. case-0123456789ab")
    return parser


IMPORT_KINDS: dict[str, tuple[str, list[str]]] = {
    "csv": ("a table with one image per row", ["--image", "--label", "--patient", "--site", "--split"]),
    "folder": ("one folder per class, or per split and class", ["--patient-pattern"]),
    "bids": ("a BIDS folder", ["--label", "--unlabelled", "--site", "--split", "--suffix"]),
    "datalist": ("a JSON list of MONAI or the Decathlon", ["--unlabelled"]),
    "medmnist": ("an .npz file of MedMNIST", []),
    "dicom": ("a tree of DICOM files; copies are de-identified", ["--labels", "--label", "--key", "--site"]),
}
IMPORT_OPTIONS: dict[str, dict[str, Any]] = {
    "--image": {"default": "image", "help": "column: path, relative to the csv file (default: %(default)s)"},
    "--label": {"default": "label", "help": "column: class name; empty means unlabelled (default: %(default)s)"},
    "--patient": {"help": "column: patient; without it each image is its own patient"},
    "--site": {"help": "column: hospital or scanner"},
    "--split": {"help": "column: train, val, development, test or unlabelled"},
    "--patient-pattern": {"metavar": "REGEX", "help": "its first group is the patient, e.g. '(P\\d+)_'"},
    "--suffix": {"help": "kind of image, e.g. T1w (default: the only one there is)"},
    "--unlabelled": {"action": "store_true", "help": "take all images without class"},
    "--labels": {"metavar": "FILE.csv", "help": "table with the classes; without it all are unlabelled"},
    "--key": {
        "choices": ["patient", "study", "series", "accession"],
        "default": "patient",
        "help": "column of --labels that says whose class it is (default: %(default)s)",
    },
}
SITE_OF_HEADER: dict[str, Any] = {
    "choices": ["institution", "station", "scanner", "none"],
    "default": "institution",
    "help": "what of the header is the site, by pseudonym unless renamed (default: %(default)s)",
}


def _describe_encoders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "candidates",
        nargs="*",
        metavar="NAME=WEIGHTS",
        help="besides the configured one: a timm name, and pip (also without =WEIGHTS), FILE, hub:OWNER/NAME@REVISION, "
        "bundle:FOLDER or none; hub and bundle need #SHA256 behind them",
    )
    parser.add_argument("--out", metavar="FILE.csv", help="write the table there as well")


def _describe_folds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folds", nargs="*", metavar="FOLD", help="names of split.folds (default: all of them)")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=PER_FOLD,
        default=PER_FOLD,
        help="one that is left out is taken as it lies there (default: adapt finetune)",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="folds at a time (default: one per GPU, all on SLURM)")
    parser.add_argument(
        "--launcher",
        choices=LAUNCHERS,
        default="local",
        help="local: processes here; slurm: MEDADAPT_SLURM_* say where; dummy: print the commands (default: local)",
    )


def _describe_import(parser: argparse.ArgumentParser) -> None:
    doors = parser.add_subparsers(dest="kind", required=True, metavar="kind")
    for kind, (what, own) in IMPORT_KINDS.items():
        door = doors.add_parser(kind, help=what, description=what)
        door.add_argument("source", help="the file or folder")
        door.add_argument("--into", required=True, metavar="data/raw/NAME", help="where the cohort is written")
        door.add_argument("--link", action="store_true", help="link to the images instead of copying them")
        door.add_argument(
            "--rename", nargs="*", default=[], metavar="OLD=NEW", help="classes (and sites, of dicom) to be renamed"
        )
        for option in own:
            door.add_argument(
                option, **(SITE_OF_HEADER if (kind, option) == ("dicom", "--site") else IMPORT_OPTIONS[option])
            )


def _describe_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="a released bundle, e.g. data/released/demo_lesion_classification")
    parser.add_argument(
        "scans",
        nargs="*",
        metavar="SCAN",
        help="a file of any kind that is read, a DICOM series, a folder of scans, or a .csv with a column image "
        "(and case_id, patient_id, site), whose paths are relative to it",
    )
    parser.add_argument("--site", help="where the scans come from, for a model with values of its own for each site")
    parser.add_argument("--out", metavar="FILE", help="write the table (.csv) there as well, or the site's calibration")
    parser.add_argument(
        "--saliency", metavar="FOLDER", help="write there, on each scan's own grid, what spoke for its class"
    )
    parser.add_argument(
        "--site-recalibrate",
        metavar="LABELS.csv",
        help="fit the calibration of a new site to its labelled scans (columns scan, label and perhaps patient)",
    )
    parser.add_argument("--calibration", metavar="FILE.json", help="use the calibration that was fitted to a site")


def _describe_monitor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="the released bundle that is in use")
    parser.add_argument("results", metavar="RESULTS.csv", help="what predict --out wrote; may have patient and date")
    parser.add_argument("labels", metavar="LABELS.csv", nargs="?", help="scan and label, as far as labels are known")
    parser.add_argument(
        "--window", type=int, default=100, metavar="N", help="labelled scans of a window (default: 100)"
    )
    parser.add_argument("--out", metavar="PAGE.html", help="write a page as well, which opens without a network")


def _describe_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="REV_OR_FOLDER",
        help="workspace, a folder with data/, or a git revision or `dvc exp`; the others are compared with the first",
    )
    parser.add_argument("--out", metavar="PAGE.html", help="write a page as well, which opens without a network")


if __name__ == "__main__":
    sys.exit(main())
