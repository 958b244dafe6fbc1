"""Change the table of the cohort of the current project."""

import pandas as pd

RAW = "data/raw/clinic"


def cohort(root, change):
    """Rewrite the project's cohort.csv."""
    table = pd.read_csv(root / RAW / "cohort.csv", keep_default_na=False, dtype=str)
    change(table).to_csv(root / RAW / "cohort.csv", index=False)


def with_copy(root, of, name, **changes):
    """Add a row for `name`, a copy of the case `of`."""

    def change(table):
        row = {**table[table["case_id"] == of].iloc[0].to_dict(), "case_id": name, "image": name, **changes}
        return pd.concat([table, pd.DataFrame([row])])

    cohort(root, change)
