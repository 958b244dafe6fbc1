"""Read the columns that a model takes besides the scan: of the list of scans, or of the table of --inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.bundle.opening import Opened
from pipeline.commands.labels import scans_named
from pipeline.errors import UserError, refuse
from pipeline.imaging.masks.features import is_feature
from pipeline.imaging.tables.scan_list import IMAGE, Listed
from pipeline.imaging.tables.text_table import BadTable, read_text_table
from pipeline.metrics.fusion import Fusion

MOST = 10  # faults that are listed


def with_inputs(scans: Sequence[Listed], bundle: Opened, table: str | None) -> list[Listed]:
    """Add the values of --inputs to the scans, and check all columns before any scan is read.

    Raises
    ------
    UserError
        If the model takes no columns, a table, scan or column is missing, or a value cannot be used; it names the row.
    """
    if bundle.fusion is None or not asked_for(bundle.fusion):
        if table:
            raise UserError("--inputs: the model takes no columns, only the scan; leave --inputs out")
        return list(scans)
    given = rows_of(Path(table), [scan.name for scan in scans]) if table else {}
    if table and (without := [scan.name for number, scan in enumerate(scans) if number not in given]):
        raise UserError(f"--inputs: {table} has no row of {', '.join(without[:3])}; add a row for each scan")
    scans = [
        replace(scan, columns=given[number][0], where=given[number][1]) if number in given else scan
        for number, scan in enumerate(scans)
    ]
    faults = [fault for scan in scans for fault in _faults(scan, bundle.fusion)]
    more = [f"and {len(faults) - MOST} more"] if len(faults) > MOST else []
    refuse(list(dict.fromkeys([*faults[:MOST], *more])))
    return list(scans)


def rows_of(file: Path, scans: Sequence[str]) -> dict[int, tuple[dict[str, str], str]]:
    """Read the table of --inputs: by number of a scan, its columns and where they stand."""
    try:
        table = read_text_table(file)
    except BadTable as error:
        raise UserError(f"--inputs: {error}") from error
    names = next((name for name in ("scan", *IMAGE) if name in table), None)
    if names is None:
        raise UserError(f"--inputs: {file} lacks a column scan with the name or path of each scan; add it")
    if table[names].duplicated().any():
        twice = table[names][table[names].duplicated()].iloc[0]
        raise UserError(f"--inputs: {file} has two rows of '{twice}'; keep one")
    try:
        meant = scans_named(table[names].tolist(), list(scans))
    except ValueError as error:
        raise UserError(f"--inputs: {file}: {error}") from error
    rows = zip(meant, table.to_dict("records"), strict=True)
    return {
        scans.index(name): ({str(one): text for one, text in row.items()}, f"{file}, row {number}")
        for number, (name, row) in enumerate(rows, 1)
    }


def inputs_of(scan: Listed, fusion: Fusion | None) -> Mapping[str, str] | None:
    """Take from a scan the columns of a model; None for a model without columns."""
    return {name: scan.columns[name] for name in asked_for(fusion)} if fusion else None


def asked_for(fusion: Fusion) -> list[str]:
    """Name the columns of a model that a table must give; the others are measured in the mask."""
    return [name for name in fusion.names if not is_feature(name)]


def _faults(scan: Listed, fusion: Fusion) -> list[str]:
    """Say why the columns of a scan cannot be used, and what to do."""
    needed = asked_for(fusion)
    names = ", ".join(needed)
    if not needed:
        return []
    if not scan.where:
        return [
            f"the model takes the columns {names} besides the scan; give a list of scans (.csv) with these columns, or "
            "--inputs TABLE.csv with the columns scan and these"
        ]
    if absent := [name for name in needed if name not in scan.columns]:
        table = scan.where.rpartition(", row ")[0]
        return [f"{table} lacks the column {', '.join(absent)}, which the model takes; add it, empty where missing"]
    return [f"{scan.where}, {flaw}" for flaw in fusion.flaws_of(scan.columns, needed)]
