"""From a real archive and back: each series once, over kills of the command and a restart of the server."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import requests

from pipeline.__main__ import main
from tests.commands.listen import orthanc
from tests.commands.listen.studies import KINDS, study
from tests.conftest import ROOT

needs_orthanc = pytest.mark.skipif(orthanc.MISSING, reason=orthanc.WHY_MISSING)
STUDIES = int(os.environ.get("MEDADAPT_TEST_STUDIES", "16"))  # the figures of docs/results/hand-over.md are of 200
EXPECTED = {
    "scan": "answered",
    "ct": "answered",
    "localizer": "answered",
    "capture": "left out",
    "structures": "left out",
    "report": "left out",
    "broken": "refused",
}


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "orthanc").mkdir()
    one = orthanc.Orthanc(tmp_path / "orthanc").start()
    monkeypatch.setenv("MEDADAPT_ARCHIVE_USER", orthanc.USER)
    monkeypatch.setenv("MEDADAPT_ARCHIVE_PASSWORD", orthanc.PASSWORD)
    yield one
    one.stop()


@pytest.fixture
def filled(server, limited, tmp_path):
    """The server with studies, and the kind of each by its UID."""
    kinds = {}
    scan = limited[1] / "0.nii.gz"
    for number in range(STUDIES):
        folder = tmp_path / "sent" / str(number)
        kinds[f"1.2.826.1.{number}"] = study(folder, number, scan)
        assert all(server.upload(file) for file in folder.iterdir())
    return server, kinds


def words_for(server, limited, tmp_path):
    archive = ["--archive", f"{server.url}/dicom-web", "--ledger", str(tmp_path / "ledger")]
    return ["listen", str(limited[0]), *archive, "--every", "0.2", "--once"]


def ledger_in(tmp_path):
    return [json.loads(line) for line in (tmp_path / "ledger" / "ledger.jsonl").read_text().splitlines()]


def begun(words):
    command = [sys.executable, "-m", "pipeline", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(lines, tmp_path, process):
    """Wait until the ledger has so many lines, or the process ends."""
    file = tmp_path / "ledger" / "ledger.jsonl"
    while process.poll() is None and (not file.exists() or file.read_text().count("\n") < lines):
        time.sleep(0.02)


@needs_orthanc
def test_each_series_is_answered_once_over_kills_and_a_restart(filled, limited, tmp_path):
    server, kinds = filled
    words = words_for(server, limited, tmp_path)
    for kill in range(3):
        process = begun(words)
        wait_for((kill + 1) * STUDIES // 5, tmp_path, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with (tmp_path / "ledger" / "ledger.jsonl").open("a") as file:
        file.write('{"series": "cut o')  # what a kill in the middle of a line leaves
    process = begun(words)
    wait_for(STUDIES * 4 // 5, tmp_path, process)
    server.stop()
    time.sleep(1)
    server.start()
    printed, _ = process.communicate(timeout=3600)
    assert process.returncode == 0, printed
    lines = ledger_in(tmp_path)
    assert len(lines) == len({one["series"] for one in lines}) == STUDIES
    counts = {outcome: sum(one["outcome"] == outcome for one in lines) for outcome in EXPECTED.values()}
    expected = [EXPECTED[kind] for kind in kinds.values()]
    assert counts == {outcome: expected.count(outcome) for outcome in EXPECTED.values()}
    assert all(one["reason"] for one in lines if one["outcome"] in ("refused", "left out"))
    results = server.results()
    assert len(results) == 3 * counts["answered"] == len({uid for *_, uid in results})
    with_results = [uid for uid, *_ in results]
    assert {uid: with_results.count(uid) for uid in kinds} == {
        uid: 3 if EXPECTED[kind] == "answered" else 0 for uid, kind in kinds.items()
    }
    assert not list((tmp_path / "ledger" / "scratch").iterdir())


@needs_orthanc
def test_the_ledger_has_no_name_and_results_stay_with_their_patient(filled, limited, tmp_path):
    server, _ = filled
    assert main(words_for(server, limited, tmp_path)) == 0
    ledger = (tmp_path / "ledger" / "ledger.jsonl").read_text()
    assert "anary" not in ledger and "ACC0" not in ledger and "1.2.826" not in ledger
    for one in server.results():
        patient = server.get(f"/series/{find(server, one[1]['SeriesInstanceUID'])}/patient")["MainDicomTags"]
        assert patient["PatientID"] == f"canary-{int(one[0].rpartition('.')[2]):04}"
    assert main(words_for(server, limited, tmp_path)) == 0
    assert (tmp_path / "ledger" / "ledger.jsonl").read_text() == ledger


def find(server, uid):
    auth = (orthanc.USER, orthanc.PASSWORD)
    [found] = requests.post(f"{server.url}/tools/lookup", uid, auth=auth, timeout=30).json()
    return found["ID"]


@needs_orthanc
def test_a_rule_leaves_out_with_its_reason(filled, limited, tmp_path):
    server, kinds = filled
    words = [*words_for(server, limited, tmp_path), "--modality", "ct", "--since", "2026-01-01"]
    assert main(words) == 0
    lines = ledger_in(tmp_path)
    assert sum(one["outcome"] == "answered" for one in lines) == list(kinds.values()).count("ct")
    assert {one["reason"] for one in lines if one["outcome"] == "left out"} == {
        f"modality {name} is not one of CT" for name in ("MR", "SR", "RTSTRUCT")
    }
    later = [*words_for(server, limited, tmp_path / "later"), "--since", "2026-12-01"]
    (tmp_path / "later").mkdir()
    assert main(later) == 0 and not ledger_in(tmp_path / "later")


@needs_orthanc
def test_wrong_credentials_are_told_without_showing_them(server, limited, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDADAPT_ARCHIVE_PASSWORD", "wrong words")
    assert main(words_for(server, limited, tmp_path)) == 1
    said = capsys.readouterr()
    assert "does not let us in (HTTP 401)" in said.err and "wrong words" not in said.err + said.out


def test_credentials_are_not_sent_unencrypted_to_another_machine(limited, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MEDADAPT_ARCHIVE_TOKEN", "t")
    words = ["listen", str(limited[0]), "--archive", "http://pacs.example/dicom-web"]
    assert main([*words, "--ledger", str(tmp_path / "ledger"), "--once"]) == 1
    assert "is not encrypted, and credentials are set; use https" in capsys.readouterr().err


def test_the_kinds_of_made_studies_all_have_an_expected_outcome():
    assert set(KINDS) == set(EXPECTED)
