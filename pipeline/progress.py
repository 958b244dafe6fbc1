"""Tell how far a stage or command is: a bar on a terminal, a line every half minute in logs, a file for `status`.

A thread reports the state of this process, so that long steps without a loop are reported as well. It computes nothing.
"""

import logging
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
log = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two lines in a log
TICK = 1.0  # seconds between two looks at the state
ERASE = "\r\033[K"


@dataclass(eq=False)
class Loop:
    """A loop that runs: what it does, and how many of its items are done."""

    doing: str
    total: int | None
    done: int = 0
    began: float = field(default_factory=time.monotonic)

    def __str__(self) -> str:
        if self.total is None:
            return f"{self.doing}: {self.done} done"
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done) if self.done else None
        about = "" if left is None else f", about {duration(left)} left"
        return f"{self.doing}: {self.done} of {self.total}{about}"


@dataclass
class State:
    """What this process does now: the stage or command, its present activity, and its loops from outer to inner."""

    label: str = ""
    usual: float | None = None
    activity: str = ""
    loops: list[Loop] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    drawn: bool = False

    def describe(self) -> str:
        """Describe the activity and the loops."""
        return "; ".join([*filter(None, [self.activity]), *map(str, self.loops)])

    def line(self) -> str:
        """Describe the state with the time so far and, if an earlier run was recorded, the time left."""
        elapsed = time.monotonic() - self.began
        left = "" if not self.usual or elapsed > self.usual else f", about {duration(self.usual - elapsed)} left"
        return ": ".join(filter(None, [self.label, self.describe()])) + f" ({duration(elapsed)} so far{left})"

    def bar(self, width: int) -> str:
        """Draw a bar: of the outermost loop, else of the recorded time of an earlier run, else the time alone."""
        elapsed, doing = time.monotonic() - self.began, [self.activity, *(loop.doing for loop in self.loops)]
        words = f"{self.label}: {'; '.join(filter(None, doing))}".rstrip(": ")
        loop = next((one for one in self.loops if one.total), None)
        done, total = (loop.done, loop.total) if loop else (elapsed, self.usual)
        if not total or done > total:
            return f"{words} [{duration(elapsed)}]"[:width]
        since = loop.began if loop else self.began
        shape = "{l_bar}{bar}| {elapsed}<{remaining}"
        words = words[: max(width - 40, 10)]
        return str(
            tqdm.format_meter(done, total, time.monotonic() - since, ncols=width, prefix=words, bar_format=shape)
        )


_state = State()


def progress(items: Iterable[Item], doing: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items of a loop and count them for the bar and the log."""
    loop, loops = Loop(doing, len(items) if total is None and isinstance(items, Sized) else total), _state.loops
    loops.append(loop)
    try:
        for item in items:
            yield item
            loop.done += 1
    finally:
        loops.remove(loop)


def activity(words: str) -> None:
    """Say what this process does from now on, e.g. "candidate lp_ft (3 of 5), epoch 7"."""
    _state.activity = words


@contextmanager
def reported(label: str, file: Path | None = None, usual: float | None = None) -> Iterator[None]:
    """Report the progress of a block until it ends.

    Parameters
    ----------
    label : str
        The stage with its position, or the command.
    file : Path, optional
        Holds the present state while the block runs; `status` reads it.
    usual : float, optional
        Seconds that an earlier run took.
    """
    global _state
    _state, over = State(label, usual), Event()
    thread = Thread(target=_watch, args=(_state, over, file), daemon=True)
    thread.start()
    try:
        with redirect_stdout(AboveBar(sys.stdout)) if sys.stderr.isatty() else nullcontext():
            yield
    finally:
        over.set()
        thread.join()
        _state = State()


def _watch(state: State, over: Event, file: Path | None) -> None:
    """Draw the bar, write the file, and log a line every `EVERY` seconds, until the block is over."""
    logged, terminal = state.began, sys.stderr.isatty()
    while not over.wait(TICK):
        if terminal:
            sys.stderr.write(ERASE + state.bar(shutil.get_terminal_size().columns - 1))
            sys.stderr.flush()
            state.drawn = True
        if file is not None:
            _write(file, state.describe())
        if time.monotonic() - logged >= EVERY:
            log.log(logging.DEBUG if terminal else logging.INFO, "%s", state.line())
            logged = time.monotonic()
    _erase(state)
    if file is not None:
        file.unlink(missing_ok=True)


def _write(file: Path, words: str) -> None:
    """Write the file of the state; a full disk or a folder that is deleted now stops no stage."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(words)


def _erase(state: State) -> None:
    if state.drawn:
        sys.stderr.write(ERASE)
        sys.stderr.flush()
        state.drawn = False


class AboveBar:
    """A stream that erases the bar before it writes, so that lines do not run into it.

    The bar is on the terminal of the errors; a file that the output goes to gets nothing of it.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Erase the bar and write."""
        _erase(_state)
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def position(job: tuple[str, str], jobs: Sequence[tuple[str, str]]) -> str:
    """Say which of the stages of a run a stage is, and which of the folds.

    >>> position(("finetune", "final"), [("split", ""), ("finetune", "0"), ("finetune", "final")])
    'stage 3 of 3, finetune, fold final (2 of 2)'
    """
    stage, fold = job
    where = f"stage {jobs.index(job) + 1} of {len(jobs)}, {stage}" if job in jobs else stage
    if not fold:
        return where
    folds = [one for name, one in jobs if name == stage]
    return f"{where}, fold {fold}" + (f" ({folds.index(fold) + 1} of {len(folds)})" if fold in folds else "")


def duration(seconds: float | None) -> str:
    """Format seconds as hours, minutes and seconds."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
