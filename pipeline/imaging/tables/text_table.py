"""Read a table of text: the one reader of all tables that people and other programs write."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pandas as pd

from pipeline.imaging.reading.access import access_error

SEPARATORS = (",", ";", "\t")
INVISIBLE = " \t\r\n\v\f\u00a0\u2007\u202f\u200b\u2060\ufeff"
NOT_GIVEN = ("nan", "<na>", "nat", "#n/a")  # in any case: what programs write for an empty cell
BINARY = {
    b"PK\x03\x04": "a spreadsheet or an archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet",
    b"\x1f\x8b": "compressed",
}
WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SAVE = "save it as CSV in UTF-8"


class BadTable(ValueError):
    """Signal that a table cannot be used; the message names the file, the line or the column, and the cure."""


def read_text_table(file: Path, separator: str = ",") -> pd.DataFrame:
    """Read every cell as text without surrounding blanks; an empty text means "not given".

    UTF-8 (with or without a mark) and UTF-16 with a mark are read. If the header lacks a comma, but has another of
    `SEPARATORS`, that one is taken; a table of tabs needs tabs. Empty rows, and empty fields after the last column, are
    left out.

    Parameters
    ----------
    file : Path
    separator : str
        The usual one of this kind of table.

    Raises
    ------
    BadTable
        If the file cannot be read or is no text, a row has more or fewer fields than the header, or two columns share
        a name.
    """
    return _table(_text_of(file), file, separator).copy()


@lru_cache(maxsize=1)  # a stage asks several times
def _table(text: str, file: Path, separator: str) -> pd.DataFrame:
    rows = list(_rows(text, file, separator))
    if not rows:
        raise BadTable(f"{file} is empty; it needs a first line with the names of the columns")
    (_, header), *body = rows
    while header and not header[-1]:
        header.pop()
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise BadTable(f"{file} has two columns called '{twice[0]}'; rename or remove one")
    cells = [_fitted(row, header, file, line) for line, row in body]
    table = pd.DataFrame([row for row in cells if any(row)], columns=pd.Index(header, dtype=object), dtype=object)
    named = [number for number, name in enumerate(header) if name or table.iloc[:, number].ne("").any()]
    return table.iloc[:, named].astype(str)


def _text_of(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BadTable(access_error(file, error)) from error
    for begin, what in BINARY.items():
        if content.startswith(begin):
            raise BadTable(f"{file} is no text but {what}; {SAVE}")
    encoding = WIDE.get(content[:2], "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        why = "as of Latin-1 or Windows" if encoding == "utf-8-sig" else "UTF-16 that ends early"
        raise BadTable(f"{file}, line {line}: it is not in UTF-8 ({why}); {SAVE}") from error
    if "\0" in text:
        raise BadTable(f"{file} is no text in UTF-8; {SAVE}")
    return text


def _rows(text: str, file: Path, usual: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line at which each row ends, and its fields."""
    stream = io.StringIO(text, newline="")
    first, begin, skipped = stream.readline(), 0, 0
    if first.lower().startswith("sep=") and len(first.rstrip("\r\n")) == 5:  # a note of Excel
        usual, begin, first, skipped = first[4], stream.tell(), stream.readline(), 1
    stream.seek(begin)
    reader = csv.reader(stream, delimiter=_separator(first, usual), strict=True)
    try:
        for row in reader:
            if row:
                yield reader.line_num + skipped, [_cell(field) for field in row]
    except csv.Error as error:
        raise BadTable(f"{file}, line {reader.line_num + skipped}: {error}; correct the quotes, or {SAVE}") from error


def _separator(header: str, usual: str) -> str:
    counts = {one: header.count(one) for one in (usual, *SEPARATORS)}
    return usual if counts[usual] or usual == "\t" else max(counts, key=lambda one: counts[one])


def _cell(field: str) -> str:
    text = field.strip(INVISIBLE)
    return "" if text.lower() in NOT_GIVEN else text


def _fitted(row: list[str], header: list[str], file: Path, line: int) -> list[str]:
    """Leave out empty fields after the last column; refuse any other number of fields."""
    while len(row) > len(header) and not row[-1]:
        row = row[:-1]
    if len(row) != len(header) and any(row):
        raise BadTable(
            f"{file}, line {line} has {len(row)} fields, but the header names {len(header)} columns; put a text that "
            "contains the separator in quotes"
        )
    return row if len(row) == len(header) else [""] * len(header)
