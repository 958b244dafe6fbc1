"""Check the columns in `cohort.inputs`, which the model takes besides the image, and tell their types."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from pipeline.errors import UserError, refuse
from pipeline.imaging.masks.features import is_feature
from pipeline.imaging.tables.cohort_table import EXAMPLES, MASK, OPTIONAL, REQUIRED, TABLE, TIMES
from pipeline.imaging.tables.text_table import BadTable, read_text_table
from pipeline.metrics.columns import InputColumn, kind_of, plain
from pipeline.schema import Cohort

PURPOSES = {
    "label": "what the model predicts",
    "patient_id": "who the patient is",
    "site": "where the image is from",
    "case_id": "which case it is",
    "image": "where the image lies",
    MASK: "where the mask of the image lies",
    "split": "on which side of the train/test boundary a case is",
}
ALIKE = ("label", "patient_id", "site", "case_id")  # a column with the contents of one of these is that column


def input_columns(source: Path, cohort: Cohort) -> list[InputColumn]:
    """Read the columns in `cohort.inputs` of `source/cohort.csv` and tell their types.

    Raises
    ------
    UserError
        If a column does not exist, is that of the label, the patient or the site, or holds a value that does not fit
        its type. No value is told.
    """
    file = source / TABLE
    if not cohort.inputs or not file.exists():
        return []
    try:
        table = read_text_table(file)
    except BadTable as error:
        raise UserError(str(error)) from error
    found = [_told(name, said, table) for name, said in cohort.input_types.items() if not is_measured_in(table, name)]
    refuse([fault for one in found for fault in _faults(one, table, file)])
    return found


def is_measured_in(table: pd.DataFrame, name: str) -> bool:
    """Tell whether a column is measured in the masks that a table names."""
    return MASK in table and name not in table and is_feature(name)


def _told(name: str, said: str | Sequence[str], table: pd.DataFrame) -> InputColumn:
    if not isinstance(said, str):
        return InputColumn(name, "ordered", tuple(map(plain, said)))
    texts = table[name].tolist() if name in table else []
    kind = "numeric" if said == "numeric" else "categorical" if said == "categorical" else kind_of(texts)
    return InputColumn(name, kind, () if kind == "numeric" else tuple(sorted({plain(text) for text in texts if text})))


def _faults(column: InputColumn, table: pd.DataFrame, file: Path) -> Iterator[str]:
    """Yield why a column cannot be an input."""
    name = column.name
    if name in PURPOSES:
        yield f"{file}: cohort.inputs names '{name}', which says {PURPOSES[name]}; take it out of cohort.inputs"
        return
    if name not in table:
        others = ", ".join(one for one in table if one not in (*REQUIRED, *OPTIONAL)) or "none"
        yield f"{file}: cohort.inputs names '{name}', but there is no such column; further columns are: {others}"
        return
    labelled = "label" in table and (table["label"] != "").any()
    for other in ALIKE if labelled else (*TIMES, *ALIKE):
        if other in table and (table[other] != "").any() and table[name].equals(table[other].rename(name)):
            what = PURPOSES.get(other, PURPOSES["label"])
            yield (
                f"{file}: column '{name}' has the contents of column '{other}', which says {what}; take it out of "
                "cohort.inputs"
            )
            return
    if column.kind == "categorical" and len(column.categories) == 1:
        yield f"{file}: column '{name}' has one value, {column.categories[0]}; take it out of cohort.inputs"
    flaws = [(row, flaw) for row, text in enumerate(table[name], 1) if (flaw := column.flaw_of(text, "its value"))]
    yield from (f"{file}, row {row}, column '{name}': {flaw}" for row, flaw in flaws[:EXAMPLES])
    if len(flaws) > EXAMPLES:
        yield f"{file}: column '{name}' has {len(flaws) - EXAMPLES} more such rows"
