"""Texts that a spreadsheet would run leave as texts, and are read back as they were."""

import csv

import pandas as pd
import pytest

from pipeline import paths
from pipeline.spreadsheets import neutralised, restored

HOSTILE = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''@x",
    "a=b",
    "'quoted'",
    "-0.5",
    "",
]


def test_a_table_that_leaves_has_no_formula_and_is_read_back_unchanged(tmp_path):
    table = pd.DataFrame({"=name": HOSTILE, "label": HOSTILE[::-1], "value": range(len(HOSTILE))})
    paths.write_table(table, tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r")) and cell != "-0.5"]
    read = paths.read_table(tmp_path / "table.csv")
    assert read.columns.tolist() == table.columns.tolist()
    assert read["=name"].tolist() == HOSTILE and read["value"].tolist() == table["value"].tolist()


@pytest.mark.parametrize("text", HOSTILE)
def test_neutralised_twice_is_restored_twice(text):
    table = pd.DataFrame({"a": [text]})
    assert restored(restored(neutralised(neutralised(table)))).equals(table)


def test_numbers_stay_numbers():
    table = pd.DataFrame({"a": [-0.5, 2.0], "b": ["-0.5", "+1e3"]})
    assert neutralised(table).equals(table)
