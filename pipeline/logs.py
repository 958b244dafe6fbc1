"""Write what stages and commands log: to the terminal, to a file of each stage or command, and to a file of each run.

No log holds a name of a patient or a file, nor the command line. `whois` writes no log file.
"""

import argparse
import logging
import os
import re
import sys
import time
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

from pipeline.printable import printable
from pipeline.progress import AboveBar

LOGS = Path("data/logs")
RUNS = LOGS / "runs"
LOG_BYTES = 2**20  # of one log file; three older ones are kept
KEPT_RUNS = 30  # log files of runs; older ones are deleted
PROGRESS = "pipeline.progress"  # the logger of the lines about progress
RUN = "pipeline"  # the logger of the lines with which a stage or command begins and ends


def start_logging(arguments: argparse.Namespace, label: str) -> None:
    """Log messages to the terminal and, inside a project, to data/logs.

    Parameters
    ----------
    label : str
        Names the stage in the log of the run, e.g. "stage 3 of 18, split".
    """
    terminal = logging.StreamHandler(AboveBar(sys.stderr))
    terminal.setLevel(logging.DEBUG if arguments.verbose else logging.INFO)
    terminal.setFormatter(TerminalFormatter())
    logger = logging.getLogger("pipeline")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    inside = Path("params.yaml").exists() and arguments.name != "whois"
    files = [*log_file(arguments), *run_log(arguments.name, label)] if inside else []
    for handler in (terminal, *files):
        logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)


class TerminalFormatter(logging.Formatter):
    """Write the message of a record; a warning is bold on a terminal, and begins with WARNING elsewhere."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        text = printable(super().format(record))
        if record.levelno < logging.WARNING:
            return text
        return f"\033[1m{text}\033[0m" if sys.stderr.isatty() else f"WARNING: {text}"


class PrintableFormatter(logging.Formatter):
    """Write a message with its control characters shown."""

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        return printable(super().format(record))


def log_file(arguments: argparse.Namespace) -> list[logging.Handler]:
    """Open data/logs/<stage>[_<fold>].log; no handler if it cannot be written."""
    fold = "_" + re.sub(r"[^\w.-]", "_", arguments.fold) if getattr(arguments, "fold", None) else ""
    try:
        LOGS.mkdir(parents=True, exist_ok=True)
        handler = QuietRotatingFile(LOGS / f"{arguments.name}{fold}.log", maxBytes=LOG_BYTES, backupCount=3)
    except OSError:
        return []
    handler.setFormatter(PrintableFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return [handler]


class QuietFile(logging.FileHandler):
    """A log file that a full disk leaves incomplete, without a traceback on the terminal."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - its name in logging
        """Print errors other than those of the disk."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class QuietRotatingFile(QuietFile, RotatingFileHandler):
    """The same for a file of limited size."""


def run_log(name: str, label: str) -> list[logging.Handler]:
    """Open the log of the run that this stage belongs to: data/logs/runs/<time of its start>.log.

    All stages of one `dvc repro`, `dvc exp run`, `medadapt run` or `medadapt folds` write to the same file: a line when
    they begin and end, and their messages.
    """
    if "DVC_STAGE" not in os.environ and name not in ("run", "folds"):  # DVC sets it for every stage
        return []
    began = start_of_run()
    if began is None:
        return []
    file = RUNS / time.strftime("%Y-%m-%d_%H-%M-%S.log", time.localtime(began))
    try:
        RUNS.mkdir(parents=True, exist_ok=True)
        handler = QuietFile(file)
        for old in sorted(RUNS.glob("*.log"))[:-KEPT_RUNS]:
            old.unlink(missing_ok=True)
    except OSError:
        return []
    handler.addFilter(lambda record: record.levelno >= logging.INFO or record.name in (RUN, PROGRESS))
    handler.setFormatter(Labelled(label))
    return [handler]


class Labelled(logging.Formatter):
    """Begin a message with the time and the stage; a line of progress names its stage itself."""

    def __init__(self, label: str) -> None:
        super().__init__(f"%(asctime)s {label.replace('%', '%%')}: %(message)s")
        self.plain = logging.Formatter("%(asctime)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Format a message."""
        return printable(self.plain.format(record) if record.name == PROGRESS else super().format(record))


def start_of_run() -> float | None:
    """Find when the outermost command that runs stages began (seconds since 1970), among this process's parents."""
    import psutil  # type: ignore[import-untyped]

    try:
        here = psutil.Process()
        runs = [process for process in (here, *here.parents()) if runs_stages(process.cmdline())]
    except psutil.Error:
        return None
    return float(runs[-1].create_time()) if runs else None


def runs_stages(words: Sequence[str]) -> bool:
    """Tell whether a command line is `dvc repro`, `dvc exp run`, `medadapt run` or `medadapt folds`.

    >>> runs_stages(["/venv/bin/python", "-m", "dvc", "repro", "calibrate"])
    True
    """
    for at, word in enumerate(words[:4]):
        following = list(words[at + 1 :])
        if Path(word).name == "dvc":
            return "repro" in following or following[:2] == ["exp", "run"]
        if Path(word).name == "medadapt" or (word == "pipeline" and words[at - 1] == "-m"):
            return following[:1] in (["run"], ["folds"])
    return False
