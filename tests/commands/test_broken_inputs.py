"""Every command over inputs that are broken: an error that names the input, never a traceback, and nothing lost."""

import json
import shutil

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import list_scans
from pipeline.imaging.tables.text_table import BadTable, read_text_table
from pipeline.schema import Cohort
from pipeline.stages.cohort.audit import audit_table
from pipeline.stages.cohort.checks import left_out_by, problems_of_classes, read_table, task_and_classes
from pipeline.stages.cohort.importers.datalist import find_in_datalist
from pipeline.stages.cohort.importers.found import BadSource, describe
from pipeline.stages.cohort.importers.table import find_in_csv
from tests.bundle.bundles import written
from tests.commands.broken import CONTENTS, fails_with_a_reason
from tests.conftest import ROOT
from tests.fuzzing import EXAMPLES

KINDS = {"csv": "csv", "folder": "", "bids": "tsv", "datalist": "json", "medmnist": "npz", "dicom": "dcm"}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
@pytest.mark.parametrize("kind", KINDS)
def test_import_of_anything_ends_with_a_reason(tmp_path, capsys, kind, content):
    source = tmp_path / "source"
    (source / "sub-1" / "anat").mkdir(parents=True)
    (source / "participants.tsv").write_bytes(content)
    (source / "sub-1" / "anat" / "sub-1_T1w.nii").write_bytes(content)
    (source / f"x.{KINDS[kind] or 'png'}").write_bytes(content)
    whole = kind in ("folder", "bids", "dicom")
    words = ["import", kind, source if whole else source / f"x.{KINDS[kind]}", "--into", tmp_path / "raw"]
    fails_with_a_reason(words, capsys)
    assert not (tmp_path / "raw" / "cohort.csv").exists()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return written(tmp_path_factory.mktemp("broken") / "model")


@pytest.mark.parametrize("ending", ["nii", "png", "dcm", "nrrd", "mha", "hdr", "tif"])
def test_predict_names_each_file_that_it_cannot_read(bundle, tmp_path, capsys, ending):
    (tmp_path / "scans").mkdir()
    for number, content in enumerate(CONTENTS.values()):
        (tmp_path / "scans" / f"{number}.{ending}").write_bytes(content)
    fails_with_a_reason(["predict", bundle, tmp_path / "scans", "--out", tmp_path / "r.csv"], capsys)
    rows = pd.read_csv(tmp_path / "r.csv")
    assert len(rows) == (1 if ending == "dcm" else len(CONTENTS)) and rows["reason"].notna().all()


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_tables_of_anything_end_with_a_reason(bundle, tmp_path, capsys, content):
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    fails_with_a_reason(["monitor", bundle, file], capsys)
    fails_with_a_reason(["predict", bundle, "--site-recalibrate", file, "--out", tmp_path / "s.json"], capsys)


@pytest.mark.parametrize("name", ["nothing", "bytes", "archive", "deep", "null"])
def test_bundles_and_calibrations_of_anything_end_with_a_reason(bundle, tmp_path, capsys, name):
    file = tmp_path / "x.csv"
    file.write_bytes(CONTENTS[name])
    for words in (["predict", file, file], ["monitor", file, file], ["verify", file]):
        fails_with_a_reason(words, capsys)
    Image.new("L", (4, 4)).save(tmp_path / "1.png")
    for option, holds in (("--calibration", "is not the recalibration"), ("--adaptation", "holds no limits")):
        assert main(["predict", str(bundle), str(tmp_path / "1.png"), option, str(file)]) == 1
        assert f"error: {option}: {file} {holds} of a site" in capsys.readouterr().err


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_a_cohort_of_anything_ends_with_a_reason(tmp_path, monkeypatch, capsys, content):
    """The table is broken, then the only images of a sound table are."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDADAPT_BACKEND", "threading")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "params.yaml").write_text("cohort:\n  path: c\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "cohort.csv").write_bytes(content)
    fails_with_a_reason(["cohort"], capsys)
    (tmp_path / "c" / "cohort.csv").write_text("case_id,image,label\n1,1.png,a\n2,2.nii,b\n")
    for name in ("1.png", "2.nii"):
        (tmp_path / "c" / name).write_bytes(content)
    fails_with_a_reason(["cohort"], capsys)


CELLS = ["", " ", "a", "A ", "a;b", "?a", ";", "no finding", "1.png", "../1.png", "/", ".", "train", "x" * 300, "nan"]
CELL = st.sampled_from([*CELLS, "\u00e9", "e\u0301", "2026-01-01", "\ufffd"])
NAMES = ["case_id", "image", "label", "patient_id", "site", "split", "age", ""]
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]}


@st.composite
def tables(draw, needed):
    names = draw(
        st.permutations([*needed, *draw(st.lists(st.sampled_from([n for n in NAMES if n not in needed]), unique=True))])
    )
    rows = draw(st.lists(st.lists(CELL, min_size=len(names), max_size=len(names)), max_size=5))
    return pd.DataFrame(rows, columns=names)


def rows_of(file):
    return len(read_text_table(file))


@settings(max_examples=EXAMPLES, **SLOW)
@given(tables(["image", "label"]))
def test_no_row_of_a_table_to_import_is_lost(tmp_path_factory, table):
    folder = tmp_path_factory.getbasetemp() / "import"
    folder.mkdir(exist_ok=True)
    Image.new("L", (4, 4)).save(folder / "1.png")
    table.to_csv(folder / "t.csv", index=False)
    optional = {"patient": "patient_id", "site": "site", "split": "split"}
    columns = {"image": "image", "label": "label"} | {
        ours: name if name in table else None for ours, name in optional.items()
    }
    try:
        found = find_in_csv(folder / "t.csv", columns, {"a": "b"})
    except BadSource:
        return
    assert len(found.cases) + len(found.left_out) == rows_of(folder / "t.csv")
    describe(found).encode()


@settings(max_examples=EXAMPLES, **SLOW)
@given(tables(["case_id", "image", "label"]))
def test_no_row_of_a_cohort_is_lost(tmp_path_factory, table):
    folder = tmp_path_factory.getbasetemp() / "cohort"
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "cohort.csv", index=False)
    try:
        rows = read_table(folder, Cohort(path=str(folder)), ["age"])
    except UserError:
        return
    assert len(rows) == rows_of(folder / "cohort.csv")
    cohort, labels = Cohort(path=str(folder)), rows["label"].tolist()
    problems_of_classes(cohort, labels)
    task, classes = task_and_classes(cohort, labels)
    assert len(left_out_by(audit_table(rows, classes, 2, task))) == len(rows)


@settings(max_examples=EXAMPLES, **SLOW)
@given(tables(["image"]))
def test_no_row_of_a_table_to_predict_is_lost(tmp_path_factory, table):
    folder = tmp_path_factory.getbasetemp() / "predict"
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / "t.csv", index=False)
    try:
        listed = list_scans(folder / "t.csv", "image")
    except BadTable:
        return
    assert len(listed) == rows_of(folder / "t.csv")
    assert all(scan.file.resolve() != folder.resolve() for scan in listed)


VALUE = st.none() | st.booleans() | st.integers(-1, 3) | st.floats() | CELL
ENTRY = st.dictionaries(
    st.sampled_from(["image", "label", "patient", "subject", "site", "age"]), VALUE | st.lists(VALUE, max_size=2)
)


@settings(max_examples=EXAMPLES, **SLOW)
@given(
    st.lists(ENTRY | VALUE, max_size=4),
    st.none() | st.dictionaries(CELL, VALUE, max_size=2) | st.lists(VALUE, max_size=3),
)
def test_no_entry_of_a_datalist_is_lost(tmp_path_factory, entries, labels):
    folder = tmp_path_factory.getbasetemp() / "datalist"
    folder.mkdir(exist_ok=True)
    Image.new("L", (4, 4)).save(folder / "1.png")
    (folder / "d.json").write_text(json.dumps({"labels": labels, "training": entries}))
    try:
        found = find_in_datalist(folder / "d.json", False, {})
    except BadSource:
        return
    assert len(found.cases) + len(found.left_out) == len(entries)
    describe(found).encode()
