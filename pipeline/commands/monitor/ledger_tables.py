"""Read the ledger of `listen` or `serve` as the tables that `monitor` reads."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from pipeline.commands.files import check_readable
from pipeline.commands.ledger import read_ledger
from pipeline.errors import UserError
from pipeline.imaging.tables.pseudonyms import BadSalt, pseudonym, salt_of
from pipeline.imaging.tables.text_table import BadTable, read_text_table
from pipeline.spreadsheets import write_csv


@contextmanager
def as_tables(results: Path, labels: str | None, sha256: str) -> Iterator[tuple[Path, str | None]]:
    """Yield the table of results and that of labels; those of a ledger exist within the context.

    Parameters
    ----------
    results : Path
        A table, or the folder of a ledger.
    labels : str or None
        A table. Beside a ledger it may name accession numbers (`accession`), which are replaced by the pseudonyms of
        the ledger, or pseudonyms, instead of scans.
    sha256 : str
        Of the manifest of the bundle; answers of other bundles are left out.

    Raises
    ------
    UserError
        If the ledger has no answer of this bundle, or labels name an accession that it does not hold.
    """
    if not results.is_dir():
        yield results, labels
        return
    rows = [
        row | {"date": one["when"], "accession": one.get("accession", "")}
        for one in read_ledger(results)
        if one.get("sha256") == sha256
        for row in one.get("scans", ())
    ]
    if not rows:
        raise UserError(f"{results}: the ledger has no answer of this bundle; name the bundle that `listen` was given")
    table = pd.DataFrame(rows)
    with tempfile.TemporaryDirectory(prefix="medadapt-") as folder:
        write_csv(table, Path(folder) / "ledger.csv")
        if labels is not None:
            labels = with_scans(Path(labels), results, table, Path(folder) / "labels.csv")
        yield Path(folder) / "ledger.csv", labels


def with_scans(labels: Path, ledger: Path, table: pd.DataFrame, out: Path) -> str:
    """Write labels of accessions as labels of the scans in their studies; return the file."""
    check_readable(labels)
    try:
        known = read_text_table(labels)
        salt = salt_of(ledger, public=False) if (ledger / "salt").is_file() else b""
    except (BadTable, BadSalt) as error:
        raise UserError(str(error)) from error
    if "scan" in known or "accession" not in known:
        return str(labels)
    held = set(table["accession"])
    names = known["accession"].map(lambda name: name if name in held else pseudonym(salt, "accession", name))
    if strange := int((~names.isin(held)).sum()):
        raise UserError(f"{labels}: {strange} accession numbers are not in the ledger; remove their rows")
    write_csv(known.assign(accession=names).merge(table[["accession", "scan"]], on="accession"), out)
    return str(out)
