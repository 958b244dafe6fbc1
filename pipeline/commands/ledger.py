"""The ledger of a model in use: a line for each series that was answered or refused, written so that none is lost.

A line is appended and forced to the disk when the work on a series is done. A process that is killed leaves at most an
incomplete last line, which is removed at the next start; that series is then answered again, and gives objects with the
same UIDs. Names are replaced by pseudonyms under a salt that stays in the folder.
"""

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pipeline.bundle.predictor import BAD_IMAGE, Prediction
from pipeline.errors import UserError
from pipeline.imaging.tables.pseudonyms import BadSalt, pseudonym, salt_of

FILE = "ledger.jsonl"
Outcome = Literal["answered", "no answer", "refused", "left out"]


class Ledger:
    """Keep which series were worked on, in a folder that only its owner can read.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    UserError
        If the folder cannot be used, a line is damaged, or another process writes this ledger.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._salt = salt_of(folder, public=False)
            self._stream = os.fdopen(os.open(folder / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+b")
        except (OSError, BadSalt) as error:
            raise UserError(f"--ledger: {folder} cannot be used ({error}); name another folder") from error
        self.folder = folder
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"--ledger: another command writes {folder / FILE}; end it, or name another one") from error
        self._done = {str(one["series"]) for one in self._recovered()}
        _force(folder)

    def _recovered(self) -> list[dict[str, Any]]:
        """Read all lines, and remove an incomplete last one."""
        self._stream.seek(0)
        content = self._stream.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._stream.truncate(whole)
            os.fsync(self._stream.fileno())
        return parsed(content[:whole], self.folder / FILE)

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def __contains__(self, series: str) -> bool:
        return series in self._done

    def __len__(self) -> int:
        return len(self._done)

    def pseudonym(self, kind: str, name: str) -> str:
        """Replace a name; the same name has the same pseudonym in this ledger only."""
        return pseudonym(self._salt, kind, name)

    def add(self, series: str, outcome: Outcome, reason: str, **values: Any) -> None:
        """Append a line, and return when it is on the disk."""
        when = datetime.now(UTC).isoformat(timespec="seconds")
        record: Mapping[str, Any] = {"series": series, "when": when, "outcome": outcome, "reason": reason, **values}
        self._stream.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._done.add(series)


def outcome_of(found: Sequence[Prediction]) -> Outcome:
    """Sum up the scans of a series: answered if any is."""
    if any(one.probabilities is not None for one in found):
        return "answered"
    return "refused" if all(BAD_IMAGE in one.abstains for one in found) else "no answer"


def read_ledger(folder: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a ledger that another process may be writing."""
    file = folder / FILE
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); name the folder of --ledger") from error
    return parsed(content[: content.rfind(b"\n") + 1], file)


def parsed(content: bytes, file: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a ledger."""
    records = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            record["series"], record["outcome"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file}: line {number} is damaged; restore the ledger from a backup") from error
        records.append(record)
    return records


def _force(folder: Path) -> None:
    """Force the entry of a new file to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
