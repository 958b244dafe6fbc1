"""Which further columns of a source stay in cohort.csv, and what import says of the others."""

import pytest

from pipeline.stages.cohort.importers.bids import Wanted, find_in_bids
from pipeline.stages.cohort.importers.found import BadSource, describe
from pipeline.stages.cohort.importers.table import find_in_csv
from tests.stages.cohort.importers.conftest import volume, write_image

COLUMNS = {"image": "file", "label": "diagnosis", "patient": None, "site": None, "split": None}


@pytest.fixture
def table(tmp_path):
    """Thirty patients with ages from 40 to 69, each once, a scanner and a number."""
    rows = ["file,diagnosis,age,Scanner (MR),hospital_number,label"]
    for number in range(30):
        write_image(tmp_path / f"{number}.png")
        rows.append(
            f"{number}.png,{'ill' if number % 2 else 'well'},{40 + number},{'AB'[number % 2]},{4711000 + number},x"
        )
    (tmp_path / "t.csv").write_text("\n".join(rows))
    return tmp_path / "t.csv"


def test_columns_that_identify_nobody_stay_and_the_others_are_named(table):
    found = find_in_csv(table, COLUMNS, {})
    assert (found.cases[0].row["age"], found.cases[0].row["Scanner_MR"]) == ("40", "A")
    assert "hospital_number" not in found.cases[0].row
    told = describe(found)
    assert "note: columns kept: age, Scanner_MR" in told
    assert "column 'hospital_number' left out: it looks like an identifier instead of a measurement" in told
    assert "column 'label' left out: it has a name with another meaning in cohort.csv; rename it" in told


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("hospital_number", "--keep: the column 'hospital_number' looks like an identifier .*; leave it out of --keep"),
        ("sex", r"--keep: there is no further column 'sex' \(there are age, Scanner \(MR\), hospital_number, label\)"),
    ],
)
def test_a_named_column_that_cannot_be_kept_is_refused_with_the_reason(table, column, said):
    with pytest.raises(BadSource, match=said):
        find_in_csv(table, COLUMNS, {}, keep=["age", column])


def test_columns_of_participants_stay(tmp_path):
    rows = ["participant_id\tgroup\tsex"]
    for number in range(1, 7):
        volume(tmp_path / f"sub-{number}" / "anat" / f"sub-{number}_T1w.nii.gz")
        rows.append(f"sub-{number}\t{'ill' if number % 2 else 'well'}\t{'FM'[number // 4]}")
    (tmp_path / "participants.tsv").write_text("\n".join(rows))
    wanted = Wanted(label="group", site=None, split=None, suffix=None, rename={}, keep=["sex"])
    assert [case.row["sex"] for case in find_in_bids(tmp_path, wanted).cases] == list("FFFMMM")
