"""Tables as spreadsheets, programs and people write them."""

import csv
import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.imaging.tables.text_table import INVISIBLE, NOT_GIVEN, BadTable, read_text_table
from tests.fuzzing import EXAMPLES

HEAD = "case_id,image,label,patient_id"
ROWS = [["c0", "im0.png", "benign", "p0"], ["c1", "im1.png", "malignant", "p1"]]
LINES = [",".join(row) for row in ROWS]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "t.csv"


def read(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_text_table(file)


def lines(*rows, head=HEAD, end="\n"):
    return end.join([head, *rows]) + end


SAME = {
    "plain": lines(*LINES),
    "marked": lines(*LINES).encode("utf-8-sig"),
    "utf16": lines(*LINES).encode("utf-16"),
    "utf16 of another order": b"\xfe\xff" + lines(*LINES).encode("utf-16-be"),
    "windows": lines(*LINES, end="\r\n"),
    "old Macintosh": lines(*LINES, end="\r"),
    "no end of the last line": lines(*LINES).rstrip("\n"),
    "semicolons": lines(*LINES).replace(",", ";"),
    "tabs": lines(*LINES).replace(",", "\t"),
    "note of Excel": "sep=;\n" + lines(*LINES).replace(",", ";"),
    "note of Excel in Windows": "SEP=;\r\n" + lines(*LINES, end="\r\n").replace(",", ";"),
    "note of Excel on an old Macintosh": "sep=;\r" + lines(*LINES, end="\r").replace(",", ";"),
    "note of Excel on tabs": "sep=\t\n" + lines(*LINES).replace(",", "\t"),
    "note of Excel on an unusual separator": "sep=|\n" + lines(*LINES).replace(",", "|"),
    "a comma after each row": lines(*(f"{line}," for line in LINES)),
    "a comma after the first row": lines(LINES[0] + ",", LINES[1]),
    "commas after header and rows": lines(*(f"{line},,," for line in LINES), head=HEAD + ",,,"),
    "commas after the header": lines(*LINES, head=HEAD + ",,"),
    "empty rows": lines("", LINES[0], ",,,", "   ", LINES[1], "", ""),
    "blanks": lines(*(" , ".join(f"{one}\u00a0" for one in row) for row in ROWS), head=HEAD.replace(",", " ,\t")),
    "quotes": lines(*(",".join(f'"{one}"' for one in row) for row in ROWS)),
}


@pytest.mark.parametrize("content", SAME.values(), ids=SAME)
def test_tables_that_say_the_same_are_read_the_same(file, content):
    table = read(file, content)
    assert list(table) == HEAD.split(",") and table.to_numpy().tolist() == ROWS
    assert table.index.tolist() == [0, 1]


WRONG = {
    "latin-1": (lines("c0,im0.png,gutartig-\xf6,p0").encode("latin-1"), "line 2: it is not in UTF-8 .*Latin-1"),
    "nothing": (b"", "is empty"),
    "a note of Excel alone": (b"sep=;", "is empty"),
    "a spreadsheet": (b"PK\x03\x04rest", "a spreadsheet or an archive"),
    "compressed": (b"\x1f\x8brest", "compressed"),
    "utf16 without a mark": (lines(*LINES).encode("utf-16-le"), "no text in UTF-8"),
    "half a character": (lines(*LINES).encode("utf-16")[:-1], "not in UTF-8 .UTF-16 that ends early"),
    "a note with a comma": (lines(*LINES, "c2,im2.png,benign,p2,a note, with a comma"), "line 4 has 6 fields"),
    "a field too few": (lines(LINES[0], "c1,im1.png,benign"), "line 3 has 3 fields"),
    "a quote in the middle": (lines('c0,im0.png,"benign" one,p0'), "line 2: .*quotes"),
    "a quote that never ends": (lines('c0,im0.png,"benign,p0', *LINES), "quotes"),
    "two columns of one name": (lines(*LINES, head="case_id,image,label,label"), "two columns called 'label'"),
    "two names after trimming": (lines(*LINES, head="case_id,image,label,label "), "two columns called 'label'"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "told"), WRONG.values(), ids=WRONG)
def test_a_table_that_cannot_be_meant_is_refused_by_line(file, content, told):
    with pytest.raises(BadTable, match=rf"t\.csv.*{told}"):
        read(file, content)


def test_a_missing_file_and_a_folder_are_named(file, tmp_path):
    with pytest.raises(BadTable, match=r"t\.csv does not exist"):
        read_text_table(file)
    with pytest.raises(BadTable, match="cannot be read"):
        read_text_table(tmp_path)


def test_identifiers_stay_text_and_marks_of_nothing_are_nothing(file):
    table = read(file, "id,site\n0012,NaN\n1e5,<NA>\n1.0,#N/A\nNA,null\n")
    assert table["id"].tolist() == ["0012", "1e5", "1.0", "NA"]
    assert table["site"].tolist() == ["", "", "", "null"]


def test_a_column_without_a_name_stays_if_it_holds_something(file):
    assert list(read(file, ",image\n0,a.png\n1,b.png\n")) == ["", "image"]


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_what_a_csv_writer_writes_is_read_cell_by_cell(tmp_path_factory, data):
    names = data.draw(st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=2, max_size=4, unique=True))
    names = [name for name in names if name not in NOT_GIVEN]
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=4))
    separator = data.draw(st.sampled_from(",;\t"))
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([names, *rows])
    file = tmp_path_factory.getbasetemp() / "drawn.csv"
    file.write_bytes(stream.getvalue().encode(data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))))
    cells = [[("" if (cut := one.strip(INVISIBLE)).lower() in NOT_GIVEN else cut) for one in row] for row in rows]
    table = read_text_table(file)
    assert list(table) == names and table.to_numpy().tolist() == [row for row in cells if any(row)]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=80) | st.text('ab,;\t\n\r" é', max_size=60).map(str.encode))
def test_any_file_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.getbasetemp() / "any.csv"
    file.write_bytes(content)
    try:
        table = read_text_table(file)
    except BadTable as refused:
        assert "any.csv" in str(refused)
        return
    assert isinstance(table, pd.DataFrame) and all(isinstance(one, str) for one in table.to_numpy().ravel())
    assert not any((row == "").all() for _, row in table.iterrows())
