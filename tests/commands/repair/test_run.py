"""The way back from a dvc.lock that a kill cut off, and from outputs and caches that a disk damaged."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.lock_file import KEPT, LOCK
from tests.conftest import ROOT, dvc, flip_bit

KILLED_AT_THE_LOCK = """
import io, os, signal, sys
import dvc.utils.serialize._yaml as serialize
from dvc.cli import main
whole = serialize._dump

def part(data, stream):
    if sys.argv[1] in data["stages"]:
        whole(data, text := io.StringIO())
        text = text.getvalue()
        stream.write(text[: int(len(text) * float(sys.argv[2]))])
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(data, stream)

serialize._dump = part
main(["repro", sys.argv[1]])
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """The project of two stages that DVC ran: the first one writes a folder and a file, the second one copies."""
    monkeypatch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("template")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    Path("data").mkdir()
    keep = f"{sys.executable} -c 'from pipeline.lock_file import keep_lock; keep_lock()'"
    write = (
        "mkdir -p data/cases && date +%N > data/cases/a.npy && echo b > data/cases/b.npy && date +%N > data/index.csv"
    )
    stages = {
        "preprocess": {"cmd": write, "deps": ["params.yaml"], "outs": ["data/cases", "data/index.csv"]},
        "split": {"cmd": f"{keep} && date +%N > data/0.csv", "deps": ["data/index.csv"], "outs": ["data/0.csv"]},
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("params.yaml").write_text("seed: 0")  # DVC keeps results in its run cache if there are dependencies
    dvc("init", "--no-scm")
    dvc("config", "cache.type", "reflink,copy")
    dvc("repro")
    monkeypatch.undo()
    return folder


@pytest.fixture
def made(template, tmp_path, monkeypatch):
    """A copy of that project."""
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    return outputs()


def outputs():
    return {name: Path(name).read_text() for name in ("data/cases/a.npy", "data/cases/b.npy", "data/index.csv")}


def cached(name):
    content = Path(name).read_bytes()
    return next(file for file in Path(".dvc/cache").rglob("*") if file.is_file() and file.read_bytes() == content)


def age(file, seconds=60):
    os.utime(file, (os.stat(file).st_mtime - seconds,) * 2)


@pytest.mark.parametrize("share", [0.0, 0.4, 0.8])
def test_a_run_killed_while_dvc_writes_its_lock_goes_on(made, capsys, share):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    LOCK.write_text(yaml.safe_dump({"schema": "2.0", "stages": {"preprocess": records()["preprocess"]}}))
    killed = [sys.executable, "-c", KILLED_AT_THE_LOCK, "split", str(share)]
    assert subprocess.run(killed, env=environment, capture_output=True).returncode == -9
    written = Path("data/0.csv").read_text()
    refused = subprocess.run([sys.executable, "-m", "dvc", "repro", "split"], capture_output=True, text=True)
    assert refused.returncode and "dvc.lock" in refused.stderr
    age(LOCK)
    assert main(["status"]) == 1
    assert "error: dvc.lock cannot be read: it is" in (said := capsys.readouterr().err) and "`medadapt repair`" in said
    assert main(["repair"]) == 0
    assert "restored from the copy that the last stage kept, with 1 stages" in capsys.readouterr().out
    again = subprocess.run([sys.executable, "-m", "dvc", "repro", "split"], capture_output=True, text=True)
    assert again.returncode == 0 and "Running stage" not in again.stdout
    assert (outputs(), Path("data/0.csv").read_text()) == (made, written)  # from the run cache


def records():
    return yaml.safe_load(LOCK.read_text())["stages"]


def test_without_a_copy_the_lock_is_that_of_git_or_none(made, capsys):
    whole = LOCK.read_bytes()
    for words in (
        ["init", "-q"],
        ["add", "dvc.lock"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", *words], check=True)
    KEPT.unlink()
    for git, said in ((True, "restored from git, with 2 stages"), (False, "no copy of it in .dvc/tmp or git; removed")):
        LOCK.write_bytes(whole[:200])
        age(LOCK)
        if not git:
            shutil.rmtree(".git")
        assert main(["repair"]) == 0 and said in capsys.readouterr().out
        assert LOCK.exists() == git
    dvc("repro")
    assert outputs() == made


def test_a_damaged_output_is_restored_from_the_cache(made, capsys):
    flip_bit(Path("data/cases/a.npy"))
    assert main(["repair"]) == 0 and outputs() == made
    assert "data/cases/a.npy: damaged; restored from DVC's cache" in capsys.readouterr().out
    assert main(["repair"]) == 0
    assert capsys.readouterr().out == "nothing to repair: 4 outputs have the content that dvc.lock recorded\n"


def test_a_damaged_copy_in_the_cache_is_restored_from_the_output(made, capsys):
    copy = cached("data/index.csv")
    flip_bit(copy)
    [listing] = Path(".dvc/cache").rglob("*.dir")
    flip_bit(listing)
    assert main(["repair"]) == 0
    assert (
        f"{copy}: damaged; restored from data/index.csv" in (said := capsys.readouterr().out) and str(listing) in said
    )
    shutil.rmtree("data")
    dvc("checkout")
    assert outputs() == made


def test_an_output_that_is_damaged_in_both_places_is_computed_again(made, capsys):
    copy = cached("data/cases/a.npy")
    flip_bit(copy)
    flip_bit(Path("data/cases/a.npy"))
    assert main(["repair"]) == 0
    said = capsys.readouterr().out
    assert "data/cases/a.npy: damaged, and DVC's cache has no good copy; removed, preprocess computes it again" in said
    assert not copy.exists() and said.endswith("next: `dvc repro`\n")
    dvc("repro")
    assert outputs() != made and Path("data/cases/a.npy").exists()  # the time of day differs
    assert main(["repair"]) == 0 and "nothing to repair" in capsys.readouterr().out


def test_a_list_of_files_in_use_that_was_cut_off_is_removed(made, capsys):
    file = Path(".dvc/tmp/rwlock")
    file.write_text('{"read": {')
    assert main(["repair"]) == 0 and f"{file} was cut off; removed" in capsys.readouterr().out
    assert not file.exists()


def test_outside_of_a_project_repair_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["repair"]) == 1 and "there is no folder .dvc here" in capsys.readouterr().err
