import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK

from pipeline.imaging.reading.volumes import read_scan
from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.stages.cohort.importers.found import (
    BadCase,
    BadSource,
    Case,
    Import,
    describe,
    left_out_lines,
    parts_of,
    row_of,
    write_import,
)
from pipeline.stages.cohort.statements import template
from tests.stages.cohort.importers.conftest import dicom_series, write_image


def found_of(tmp_path, *names):
    found = Import()
    for name in names:
        found.take(write_image(tmp_path / "source" / name), row_of(name, name, "ill"))
    return found


def test_shared_reason_is_one_line_with_a_count_and_examples():
    few = left_out_lines([(f"{n}.txt", "not an image") for n in range(10)])
    many = left_out_lines([(f"{n}.txt", "not an image") for n in range(11)] + [("a.png", "the file is not there")])
    assert len(few) == 10 and few[3] == "  3.txt: not an image"
    assert many == ["  not an image: 11, e.g. 0.txt, 1.txt, 2.txt", "  a.png: the file is not there"]


def test_many_labels_are_one_line_of_the_summary():
    numbers = [Case(row_of(f"{n}", f"{n}", f"{n / 4}" if n else ""), {}) for n in range(40)]
    assert describe(Import(numbers)).splitlines()[1:3] == [
        "  no split, no label: 1",
        "  no split, 39 different numbers from 0.25 to 9.75: 39",
    ]
    words = [Case(row_of(f"{n}", f"{n}", f"kind-{min(n, 34):02d}"), {}) for n in range(40)]
    assert "  no split, 35 different labels, e.g. kind-34, kind-00, " in describe(Import(words))


def test_summary_lists_splits_classes_sites_notes_and_patients():
    cases = [Case(row_of(f"{n}", f"{n}", "ill" if n else "", "p", "site-1", "test" if n else ""), {}) for n in range(3)]
    told = describe(Import(cases, [], ["mind this"], {"site-1": "St Mary"}))
    assert "taken: 3 images of 1 patients" in told
    assert "test, ill: 2" in told and "no split, no label: 1" in told
    assert "site-1: St Mary (3 images)" in told and "note: mind this" in told and "left out: 0" in told


def test_copies_equal_the_images_and_links_lead_to_them(tmp_path):
    for link in (False, True):
        into = tmp_path / f"raw{link}"
        assert write_import(found_of(tmp_path, "deep/a.png"), into, link) == []
        file = into / read_cohort_table(into)["image"][0]
        assert file.is_symlink() == link
        assert file.read_bytes() == (tmp_path / "source" / "deep" / "a.png").read_bytes()


def test_a_card_to_fill_in_is_written_and_one_that_is_there_stays(tmp_path):
    for text in ("", "ethics: Number 5.\n"):
        into = tmp_path / f"raw{len(text)}"
        into.mkdir()
        if text:
            (into / "card.yaml").write_text(text)
        write_import(found_of(tmp_path, "a.png"), into, link=True)
        assert (into / "card.yaml").read_text() == (text or template())


@pytest.mark.parametrize("left", ["cohort.csv", "cohort.yaml", "images"])
def test_nothing_is_written_over_and_no_link_is_written_through(tmp_path, left):
    found = found_of(tmp_path, "a.png")
    write_import(found, tmp_path / "raw", link=True)
    for name in {"cohort.csv", "cohort.yaml", "images"} - {left}:
        (tmp_path / "raw" / name).rename(tmp_path / name)
    with pytest.raises(BadSource, match=f"{left} is there already; name another folder, or remove it"):
        write_import(found, tmp_path / "raw", link=False)


@pytest.mark.parametrize("image", ["../outside.png", "/outside.png", "deep/../../outside.png"])
def test_an_image_outside_its_source_is_refused_before_anything_is_written(tmp_path, image):
    found = found_of(tmp_path, "a.png")
    found.take(write_image(tmp_path / "outside.png"), row_of("b", image))
    with pytest.raises(BadSource, match="outside its source's folder; move"):
        write_import(found, tmp_path / "raw", link=False)
    assert not (tmp_path / "raw").exists()


def test_two_names_of_one_image_are_refused(tmp_path):
    found = found_of(tmp_path, "a.png", "deep/../a.png")
    with pytest.raises(BadSource, match="is named twice"):
        write_import(found, tmp_path / "raw", link=False)


def test_an_import_without_images_is_refused(tmp_path):
    with pytest.raises(BadSource, match="no image was taken; see what was left out"):
        write_import(Import(), tmp_path / "raw", link=False)


def test_a_case_that_breaks_while_it_is_written_leaves_no_row_and_no_file(tmp_path):
    def breaks(target):
        target.write_bytes(b"half")
        raise BadCase("it ended early")

    found = found_of(tmp_path, "a.png")
    found.cases.append(Case(row_of("b", "b"), {tmp_path.relative_to("/") / "b.png": breaks}))
    assert write_import(found, tmp_path / "raw", link=False) == [("b", "it ended early")]
    assert read_cohort_table(tmp_path / "raw")["case_id"].tolist() == ["a.png"]
    assert [file.name for file in (tmp_path / "raw" / "images").rglob("*") if file.is_file()] == ["a.png"]


def test_further_columns_of_a_row_reach_the_table(tmp_path):
    found = Import()
    found.take(write_image(tmp_path / "a.png"), row_of("a", "a.png", fold="3"))
    write_import(found, tmp_path / "raw", link=False)
    assert pd.read_csv(tmp_path / "raw" / "cohort.csv", dtype=str)["fold"].tolist() == ["3"]


def test_an_image_in_two_files_is_written_whole(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    values = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16)
    nib.save(nib.Nifti1Pair(values, np.eye(4)), source / "pair.img")
    for ending in ("mhd", "nhdr"):
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values), str(source / f"{ending}.{ending}"))
    for name in ("pair.hdr", "pair.img", "mhd.mhd", "nhdr.nhdr"):
        for link in (False, True):
            found = Import()
            found.take(source / name, row_of(name, name))
            write_import(found, tmp_path / f"{name}{link}", link)
            written = read_scan(tmp_path / f"{name}{link}" / "images" / name)
            assert np.array_equal(written.voxels, read_scan(source / name).voxels), name


def test_half_an_image_is_left_out_with_the_name_of_the_other_half(tmp_path):
    (tmp_path / "a.mhd").write_text("NDims = 3\nElementDataFile = a.raw\n")
    with pytest.raises(BadCase, match=r"the companion file a\.raw does not exist"):
        parts_of(tmp_path / "a.mhd", tmp_path / "a.mhd")
    (tmp_path / "b.mhd").write_text("NDims = 3\nElementDataFile = LIST\n0.raw\n")
    with pytest.raises(BadCase, match="several files; store them in one"):
        parts_of(tmp_path / "b.mhd", tmp_path / "b.mhd")


def test_a_folder_with_a_series_is_one_image(tmp_path):
    found = Import()
    found.take(dicom_series(tmp_path / "scan"), row_of("scan", "scan"))
    (tmp_path / "empty").mkdir()
    found.take(tmp_path / "empty", row_of("empty", "empty"))
    for link in (False, True):
        write_import(found, tmp_path / f"raw{link}", link)
        original, written = (read_scan(path) for path in (tmp_path / "scan", tmp_path / f"raw{link}" / "images/scan"))
        assert np.array_equal(written.voxels, original.voxels) and written.header == original.header
    assert found.left_out == [("empty", "the folder holds no DICOM file")]
