"""Receive the files of a request, within limits, and sort them into scans.

The body of a request is one line of JSON, `[[name, bytes], ...]`, then the bytes of the files. Names are shown, and
never become part of a path.
"""

import json
import re
import zipfile
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.zipped import UNREADABLE, unpack
from pipeline.commands.series_files import header_of, without_others
from pipeline.imaging.reading.volumes import READABLE
from pipeline.imaging.tables.scan_list import DOCUMENTS, Kind, Listed, list_scans
from pipeline.imaging.tables.text_table import BadTable
from pipeline.printable import printable

MOST_FILES = 5000
LONGEST_LIST = 2**20  # bytes of the line with names
GIB = 2**30


class Rejected(Exception):
    """An upload that is not accepted; with the HTTP status and a sentence."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


@dataclass(frozen=True)
class Received:
    """A file of an upload: its name as the user knows it, and where it lies."""

    name: str
    file: Path


async def receive(body: AsyncIterator[bytes], folder: Path, most_bytes: int) -> list[Received]:
    """Write the files of a body into a folder, piece by piece.

    Raises
    ------
    Rejected
        If it is larger than allowed, has another format, or ends early.
    """
    head, files, rest = b"", list[tuple[Received, int]](), b""
    async for piece in body:
        head += piece
        line, found, rest = head.partition(b"\n")
        if found:
            files = listed_in(line, folder, most_bytes)
            break
        if len(head) > LONGEST_LIST:
            raise Rejected(400, "the list of files is too long")
    if not files:
        raise Rejected(400, "no file was sent; choose a scan")
    await _write(body, rest, files)
    return [one for one, _ in files]


def listed_in(line: bytes, folder: Path, most_bytes: int) -> list[tuple[Received, int]]:
    """Read the list of names and sizes."""
    try:
        listed = [(str(name), int(size)) for name, size in json.loads(line)]
    except (ValueError, TypeError, RecursionError) as error:
        raise Rejected(400, "the upload has another format than this page sends") from error
    if len(listed) > MOST_FILES:
        raise Rejected(413, f"{len(listed)} files are more than the allowed {MOST_FILES}; send one series or study")
    if any(size < 0 for _, size in listed) or sum(size for _, size in listed) > most_bytes:
        raise Rejected(413, too_large(most_bytes))
    files = [
        Received(printable(name), folder / f"{number:06}{ending_of(name)}") for number, (name, _) in enumerate(listed)
    ]
    return [(one, size) for one, (_, size) in zip(files, listed, strict=True)]


def too_large(most_bytes: int) -> str:
    """Say how much may be sent."""
    return (
        f"the upload is larger than the allowed {most_bytes / GIB:g} GiB; send one series, or start with --max-upload"
    )


async def _write(body: AsyncIterator[bytes], rest: bytes, files: list[tuple[Received, int]]) -> None:
    """Write the bytes of the files in their order."""
    for one, size in files:
        with one.file.open("wb") as stream:
            while size:
                if not rest:
                    rest = await anext(body, b"")
                    if not rest:
                        raise Rejected(400, "the upload ended early; send it again")
                stream.write(rest[:size])
                size, rest = max(0, size - len(rest)), rest[size:]


def ending_of(name: str) -> str:
    """Return the ending by which a file is read; "" for one that is not known."""
    return next((ending for ending in (*READABLE, ".zip", *DOCUMENTS) if name.lower().endswith(ending)), "")


def scans_of(received: list[Received], folder: Path, kind: Kind, most_bytes: int) -> tuple[list[Listed], Counter[str]]:
    """Unpack zips, sort files into series, and list their scans; count what is no scan.

    Raises
    ------
    Rejected
        If a zip is broken or unpacks to more than twice `most_bytes`.
    """
    files, dropped = [one for zipped in received for one in unzipped(zipped, folder, most_bytes)], Counter[str]()
    groups: dict[str, list[Received]] = {}
    for one in files:
        if one.file.name.endswith(DOCUMENTS):
            dropped["a document"] += 1
            continue
        series, _ = header_of(one.file)
        groups.setdefault(series or str(one.file), []).append(one)
    scans = []
    for number, (series, members) in enumerate(groups.items()):
        place = folder / f"series{number}"
        place.mkdir()
        names = {one.file.rename(place / one.file.name).name: one.name for one in members}
        dropped += without_others(place)
        scans += named(place, names, kind, single=series == str(members[0].file))
    return scans, dropped


def named(place: Path, names: dict[str, str], kind: Kind, *, single: bool) -> list[Listed]:
    """List the scans of a series under the names of the user."""
    try:
        listed = [Listed("", place / next(iter(names)))] if single else list_scans(place, kind)
    except BadTable:  # nothing is left of it
        return []
    first = next(iter(names.values()))
    title = first if len(names) == 1 else f"{first} and {len(names) - 1} more"
    return [Listed(names.get(one.file.name, title), one.file) for one in listed]


def unzipped(one: Received, folder: Path, most_bytes: int) -> list[Received]:
    """Unpack a file that is a zip; any other file stays itself."""
    if not one.file.name.endswith(".zip"):
        return [one]
    inside = folder / f"{one.file.name}.content"
    inside.mkdir()
    try:
        with zipfile.ZipFile(one.file) as archive:
            unpack(archive, Path(one.name), inside, 2 * most_bytes / GIB, most_files=MOST_FILES)
    except BrokenBundle as error:
        raise Rejected(413, re.sub(r"\. If you expect a model.*", "", str(error))) from error
    except UNREADABLE as error:
        raise Rejected(400, f"{one.name}: the zip cannot be unpacked; pack it again") from error
    one.file.unlink()
    files = [file for file in sorted(inside.rglob("*")) if file.is_file() and not hidden(file)]
    return [
        Received(
            f"{one.name}/{printable(file.relative_to(inside).as_posix())}",
            file.rename(inside / f"{number:06}{ending_of(file.name)}"),
        )
        for number, file in enumerate(files)
    ]


def hidden(file: Path) -> bool:
    """Tell whether a file is one that systems add to a zip."""
    return file.name.startswith(".") or "__MACOSX" in file.parts
