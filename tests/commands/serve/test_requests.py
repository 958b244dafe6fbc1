"""What the server answers, whom it refuses, and that it leaves nothing behind."""

import base64
import io
import json
import shutil
import socket
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pydicom
import pytest
import requests

from pipeline.__main__ import main
from tests.commands.listen.studies import study
from tests.commands.predict.limits import recalibration
from tests.commands.serve.conftest import MIB, started


def test_answers_are_those_of_predict_to_the_bit(served, limited, tmp_path):
    files = [limited[1] / f"{number}.nii.gz" for number in (0, 4)]
    found = served.send(files).json()
    assert main(["predict", str(limited[0]), *map(str, files), "--out", str(tmp_path / "found.csv")]) == 0
    assert found["csv"] == (tmp_path / "found.csv").read_text()
    table = pd.read_csv(tmp_path / "found.csv", keep_default_na=False)
    for one, row in zip(found["scans"], table.to_dict("records"), strict=True):
        assert one["answered"] == (row["abstains"] == "") and one["set"] == row["set"]
        assert {part["name"]: part["value"] for part in one["probabilities"]} == {
            name: float(row[name]) for name in "abc" if row[name] != ""
        }
    assert not served.left()


def test_with_a_recalibration_answers_are_those_of_predict_with_it(limited, tmp_path):
    words = ["--calibration", str(recalibration(limited[0], tmp_path / "site.json"))]
    (tmp_path / "uploads").mkdir()
    one, file = started(limited[0], tmp_path / "uploads", *words), limited[1] / "0.nii.gz"
    try:
        found, page = one.send([file]).json(), requests.get(f"{one.address}/?token={one.token}", timeout=30).text
    finally:
        one.process.terminate()
        one.process.wait(timeout=60)
    assert main(["predict", str(limited[0]), str(file), *words, "--out", str(tmp_path / "found.csv")]) == 0
    assert found["csv"] == (tmp_path / "found.csv").read_text()
    assert "Probabilities are recalibrated for this site" in page


def test_a_withheld_answer_has_a_reason_and_no_number_or_map(served, tmp_path, limited):
    study(tmp_path / "study", 0, limited[1] / "4.nii.gz")
    [scan] = served.send(sorted((tmp_path / "study").iterdir())).json()["scans"]
    assert not scan["answered"] and scan["probabilities"] == [] and scan["view"]["map"] is None
    assert scan["why"] and "confidence is too low" in scan["reason"]
    [report] = scan["dicom"]
    fields = pydicom.dcmread(io.BytesIO(base64.b64decode(report["data"])))
    assert fields.PatientID == "canary-0000" and "Reason for giving no answer" in str(fields)


def test_a_zip_of_a_study_is_sorted_into_series(served, tmp_path, limited):
    study(tmp_path / "study" / "a", 0, limited[1] / "0.nii.gz")
    study(tmp_path / "study" / "b", 4, limited[1] / "0.nii.gz")
    (tmp_path / "study" / "note.txt").write_text("Dear colleague")
    zipped = shutil.make_archive(str(tmp_path / "study"), "zip", tmp_path / "study")
    found = served.send([tmp_path / "study.zip"]).json()
    assert zipped and [one["answered"] for one in found["scans"]] == [True]
    assert found["left_out"] == ["a document (1)", "a secondary capture (1)"]
    assert [one["name"] for one in found["scans"][0]["dicom"]] == [
        f"result_{kind}.dcm" for kind in ("report", "segmentation", "capture")
    ]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"X_Token": "wrong"}, "the token is missing or wrong"),
        ({"X_Token": ""}, "the token is missing or wrong"),
        ({"Origin": "https://elsewhere.example"}, "another page asks"),
        ({"Origin": "null"}, "another page asks"),
        ({"Sec_Fetch_Site": "cross-site"}, "another page asks"),
        ({"Host": "elsewhere.example"}, "this address is not that of the page"),
    ],
)
def test_strangers_are_refused_before_their_body_is_read(served, headers, said):
    answer = served.post(b'[["a.nii", 3]]\nabc', **headers)
    assert answer.status_code == 403 and said in answer.json()["error"]


def test_the_page_itself_needs_the_token_and_loads_nothing(served):
    assert requests.get(f"{served.address}/", timeout=30).status_code == 403
    answer = requests.get(f"{served.address}/?token={served.token}", timeout=30)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe-eval" not in policy
    assert "http" not in answer.text and "Research use only, not a medical device" in answer.text
    assert answer.headers["Cache-Control"] == "no-store"


def bomb(size):
    """A zip of zeros that unpacks to so many bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.nii", "w") as file:
        for _ in range(size // MIB):
            file.write(bytes(MIB))
    return stream.getvalue()


def with_entry(name):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, "x")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "status", "said"),
    [
        ("bomb.zip", bomb(100 * MIB), 413, "implausible compression ratio"),
        ("trick.zip", with_entry("../../../etc/cron.d/x"), 413, "would be written outside of its folder"),
        ("broken.zip", b"PK\3\4 and no more", 400, "the zip cannot be unpacked"),
    ],
)
def test_hostile_zips_are_refused_with_the_reason(served, name, content, status, said):
    answer = served.send([content], names=[name])
    assert answer.status_code == status and said in answer.json()["error"]
    assert not served.left() and "medadapt-" not in answer.text


@pytest.mark.parametrize("name", ["page.dcm", "../../../../tmp/evil.dcm", "/etc/passwd.nii.gz", "a\0b\r\n.dcm"])
def test_a_file_that_is_no_image_gets_a_reason_whatever_its_name(served, name):
    [scan] = served.send([b"<script>alert(1)</script>"], names=[name]).json()["scans"]
    assert not scan["answered"] and scan["why"] == "the scan cannot be used" and scan["reason"]
    assert not served.left()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "no file was sent"),
        (b"[]\n", "no file was sent"),
        (b"what\n", "another format than this page sends"),
        (b'[["a.nii", -1]]\n', "larger than the allowed"),
        (b'[["a.nii", 5]]\nabc', "the upload ended early"),
        (b"[" * 70000, "the list of files is too long"),
        (json.dumps([["a", 0]] * 6000).encode() + b"\n", "more than the allowed 5000"),
    ],
)
def test_malformed_uploads_are_refused_with_the_reason(served, body, said):
    body = body * 16 if len(body) == 70000 else body
    answer = served.post(body)
    assert answer.status_code in (400, 413) and said in answer.json()["error"]


def test_a_large_upload_is_refused_before_it_is_sent(served):
    port = int(served.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Token: {served.token}\r\n"
        one.sendall(f"{head}Content-Length: {2**31}\r\n\r\n".encode())
        assert b"413" in one.recv(4096).split(b"\r\n")[0]
    pieces = (bytes(MIB) for _ in range(80))
    body = (piece for part in ([b'[["a.nii", 10]]\n'], pieces) for piece in part)
    assert served.post(body).status_code in (200, 413)  # what follows the stated bytes is not read
    assert not served.left()


class Stated:
    """Pieces of a body whose length is sent before them."""

    def __init__(self, pieces):
        self.pieces = pieces

    def __iter__(self):
        return iter(self.pieces)

    def __len__(self):
        return sum(map(len, self.pieces))


@pytest.mark.parametrize("stated", [True, False])
def test_a_client_that_sends_too_much_gets_the_answer(served, stated):
    before, head = served.memory(), json.dumps([["a.nii", 400 * MIB]]).encode() + b"\n"
    pieces = [head, *[bytes(MIB)] * 400]
    answer = served.post(Stated(pieces) if stated else iter(pieces))
    assert answer.status_code == 413
    assert "larger than the allowed 0.0625 GiB; send one series, or start with --max-upload" in answer.json()["error"]
    assert answer.headers["Connection"] == "close"
    assert served.memory() - before < 50 and not served.left()


def test_a_stranger_who_sends_much_gets_the_answer(served):
    answer = served.post((bytes(MIB) for _ in range(100)), X_Token="wrong")
    assert answer.status_code == 403 and "the token is missing or wrong" in answer.json()["error"]


def test_who_waits_to_be_asked_for_the_body_is_answered_once(served):
    port = int(served.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Token: {served.token}\r\n"
        one.sendall(f"{head}Expect: 100-continue\r\nContent-Length: {2**31}\r\n\r\n".encode())
        found = b"".join(iter(lambda: one.recv(4096), b""))
    assert found.startswith(b"HTTP/1.1 413") and found.count(b"HTTP/1.1") == 1 and found.endswith(b"}")


def test_an_aborted_upload_leaves_nothing(served, limited):
    port = int(served.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as one:
        head = f"POST /answer HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Token: {served.token}\r\n"
        one.sendall(f'{head}Content-Length: {MIB}\r\n\r\n[["a.nii", {MIB - 20}]]\n'.encode() + bytes(5000))
    assert served.send([limited[1] / "0.nii.gz"]).status_code == 200
    assert not served.left()


def test_fifty_requests_at_once_are_all_answered_alike(served, limited):
    before, barrier = served.memory(), threading.Barrier(50)
    file = limited[1] / "0.nii.gz"

    def ask(_):
        barrier.wait()
        return served.send([file])

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert served.memory() - before < 200
    assert not served.left()


def test_a_killed_server_leaves_what_the_next_one_removes(limited, tmp_path):
    first = started(limited[0], tmp_path)
    [place] = tmp_path.iterdir()
    (place / "patient.dcm").write_bytes(b"x")
    first.process.kill()
    first.process.wait()
    assert (place / "patient.dcm").exists()
    second = started(limited[0], tmp_path, "--ledger", str(tmp_path.parent / f"{tmp_path.name}-ledger"))
    assert not place.exists()
    for _ in range(2):
        assert second.send([limited[1] / "0.nii.gz"], names=["Canary^Name.nii.gz"]).status_code == 200
    second.process.terminate()
    second.process.wait(timeout=60)
    assert not list(tmp_path.iterdir())
    [line] = (tmp_path.parent / f"{tmp_path.name}-ledger" / "ledger.jsonl").read_text().splitlines()
    assert json.loads(line)["outcome"] == "answered" and "Canary" not in line
