import pytest

from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.stages.cohort.importers.found import BadSource, describe, write_import
from pipeline.stages.cohort.importers.table import find_in_csv
from tests.stages.cohort.importers.conftest import dicom_image, dicom_series, save, volume, write_image

COLUMNS = {"image": "file", "label": "diagnosis", "patient": "who", "site": None, "split": "part"}
HEAD = "file,diagnosis,who,part\n"


@pytest.fixture
def table(tmp_path):
    for name in ("a", "b", "c"):
        write_image(tmp_path / "scans" / f"{name}.png")
    (tmp_path / "scans" / "d.gif").write_bytes(b"x")
    (tmp_path / "t.csv").write_text(
        f"{HEAD}scans/a.png,0,p1,train\nscans/b.png,1,p2,val\nscans/c.png,1,p3,test\n"
        "scans/d.gif,1,p4,test\nscans/e.png,1,p4,test\n,1,p5,test\n"
    )
    return tmp_path / "t.csv"


def test_a_table_becomes_a_cohort_that_the_pipeline_reads(table, tmp_path):
    found = find_in_csv(table, COLUMNS, {"0": "healthy", "1": "ill"})
    write_import(found, tmp_path / "raw", link=False)
    cohort = read_cohort_table(tmp_path / "raw")
    assert cohort["label"].tolist() == ["healthy", "ill", "ill"]
    assert cohort["split"].tolist() == ["development", "development", "test"]
    assert cohort["patient_id"].tolist() == ["p1", "p2", "p3"]
    assert all((tmp_path / "raw" / image).is_file() for image in cohort["image"])


def test_files_left_out_are_reported_with_the_reason(table):
    told = describe(find_in_csv(table, COLUMNS, {}))
    assert "taken: 3 images of 3 patients" in told and "left out: 3" in told
    assert "scans/d.gif: the ending is none of" in told and "scans/e.png: the file is not there" in told
    assert "a row of t.csv: it names no image" in told


def test_image_of_any_kind_is_read_and_dicom_names_are_reported(tmp_path):
    volume(tmp_path / "v.nii.gz")
    dicom_series(tmp_path / "series")
    save(dicom_image(), tmp_path / "IM0001")
    (tmp_path / "t.csv").write_text(f"{HEAD}v.nii.gz,0,p1,\nseries,1,p2,\nIM0001,1,p3,\n")
    found = find_in_csv(tmp_path / "t.csv", COLUMNS, {})
    assert [len(case.parts) for case in found.cases] == [1, 4, 1] and found.left_out == []
    assert any("all names in their headers" in note for note in found.notes)
    (tmp_path / "t.csv").write_text(f"{HEAD}v.nii.gz,0,p1,\n")
    assert find_in_csv(tmp_path / "t.csv", COLUMNS, {}).notes == []


@pytest.mark.parametrize(
    ("change", "said"),
    [({"label": "class"}, "no column 'class'; name it with --label"), ({"split": "who"}, "the split 'p1' is unknown")],
)
def test_a_wrong_column_is_refused_with_its_option(table, change, said):
    with pytest.raises(BadSource, match=said):
        find_in_csv(table, COLUMNS | change, {})


def test_two_rows_with_one_image_are_refused(table):
    table.write_text(f"{HEAD}scans/a.png,0,p1,train\nscans/a.png,1,p1,train\n")
    with pytest.raises(BadSource, match="two rows name the image"):
        find_in_csv(table, COLUMNS, {})


def test_excel_table_is_read_and_another_file_is_refused_by_name(table, tmp_path):
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(find_in_csv(table, COLUMNS, {}).cases) == 3
    table.write_bytes(b"")
    with pytest.raises(BadSource, match=r"t\.csv is empty"):
        find_in_csv(table, COLUMNS, {})
    table.write_bytes("file,diagnosis,who,part\nBärbel".encode("latin-1"))
    with pytest.raises(BadSource, match=r"t\.csv, line 2: it is not in UTF-8 .*Latin-1"):
        find_in_csv(table, COLUMNS, {})
    with pytest.raises(BadSource, match=r"u\.csv does not exist"):
        find_in_csv(tmp_path / "u.csv", COLUMNS, {})
