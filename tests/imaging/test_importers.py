import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.cohort_table import read_cohort_table
from pipeline.imaging.importers import (
    BadSource,
    describe,
    find_in_class_folders,
    find_in_csv,
    parse_renames,
    write_import,
)

COLUMNS = {"image": "file", "label": "diagnosis", "patient": "who", "site": None, "split": "part"}


def picture(file):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)).save(file)
    return file


@pytest.fixture
def table(tmp_path):
    for name in ("a", "b", "c"):
        picture(tmp_path / "scans" / f"{name}.png")
    (tmp_path / "scans" / "d.gif").write_bytes(b"x")
    (tmp_path / "t.csv").write_text(
        "file,diagnosis,who,part\nscans/a.png,0,p1,train\nscans/b.png,1,p2,val\nscans/c.png,1,p3,test\n"
        "scans/d.gif,1,p4,test\nscans/e.png,1,p4,test\n"
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


def test_what_was_left_out_is_told_with_the_reason(table):
    told = describe(find_in_csv(table, COLUMNS, {}))
    assert "taken: 3 images of 3 patients" in told
    assert "scans/d.gif: the ending is none of" in told and "scans/e.png: the file is not there" in told


def test_class_folders_become_a_cohort_with_the_patient_in_the_name(tmp_path):
    for name in ("ill/p1_a.png", "ill/p1_b.png", "well/deep/p2_a.png", "well/notes.txt"):
        picture(tmp_path / "src" / name) if name.endswith("png") else (tmp_path / "src" / name).write_text("x")
    found = find_in_class_folders(tmp_path / "src", r"(p\d+)_", {})
    write_import(found, tmp_path / "raw", link=True)
    cohort = read_cohort_table(tmp_path / "raw")
    assert cohort["label"].tolist() == ["ill", "ill", "well"]
    assert cohort["patient_id"].tolist() == ["p1", "p1", "p2"]
    assert (tmp_path / "raw" / cohort["image"][2]).is_symlink()
    assert [name for name, _ in found.left_out] == ["well/notes.txt"]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"label": "class"}, "no column 'class'; name it with --label"), ({"split": "who"}, "the split 'p1' is unknown")],
)
def test_a_wrong_column_is_refused_with_its_option(table, change, said):
    with pytest.raises(BadSource, match=said):
        find_in_csv(table, COLUMNS | change, {})


def test_an_image_that_stands_twice_is_refused(table):
    table.write_text("file,diagnosis,who,part\nscans/a.png,0,p1,train\nscans/a.png,1,p1,train\n")
    with pytest.raises(BadSource, match="stands twice"):
        find_in_csv(table, COLUMNS, {})


def test_a_path_out_of_the_source_is_refused_and_nothing_is_written_over(table, tmp_path):
    picture(tmp_path.parent / "outside.png")
    table.write_text("file,diagnosis,who,part\n../outside.png,0,p1,train\n")
    with pytest.raises(BadSource, match="outside its source"):
        write_import(find_in_csv(table, COLUMNS, {}), tmp_path / "raw", link=False)


def test_an_existing_cohort_is_not_written_over(table, tmp_path):
    found = find_in_csv(table, COLUMNS, {})
    write_import(found, tmp_path / "raw", link=False)
    with pytest.raises(BadSource, match="holds a cohort already"):
        write_import(find_in_csv(table, COLUMNS, {}), tmp_path / "raw", link=False)


def test_a_single_class_folder_and_a_pattern_that_does_not_match_are_refused(tmp_path):
    picture(tmp_path / "src" / "ill" / "x.png")
    with pytest.raises(BadSource, match="1 class folders"):
        find_in_class_folders(tmp_path / "src", None, {})
    picture(tmp_path / "src" / "well" / "y.png")
    with pytest.raises(BadSource, match="does not match ill/x.png"):
        find_in_class_folders(tmp_path / "src", r"(p\d+)", {})


def test_a_rename_without_an_equals_sign_is_refused():
    with pytest.raises(BadSource, match="OLD=NEW"):
        parse_renames(["healthy"])
