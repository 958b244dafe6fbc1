"""The command line: `medadapt NAME`, or `python -m pipeline NAME`, where NAME is a stage or a command.

Each stage and each command is a folder. Its `__init__.py` says what it does and which options it takes, and imports
nothing heavy, so that help is instant; its `run.py` does the work.

Exit codes: 0 done; 1 an error that the message explains; 2 wrong options; 3 a check found something (`verify`,
`monitor`).
"""

import argparse
import gc
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import ModuleType

from pipeline import __version__
from pipeline.errors import UserError

STAGES = (
    "cohort",
    "preprocess",
    "split",
    "adapt",
    "finetune",
    "calibrate",
    "evidence",
    "explain",
    "release",
    "report",
)
PER_FOLD = ("adapt", "finetune")
COMMANDS = (
    "import",
    "plan",
    "encoders",
    "folds",
    "status",
    "compare",
    "predict",
    "verify",
    "monitor",
    "whois",
)
LOGS = Path("data/logs")
LOG_BYTES = 2**20  # of one log file; three older ones are kept
DESCRIPTION = """Domain adaptation for medical imaging: from raw scans to a released, calibrated model.
`dvc repro` runs all stages in order; `medadapt NAME --help` explains one stage or command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage or command and return the exit code. A `UserError` is printed; a defect keeps its traceback."""
    arguments = build_parser().parse_args(argv)
    start_logging(arguments)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's solves are small here: a second thread mostly waits
    log = logging.getLogger("pipeline")
    log.debug("%s begins, medadapt %s", arguments.name, __version__)
    try:
        run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        log.debug("%s stopped with exit code %d", arguments.name, error.exit_code, exc_info=arguments.verbose)
        return error.exit_code
    log.debug("%s is done", arguments.name)
    return 0


def run(arguments: argparse.Namespace) -> None:
    """Call the `run` of a stage or command."""
    name = arguments.name
    if name in COMMANDS:
        check_writable(getattr(arguments, "out", None))
        import_quietly(f"{_package(name)}.run").run(arguments)
        return
    from pipeline import params, paths, runtime

    stage = import_quietly(f"{_package(name)}.run")
    declared = params.for_stage(name)
    if name in PER_FOLD:
        stage.run(declared, arguments.fold)
    else:
        with runtime.metered(paths.cost(name)):
            stage.run(declared)


def build_parser() -> argparse.ArgumentParser:
    """Describe every stage and command, from the first lines of their `__init__.py`."""
    parser = argparse.ArgumentParser(
        prog="medadapt",
        description=DESCRIPTION,
        epilog="Exit codes: 0 done, 1 an error that the message explains, 2 wrong options, 3 a check found something.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"medadapt {__version__}")
    parser.add_argument(
        "--print-completion", action=PrintCompletion, help="print a completion script for bash, zsh or tcsh"
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for name in (*STAGES, *COMMANDS):
        package = importlib.import_module(_package(name))
        summary, _, rest = inspect.cleandoc(package.__doc__ or "").partition("\n")
        kind = "stage" if name in STAGES else "command"
        one = names.add_parser(
            name,
            help=f"{kind}: {summary[0].lower()}{summary[1:].rstrip('.')}",
            description=f"{summary}\n{rest}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--verbose", action="store_true", help="print debug messages, and tracebacks of errors")
        if name in PER_FOLD:
            one.add_argument("--fold", required=True, help="a name of split.folds, e.g. 0 or final")
        if name in COMMANDS:
            package.add_options(one)
    return parser


def start_logging(arguments: argparse.Namespace) -> None:
    """Log messages to the terminal and, inside a project, to data/logs. Neither the file nor a message holds a name.

    The command line is not logged, since file names may hold names of patients.
    """
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.DEBUG if arguments.verbose else logging.INFO)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    handlers: list[logging.Handler] = [terminal]
    if Path("params.yaml").exists() and arguments.name != "whois":
        LOGS.mkdir(parents=True, exist_ok=True)
        fold = f"_{arguments.fold}" if arguments.name in PER_FOLD else ""
        file = RotatingFileHandler(LOGS / f"{arguments.name}{fold}.log", maxBytes=LOG_BYTES, backupCount=3, delay=True)
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(file)
    logger = logging.getLogger("pipeline")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


class PrintCompletion(argparse.Action):
    """Print a completion script by shtab, e.g. `medadapt --print-completion bash`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: object, values: object, option: object = None
    ) -> None:
        """Print and leave."""
        import shtab

        if values not in shtab.SUPPORTED_SHELLS:
            parser.error(f"--print-completion takes {', '.join(shtab.SUPPORTED_SHELLS)}")
        print(shtab.complete(parser, str(values)))
        parser.exit()


def import_quietly(name: str) -> ModuleType:
    """Import a module, and keep the garbage collector away from what comes with it.

    The libraries are half a million objects that stay to the end. Looked through at every collection, they would cost
    a small training, which ends with one (`Accelerator.free_memory`), as much time as all its epochs.
    """
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if not gc.get_freeze_count():  # once: in a process that imports again, its garbage must not be kept
            gc.freeze()
        gc.enable()


def check_writable(out: str | None) -> None:
    """Make sure that a result can be written to `--out` before it is computed.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    if out is None:
        return
    file, new = Path(out), not Path(out).exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise UserError(f"--out: {file} cannot be written ({error.strerror}); name another file") from error
    if new:
        file.unlink()


def _package(name: str) -> str:
    if name in STAGES:
        return f"pipeline.stages.{name}"
    return f"pipeline.commands.{'import_' if name == 'import' else name}"


if __name__ == "__main__":
    sys.exit(main())
