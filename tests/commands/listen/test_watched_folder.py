"""A watched folder: series that arrive in it are answered once, without a server."""

import json
import shutil

import pandas as pd
import pydicom
import pytest

from pipeline.__main__ import main
from pipeline.commands.listen.archive import is_private
from pipeline.errors import UserError
from tests.commands.listen.studies import study
from tests.commands.predict.limits import predicted, recalibration


@pytest.fixture
def inbox(limited, tmp_path):
    """A folder with two studies in one heap of files, a file that is no image, a cut file and a document."""
    heap = tmp_path / "inbox" / "heap"
    heap.mkdir(parents=True)
    for number in (0, 6):
        study(tmp_path / str(number), number, limited[1] / "0.nii.gz")
        for file in (tmp_path / str(number)).iterdir():
            shutil.move(file, heap / f"{number}_{file.name}")
    study(tmp_path / "8", 8, limited[1] / "0.nii.gz")
    cut = next((tmp_path / "8").iterdir())
    (heap / "cut.dcm").write_bytes(cut.read_bytes()[:400])
    (heap / "odd.nii").write_bytes(b"no image")
    (heap / "notes.txt").write_text("Dear colleague")
    return tmp_path / "inbox"


def listen(limited, inbox, *words):
    place = inbox.parent
    fixed = ["--watch", str(inbox), "--results", str(place / "results"), "--ledger", str(place / "ledger")]
    return main(["listen", str(limited[0]), *fixed, "--every", "0.1", "--once", *words])


def lines_of(inbox):
    return [json.loads(line) for line in (inbox.parent / "ledger" / "ledger.jsonl").read_text().splitlines()]


def test_a_heap_of_files_is_sorted_into_series_and_answered_once(limited, inbox):
    assert listen(limited, inbox) == 0
    lines = lines_of(inbox)
    assert sorted(one["outcome"] for one in lines) == ["answered", "left out", "left out", "refused"]
    [answered] = [one for one in lines if one["outcome"] == "answered"]
    assert {file.name for file in (inbox.parent / "results").iterdir()} == {
        f"{answered['series']}_{kind}.dcm" for kind in ("report", "segmentation", "capture")
    }
    report = pydicom.dcmread(inbox.parent / "results" / f"{answered['series']}_report.dcm")
    assert report.PatientID == "canary-0000" and report.StudyInstanceUID == "1.2.826.1.0"
    row = answered["scans"][0]
    assert abs(sum(row[name] for name in "abc") - 1) < 1e-9 and row["patient"] == answered["patient"]
    assert listen(limited, inbox) == 0 and lines_of(inbox) == lines


def test_with_a_recalibration_rows_and_uids_are_those_of_predict(limited, inbox, tmp_path):
    words = ["--calibration", recalibration(limited[0], tmp_path / "site.json")]
    assert listen(limited, inbox, *map(str, words)) == 0
    [answered] = [one for one in lines_of(inbox) if one["outcome"] == "answered"]
    (tmp_path / "again").mkdir()
    for file in (inbox / "heap").glob("0_*"):
        shutil.copy(file, tmp_path / "again")
    row = predicted(tmp_path, limited[0], tmp_path / "again", "--dicom", tmp_path / "objects", *words).iloc[0]
    [ours] = answered["scans"]
    exact = pd.read_csv(tmp_path / "found.csv", dtype=str).iloc[0]
    assert [str(ours[name]) for name in ("a", "b", "c", "set")] == list(exact[["a", "b", "c", "set"]])
    plain = predicted(tmp_path, limited[0], tmp_path / "again").iloc[0]
    assert float(plain["b"]) < float(row["b"]) and plain["set"] == row["set"]
    uids = [
        {str(pydicom.dcmread(file).SOPInstanceUID) for file in folder.iterdir()}
        for folder in (inbox.parent / "results", tmp_path / "objects")
    ]
    assert uids[0] == uids[1] and len(uids[0]) == 3


def test_a_second_process_may_not_write_the_same_ledger(limited, inbox, capsys):
    from pipeline.commands.ledger import Ledger

    with Ledger(inbox.parent / "ledger"):
        assert listen(limited, inbox) == 1
    assert "another command writes" in capsys.readouterr().err


def test_a_damaged_line_is_refused_and_a_cut_one_is_removed(limited, inbox, capsys):
    assert listen(limited, inbox) == 0
    file = inbox.parent / "ledger" / "ledger.jsonl"
    whole = file.read_text()
    file.write_text(whole + '{"series": "x", "outc')
    assert listen(limited, inbox) == 0 and file.read_text() == whole
    file.write_text("{}\n" + whole)
    assert listen(limited, inbox) == 1
    assert "line 1 is damaged; restore the ledger from a backup" in capsys.readouterr().err


def test_the_ledger_is_closed_to_others(limited, inbox):
    assert listen(limited, inbox) == 0
    folder = inbox.parent / "ledger"
    assert [path.stat().st_mode & 0o077 for path in (folder, *folder.iterdir())] == [0] * 4


def test_options_that_do_not_fit_are_refused(limited, inbox, capsys):
    fixed = ["listen", str(limited[0]), "--ledger", str(inbox.parent / "ledger"), "--once"]
    for words, said in (
        (["--watch", str(inbox)], "--watch needs --results"),
        (["--watch", str(inbox / "gone"), "--results", "r"], "there is no folder"),
        (["--archive", "https://pacs.example", "--results", "r"], "--results belongs to --watch"),
        (["--archive", "pacs"], "is no address of a DICOMweb server"),
        (["--watch", str(inbox), "--results", "r", "--since", "yesterday"], "write a date as"),
    ):
        assert main([*fixed, *words]) == 1
        assert said in capsys.readouterr().err


def test_only_encrypted_or_local_addresses_are_private():
    assert all(
        map(is_private, ("https://pacs.example/x", "http://localhost:1", "http://127.0.0.1:8042", "http://[::1]"))
    )
    assert not is_private("http://pacs.example") and not is_private("http://10.0.0.1")
    with pytest.raises(UserError):
        is_private("ftp://pacs.example")
