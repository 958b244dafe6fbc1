"""Store many small entries in few files: each writer appends to a file of its own, and reads those of all writers.

A record is a mark, the lengths of name and content, the SHA-256 of both, name and content. What a killed writer left
incomplete at the end of its file is never read; damaged entries are told and read as absent.
"""

import contextlib
import hashlib
import logging
import struct
import uuid
from pathlib import Path
from typing import BinaryIO, NamedTuple

log = logging.getLogger(__name__)

MARK = b"pack"
HEADER = struct.Struct("<4sIQ32s")


class Place(NamedTuple):
    """Where the content of an entry is, and the hash of its name and content."""

    file: Path
    start: int
    length: int
    digest: bytes


class Packs:
    """Entries by name in the files `*.pack` of a folder.

    Parameters
    ----------
    folder : Path
        Other processes may add files to it and remove it at any time.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[str, list[Place]] = {}
        self._known: dict[Path, int] = {}  # bytes of each file whose records are in `_places`
        self._own: BinaryIO | None = None

    def read(self, name: str) -> bytes | None:
        """Read an entry; None if there is none, or if it is damaged."""
        if not self._places.get(name):
            self._look()
        places = self._places.get(name, [])
        while places:
            if (content := _content(places[-1], name)) is not None:
                return content
            places.pop()
        return None

    def write(self, name: str, content: bytes) -> None:
        """Append an entry.

        Raises
        ------
        OSError
            If the disk is full or the folder was removed; the next entry then goes to another file.
        """
        encoded, digest = name.encode(), _digest(name, content)
        try:
            if self._own is None:
                self._own = (self.folder / f"{uuid.uuid4().hex}.pack").open("xb")
            self._own.write(HEADER.pack(MARK, len(encoded), len(content), digest) + encoded + content)
            self._own.flush()
        except OSError:
            own, self._own = self._own, None
            if own is not None:
                with contextlib.suppress(OSError):  # it would write the rest again
                    own.close()
            raise
        file, end = Path(self._own.name), self._own.tell()
        self._known[file] = end
        self._places.setdefault(name, []).append(Place(file, end - len(content), len(content), digest))

    def _look(self) -> None:
        """Note the records that were added since the last look."""
        for file in sorted(self.folder.glob("*.pack")):
            with contextlib.suppress(FileNotFoundError), file.open("rb") as stream:
                self._known[file] = self._note(file, stream, self._known.get(file, 0))

    def _note(self, file: Path, stream: BinaryIO, start: int) -> int:
        size = stream.seek(0, 2)
        while start + HEADER.size <= size:
            stream.seek(start)
            mark, letters, length, digest = HEADER.unpack(stream.read(HEADER.size))
            end = start + HEADER.size + letters + length
            if mark != MARK:
                log.warning("%s is damaged; what follows in it is computed again", file)
                return size
            if end > size:  # is being written
                break
            name = stream.read(letters).decode(errors="replace")
            self._places.setdefault(name, []).append(Place(file, end - length, length, digest))
            start = end
        return start


def _content(place: Place, name: str) -> bytes | None:
    try:
        with place.file.open("rb") as stream:
            stream.seek(place.start)
            content = stream.read(place.length)
    except FileNotFoundError:
        return None
    if _digest(name, content) == place.digest:
        return content
    log.warning("%s: an entry is damaged; it is computed again", place.file)
    return None


def _digest(name: str, content: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + content).digest()
