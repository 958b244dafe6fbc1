"""The command line: `medadapt NAME`, or `python -m pipeline NAME`, where NAME is a stage or a command.

Each stage and each command is a folder. Its `__init__.py` describes it, declares its options and imports no large
library, so that `--help` answers at once; its `run.py` does the work.

Exit codes: 0 done; 1 an error that the message explains; 2 wrong options; 3 a check found something (`verify`,
`monitor`); 141 the reader of the output ended before the program did.
"""

import argparse
import gc
import importlib
import inspect
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import TextIO, cast

from pipeline import __version__
from pipeline.command_line import CommandParser, NamesParser, PrintCompletion, given
from pipeline.errors import UserError
from pipeline.printable import Printable, printable

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
    "run",
    "encoders",
    "folds",
    "status",
    "repair",
    "show",
    "compare",
    "whois",
    "predict",
    "listen",
    "serve",
    "package",
    "verify",
    "monitor",
)
HEADINGS = {
    "cohort": "stages, in order",
    "import": "commands of a project",
    "predict": "commands of a released bundle",
}
RUNNING_STAGES = ("run", "folds")
WITHOUT_END = ("listen", "serve")  # they say themselves what they do
RUNNING = Path("data/scratch/training.lock")  # held by the command that trains folds
DESCRIPTION = """Domain adaptation for medical imaging: from raw scans to a released, calibrated model.
`dvc repro` runs all stages in order; `medadapt NAME --help` explains one stage or command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one stage or command and return the exit code; 141 if the reader of the output ended, as `head` does."""
    try:
        try:
            with redirect_stdout(cast(TextIO, Printable(sys.stdout))):
                return answer(argv)
        finally:
            sys.stdout.flush()  # also where argparse ends the program
    except BrokenPipeError:
        if not reader_ended(sys.stdout):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain as it exits
        return 128 + signal.SIGPIPE


def answer(argv: Sequence[str] | None) -> int:
    """Run one stage or command.

    A `UserError` becomes a message (with its traceback if `--verbose`). Any other exception is a defect and is raised.
    The log file gets the type of an error, never its message, which may hold the name of a file or a patient.
    """
    words, parser = given(argv), build_parser()
    parser.check_name(words, (*STAGES, *COMMANDS))
    arguments = parser.parse_args(words)
    from pipeline.logs import start_logging  # not above: `--help` answers at once

    label = label_of(arguments)
    start_logging(arguments, label)
    for variable in ("NO_ALBUMENTATIONS_UPDATE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(variable, "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the equations solved here are small: more threads mostly wait
    log = logging.getLogger("pipeline")
    log.debug("%s begins, medadapt %s", arguments.name, __version__)
    from pipeline.disk import explained

    try:
        with explained(arguments.name if arguments.name in STAGES else "", getattr(arguments, "fold", "")):
            run(arguments, label)
    except UserError as error:
        if arguments.verbose:
            traceback.print_exc()
        print(printable(f"error: {error}"), file=sys.stderr)
        log.debug("%s ends: %s, exit code %d", arguments.name, type(error).__name__, error.exit_code)
        return error.exit_code
    except BaseException as error:
        log.debug("%s ends: %s", arguments.name, type(error).__name__)
        raise
    log.debug("%s ends: done", arguments.name)
    return 0


def reader_ended(stream: TextIO) -> bool:
    """Check whether the reader of a pipe ended; a pipe to another process of this program may break, too."""
    pipe = select.poll()
    pipe.register(stream, 0)
    return any(event & select.POLLERR for _, event in pipe.poll(0))


def run(arguments: argparse.Namespace, label: str) -> None:
    """Call the `run` of a stage or command, and report its progress."""
    from pipeline.disk import alone
    from pipeline.private import keep_state_private
    from pipeline.progress import reported

    keep_state_private()
    name, fold = arguments.name, getattr(arguments, "fold", "")
    if name in RUNNING_STAGES:  # each of their stages reports itself
        said = "another `medadapt run` or `medadapt folds` is training in this folder; wait until it ends"
        with alone(RUNNING, said) if Path("params.yaml").exists() else nullcontext():
            import_quietly(f"{_package(name)}.run").run(arguments)
        return
    if name in COMMANDS:
        with ExitStack() as held:
            for option in ("out", "report"):
                held.enter_context(held_for_writing(getattr(arguments, option, None), f"--{option}"))
            if name not in WITHOUT_END:
                held.enter_context(reported(label))
            import_quietly(f"{_package(name)}.run").run(arguments)
        return
    from pipeline import costs, digests, lock_file, params, paths

    record = paths.cost(name, fold)
    lock_file.keep_lock()
    with reported(label, paths.activity(name, fold), costs.last_run(name, fold).get("seconds")):
        declared, settings = params.for_stage(name), costs.workload(name, params.completed())
        digests.check_inputs(name, fold)
        stage = import_quietly(f"{_package(name)}.run")
        with costs.recorded(record, settings):
            stage.run(declared, *([fold] if name in PER_FOLD else []))


def label_of(arguments: argparse.Namespace) -> str:
    """Name a command, or a stage with its position among the stages and folds of the run."""
    name = arguments.name
    if name in COMMANDS:
        return str(name)
    from pipeline import params, progress, runtime

    try:
        folds = params.completed().split.folds
    except UserError:  # said later, when the stage reads its parameters
        return str(name)
    stages = runtime.stages_of_run() or STAGES
    jobs = [(stage, fold) for stage in stages for fold in (folds if stage in PER_FOLD else ("",))]
    return progress.position((name, getattr(arguments, "fold", "")), jobs)


def build_parser() -> NamesParser:
    """Build the parser; the help of each stage and command is the docstring of its `__init__.py`."""
    parser = NamesParser(
        HEADINGS,
        prog="medadapt",
        description=DESCRIPTION,
        epilog="Exit codes: 0 done, 1 an error that the message explains, 2 wrong options, 3 a check found something.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"medadapt {__version__}")
    parser.add_argument(
        "--print-completion",
        action=PrintCompletion,
        metavar="SHELL",
        help="print a completion script for bash, zsh or tcsh and exit",
    )
    names = parser.add_subparsers(dest="name", required=True, metavar="NAME", parser_class=CommandParser)
    for name in (*STAGES, *COMMANDS):
        package = importlib.import_module(_package(name))
        summary, _, rest = inspect.cleandoc(package.__doc__ or "").partition("\n")
        one = names.add_parser(
            name,
            help=f"{summary[0].upper()}{summary[1:].rstrip('.')}",
            description=f"{summary[0].upper()}{summary[1:]}\n{rest}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.add_argument("--verbose", action="store_true", help="print debug messages and the tracebacks of errors")
        if name in PER_FOLD:
            one.add_argument("--fold", required=True, help="name from split.folds in params.yaml, e.g. 0 or final")
        if name in COMMANDS:
            package.add_options(one)
    return parser


def import_quietly(name: str) -> ModuleType:
    """Import a module and exclude the objects that come with it from garbage collection.

    The libraries create half a million objects that live until the process ends. A small training ends with a
    collection (`Accelerator.free_memory`), which would take as long as all its epochs if it scanned them.
    """
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if not gc.get_freeze_count():  # only once: a second call would also freeze garbage
            gc.freeze()
        gc.enable()


@contextmanager
def held_for_writing(out: str | None, option: str = "--out") -> Iterator[None]:
    """Check that the file of an option can be written before the result is computed, and keep others from writing it.

    Raises
    ------
    UserError
        If the file cannot be written, or another command is about to write it.
    """
    if out is None:
        yield
        return
    from pipeline.disk import alone

    with ExitStack() as held:
        try:
            held.enter_context(alone(Path(out), f"{option}: another command is writing {out}; name another file"))
        except OSError as error:
            raise UserError(f"{option}: {out} cannot be written ({error.strerror}); name another file") from error
        yield


def _package(name: str) -> str:
    if name in STAGES:
        return f"pipeline.stages.{name}"
    return f"pipeline.commands.{'import_' if name == 'import' else name}"


if __name__ == "__main__":
    sys.exit(main())
