"""Store many small entries in few files: each writer appends to a file of its own, and reads those of all writers.

A record is a mark, the lengths of name and content, the SHA-256 of both, name and content. What a killed writer left
incomplete at the end of its file is never read; damaged entries are told and read as absent.
"""

import contextlib
import hashlib
import logging
import os
import struct
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

log = logging.getLogger(__name__)

MARK = b"pack"
HEADER = struct.Struct("<4sIQ32s")
ENDING = ".pack"
FEW, MOST_SMALL = 256, 16  # entries of a small file; so many small files stay apart


class Record(NamedTuple):
    """An entry in a file: where its record begins, where its content begins and ends, the hash of name and content."""

    name: str
    first: int
    start: int
    end: int
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
        self._places: dict[str, list[tuple[str, Record]]] = {}  # by the name of the file
        self._ends: dict[str, int] = {}  # of the records of each file that are in `_places`
        self._sizes: dict[str, int] = {}  # of each file when it was last looked at
        self._own: BinaryIO | None = None

    def close(self) -> None:
        """Close the file of this writer; the next entry begins another one."""
        own, self._own = self._own, None
        if own is not None:
            own.close()

    def read(self, name: str) -> bytes | None:
        """Read an entry; None if there is none, or if it is damaged."""
        if not self._places.get(name):
            self._look()
        places = self._places.get(name, [])
        while places:
            file, record = places[-1]
            with contextlib.suppress(FileNotFoundError), open(os.path.join(self.folder, file), "rb") as stream:
                if (content := _content(stream, record)) is not None:
                    return content
            places.pop()
        return None

    def read_each(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Read the entries that are there, file by file."""
        self._look()
        found: dict[str, list[Record]] = {}
        for name in names:
            for file, record in self._places.get(name, [])[-1:]:
                found.setdefault(file, []).append(record)
        for file, records in sorted(found.items()):
            with (self.folder / file).open("rb") as stream:
                for record in sorted(records, key=lambda record: record.first):
                    if (content := _content(stream, record)) is None:
                        self._places[record.name].pop()
                        content = self.read(record.name)
                    if content is not None:
                        yield record.name, content

    def write(self, name: str, content: bytes) -> None:
        """Append an entry.

        Raises
        ------
        OSError
            If the disk is full or the folder was removed; the next entry then goes to another file.
        """
        begin, digest = _head(name, content)
        try:
            if self._own is None:
                self._own = _new_file(self.folder)
            self._own.write(begin + content)
            self._own.flush()
        except OSError:
            own, self._own = self._own, None
            if own is not None:
                with contextlib.suppress(OSError):  # it would write the rest again
                    own.close()
            raise
        file, end = os.path.basename(self._own.name), self._own.tell()
        start = end - len(content)
        self._ends[file] = self._sizes[file] = end
        self._places.setdefault(name, []).append(
            (file, Record(name, first=start - len(begin), start=start, end=end, digest=digest))
        )

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all other entries and what is damaged, and join files of few entries if there are many of them.

        No other process may write to the folder meanwhile. A kill leaves entries twice, or some of the removed ones.
        """
        self.close()
        self._look()
        kept: dict[str, list[Record]] = {file: [] for file in self._ends}
        for name in names:
            for file, record in self._places.get(name, [])[-1:]:
                kept[file].append(record)
        whole = {file for file, records in kept.items() if _length(records) == self._sizes[file]}
        small = [file for file in whole if len(kept[file]) < FEW]
        if len(small) > MOST_SMALL:
            whole -= set(small)
        moved = {file: records for file, records in kept.items() if file not in whole}
        if any(moved.values()):
            with _new_file(self.folder) as stream:
                for file, records in sorted(moved.items()):
                    _copy(self.folder / file, sorted(records, key=lambda record: record.first), stream)
        for file in moved:
            (self.folder / file).unlink(missing_ok=True)
        self._places, self._ends, self._sizes = {}, {}, {}

    def _look(self) -> None:
        """Note the records that were added since the last look, in the files that grew since then."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.name.endswith(ENDING)}
            for file in sorted(file for file, size in sizes.items() if size != self._sizes.get(file)):
                with contextlib.suppress(FileNotFoundError), (self.folder / file).open("rb") as stream:
                    self._ends.setdefault(file, 0)
                    for record in records_in(stream, self._ends[file]):
                        self._places.setdefault(record.name, []).append((file, record))
                        self._ends[file] = record.end
                    self._sizes[file] = sizes[file]


def records_in(stream: BinaryIO, first: int = 0) -> Iterator[Record]:
    """List the complete records of an open file from a place on; what follows damage is told and left out."""
    size = stream.seek(0, os.SEEK_END)
    while first + HEADER.size <= size:
        stream.seek(first)
        mark, letters, length, digest = HEADER.unpack(stream.read(HEADER.size))
        start = first + HEADER.size + letters
        if mark != MARK:
            log.warning("%s is damaged; what follows in it is not used", stream.name)
            return
        if start + length > size:  # is being written
            return
        name, end = stream.read(letters).decode(errors="replace"), start + length
        yield Record(name, first=first, start=start, end=end, digest=digest)
        first = end


def write_pack(file: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """Write a pack with these entries in this order; the same entries give the same bytes. It is renamed when whole."""
    partial = file.with_name(f"{file.name}.partial")
    with partial.open("wb") as stream:
        for name, content in entries:
            stream.write(_head(name, content)[0])
            stream.write(content)
    partial.replace(file)


def _head(name: str, content: bytes) -> tuple[bytes, bytes]:
    encoded, digest = name.encode(), _digest(name, content)
    return HEADER.pack(MARK, len(encoded), len(content), digest) + encoded, digest


def _new_file(folder: Path) -> BinaryIO:
    return (folder / f"{uuid.uuid4().hex}{ENDING}").open("xb")


def _length(records: Iterable[Record]) -> int:
    return sum(record.end - record.first for record in records)


def _copy(file: Path, records: Iterable[Record], target: BinaryIO) -> None:
    """Append records as they are to an open file."""
    with file.open("rb") as stream:
        for record in records:
            stream.seek(record.first)
            target.write(stream.read(record.end - record.first))


def _content(stream: BinaryIO, record: Record) -> bytes | None:
    stream.seek(record.start)
    content = stream.read(record.end - record.start)
    if _digest(record.name, content) == record.digest:
        return content
    log.warning("%s: an entry is damaged; it is computed again", stream.name)
    return None


def _digest(name: str, content: bytes) -> bytes:
    hashed = hashlib.sha256(name.encode() + b"\0")
    hashed.update(content)
    return hashed.digest()
