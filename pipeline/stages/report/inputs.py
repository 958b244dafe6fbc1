"""The columns that the model takes besides the image: what their values are, where they are missing, what they tell."""

from collections.abc import Sequence
from typing import Any

from pipeline import paths
from pipeline.metrics.wording import alone_in, tells_the_label
from pipeline.stages.report.blocks import Row
from pipeline.stages.report.collected import rows_of


def inputs_of_model() -> dict[str, Any] | None:
    """Describe the columns that the model takes; None if it takes the image alone."""
    file = paths.assessed("inputs")
    return inputs_in_words(rows_of(file)) if file.exists() else None


def inputs_in_words(rows: Sequence[Row]) -> dict[str, Any]:
    """Group the rows of the table `inputs` by column, and say what is wrong with a column.

    Parameters
    ----------
    rows : sequence of mapping
        As `calibrate.inputs.inputs_table` writes them.

    Returns
    -------
    dict
        `columns`: of each its `name`, `kind`, metric `alone` (name, value) and `groups` (what, n, missing, values);
        `findings`: sentences.
    """
    names = list(dict.fromkeys(row["column"] for row in rows))
    of_column = {name: [row for row in rows if row["column"] == name] for name in names}
    columns = [
        {"name": name, "kind": some[0]["kind"], "alone": alone_in(some[0]), "groups": [_group(row) for row in some]}
        for name, some in of_column.items()
    ]
    unlike = [
        f"{row['refused']:.0f} of {row['n']} cases of the test set have a value of '{row['column']}' unlike "
        "any development case: predict refuses such a value, and these cases were evaluated without it."
        for row in rows
        if row["by"] == "test" and row["refused"]
    ]
    return {"columns": columns, "findings": [*filter(None, [tells_the_label(rows)]), *unlike]}


def _group(row: Row) -> dict[str, Any]:
    words = {"all": "held-out cases", "test": "test set", "class": f"class {row['value']}"}
    return {
        "what": words.get(row["by"], f"site {row['value']}"),
        "n": row["n"],
        "missing": f"{row['missing']} ({row['missing'] / row['n']:.0%})" if row["n"] else "no case",
        "values": row["values"] or "none",
    }
