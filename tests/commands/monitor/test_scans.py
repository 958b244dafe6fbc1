"""Tables of a model in use, as people and programs write them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.commands.monitor.scans import read_monitored
from pipeline.commands.predict.run import refuse_twice
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed
from tests.fuzzing import EXAMPLES

CLASSES = ["A", "B"]


def results(n=6, **columns):
    table = pd.DataFrame({"scan": [f"s{k}" for k in range(n)], "A": np.linspace(0.1, 0.9, n)})
    return table.assign(B=1 - table["A"]).assign(**columns)


def read(folder, table, labels=None, several=False):
    (folder / "r.csv").write_text(table if isinstance(table, str) else table.to_csv(index=False))
    if labels is not None:
        (folder / "l.csv").write_text(labels)
    return read_monitored(folder / "r.csv", labels and str(folder / "l.csv"), CLASSES, several)


def test_scans_are_ordered_by_the_moment_across_summer_time(tmp_path):
    dates = [
        "2026-03-29T10:00:00+02:00",
        "2026-03-29T08:30:00Z",
        "2026-03-28T23:30:00+01:00",
        "2026-03-29T09:30:00+01:00",
    ]
    dates += ["2026-03-29 07:59:59+00:00", "2026-03-28T23:00:00.500+01"]
    found = read(tmp_path, results(date=dates)).scans
    assert found["scan"].tolist() == ["s5", "s2", "s4", "s0", "s1", "s3"]
    assert [str(day) for day in found["date"].dt.date[:2]] == ["2026-03-28", "2026-03-28"]  # as people there know it


def test_dates_without_times_and_zones_keep_their_order(tmp_path):
    found = read(
        tmp_path, results(date=["2026-03-31", "2026-01-02", "2026-10-25", "2025-12-31", "2026-01-01", "2026-03-30"])
    )
    assert found.scans["scan"].tolist() == ["s3", "s4", "s1", "s5", "s0", "s2"]


def test_a_patient_that_some_rows_leave_empty_is_no_common_patient(tmp_path):
    found = read(tmp_path, results(patient=["p1", "p1", "", "", "", "p2"]))
    assert len(found.patients) == 5


ZONES = ["2026-03-29T10:00:00+02:00"] * 5 + ["2026-03-29T10:00:00"]
WRONG = {
    "a zone in some rows": (results(date=ZONES), None, "only some rows of the column 'date' have a time zone"),
    "a scan twice": (pd.concat([results(), results(1)]), None, "'s0' is listed twice"),
    "sums": (results(B=0.9), None, "'s1' has probabilities that do not sum to 1"),
    "half a scan": (results(B=["", *[0.5] * 5]), None, "'s0' lacks some"),
    "words for scores": (results(ood_score=["high", *range(5)]), None, "'s0' has no number in the column 'ood_score'"),
    "no scores": (results(ood_score=["", *range(5)]), None, "'s0' has no number"),
    "no names": (results(scan=["", *"abcde"]), None, "row 1 names no scan"),
    "no rows": ("scan,A,B\n", None, "no rows"),
    "labels of nobody": (results(), "scan,label\ns0,\ns1,\n", "no row has a label"),
    "labels of other scans": (results(), "scan,label\nx,A\n", "'x' is not among the predicted scans"),
    "contradicting labels": (results(), "scan,label\ns0,A\ns0,B\n", "'s0' is listed twice"),
    "a label of no class": (results(), "scan,label\ns0,C\n", "'C' is no class"),
    "a field too many": (results(), "scan,label\ns0,A,x\n", "line 2 has 3 fields"),
    "decimal commas": (results().to_csv(index=False, sep=";", decimal=","), None, "not probabilities"),
}


@pytest.mark.parametrize(("table", "labels", "told"), WRONG.values(), ids=WRONG)
def test_a_table_that_cannot_be_meant_is_refused_by_its_file(tmp_path, table, labels, told):
    with pytest.raises(UserError, match=told) as refused:
        read(tmp_path, table, labels)
    assert "r.csv" in str(refused.value) or "l.csv" in str(refused.value)


CELL = st.sampled_from(
    ["", "0.5", "1", "-1", "nan", "x", "A", "s1", "2026-01-01", "2026-01-01T10:00:00Z", "1e400", " 0.5 "]
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_no_table_ends_in_a_traceback_or_loses_a_scan(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp()
    more = data.draw(st.lists(st.sampled_from(["date", "patient", "ood_score", "abstains", "label"]), unique=True))
    names = data.draw(st.permutations(["scan", "A", "B", *more]))
    body = data.draw(st.lists(st.lists(CELL, min_size=len(names), max_size=len(names)), max_size=4))
    rows = [dict(zip(names, row, strict=True)) for row in body]
    if data.draw(st.booleans()):  # mostly sound, so that more than the first check is reached
        rows = [row | {"scan": f"s{n}", "A": "0.25", "B": "0.75"} for n, row in enumerate(rows)]
    text = "\n".join([",".join(names), *(",".join(row.values()) for row in rows)])
    labels = "\n".join(["scan,label", *(f"{data.draw(CELL)},{data.draw(CELL)}" for _ in range(2))])
    try:
        found = read(folder, text, data.draw(st.sampled_from([None, labels])), data.draw(st.booleans()))
    except UserError:
        return
    assert len(found.scans) == sum(any(cell.strip() not in ("", "nan") for cell in row.values()) for row in rows)
    assert len(found.patients) <= len(found.scans)


@pytest.mark.parametrize("other", ["a.png", "./a.png", "deep/../a.png"])
def test_labels_of_one_file_by_two_paths_are_refused(tmp_path, other):
    (tmp_path / "deep").mkdir()
    scans = [Listed(name, tmp_path / name, {}) for name in ("a.png", "b.png", other)]
    with pytest.raises(UserError, match="t.csv names one scan twice, as a.png"):
        refuse_twice(scans, "t.csv")
    refuse_twice(scans[:2], "t.csv")
