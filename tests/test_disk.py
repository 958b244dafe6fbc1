"""A full disk and a closed folder are one sentence with the folder and the cure, and nothing unfinished stays."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors import SafetensorError

from pipeline import disk
from pipeline.__main__ import main
from pipeline.errors import UserError
from tests.conftest import ROOT
from tests.stages.conftest import project  # noqa: F401 - a fixture


@pytest.fixture
def full(tmp_path, monkeypatch):
    """A project on a disk that says it has 0.5 MB left, with the outputs of an earlier run."""
    monkeypatch.chdir(tmp_path)
    outs = ["data/prepared", "data/index.csv", {"data/released": {"persist": True}}]
    stages = {"preprocess": {"cmd": "", "outs": outs, "plots": [{"data/history.csv": {"cache": False}}]}}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    sized = [{"path": "data/prepared", "md5": "a.dir", "size": 2_000_000}, {"path": "b", "md5": "b", "size": 500_000}]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"preprocess": {"cmd": "", "outs": sized}}}))
    for name in ("data/prepared/a.npy", "data/index.csv", "data/released/card", "data/history.csv"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
        os.utime(name, (0, 0))
    os.utime("data/prepared", (0, 0))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 500_000))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "data/prepared/a.npy"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 640 vs 534"),
    ],
)
def test_a_full_disk_is_one_sentence_with_folder_bytes_and_cure(full, error):
    with pytest.raises(UserError) as told, disk.explained("preprocess"):
        raise ValueError("while saving") from error
    message = str(told.value)
    assert message.startswith("the disk of ") and "data" in message and "\n" not in message
    assert "0.5 MB are free; preprocess wrote 2.5 MB when it last ran" in message and "data/scratch" in message


def test_unfinished_outputs_are_removed_and_others_stay(full):
    with pytest.raises(UserError), disk.explained("preprocess"):
        Path("data/index.csv").write_text("cut o")
        Path("data/released/card").write_text("whole")
        Path("data/scratch/audit").mkdir(parents=True)
        Path("data/scratch/audit/a.partial").write_text("cut o")
        raise OSError(errno.ENOSPC, "No space left on device")
    left = {str(path) for path in Path("data").rglob("*") if path.is_file()}
    assert left == {"data/prepared/a.npy", "data/released/card", "data/history.csv"}


def test_other_errors_are_raised_as_they_are(full, monkeypatch):
    for error in (FileNotFoundError(errno.ENOENT, "no"), ValueError("a"), UserError("b")):
        with pytest.raises(type(error)), disk.explained("preprocess"):
            raise error
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9))
    with pytest.raises(RuntimeError), disk.explained():  # a damaged file on a disk with room is no full disk
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos")


def test_a_closed_folder_is_one_sentence(full):
    with pytest.raises(UserError, match=r"data/x is closed to this user \(Read-only file system\)"), disk.explained():
        raise OSError(errno.EROFS, "Read-only file system", "data/x")


def in_a_mount(mount, code, *words):
    """Run Python after a mount that only this process sees; skip where the system does not let us."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us mount")
    script = [f'{mount} && exec {sys.executable} -c "$0" "$@"', code, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["unshare", "-rm", "sh", "-c", *script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-3000:]
    return done.stderr


READ_ONLY = """
import os, sys
os.chdir(sys.argv[1])
from pipeline.__main__ import main
for words in ("status", "cohort", "folds", "plan"):
    assert main([words]) == 1, words
"""


def test_commands_in_a_read_only_project_say_so(project):  # noqa: F811
    root = project()
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    said = in_a_mount(f"mount --bind {root} {root} && mount -o remount,ro,bind {root}", READ_ONLY, root)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4 and all("closed to this user (Read-only file system)" in line for line in errors)


FULL_DISK = """
import os, pathlib, shutil, sys
os.chdir(shutil.copytree(sys.argv[1], sys.argv[2] + "/project"))
from pipeline.__main__ import main
filler = pathlib.Path(sys.argv[2], "filler")
for stage in ("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0", "finetune --fold 0"):
    free = shutil.disk_usage(sys.argv[2]).free
    filler.write_bytes(bytes(free - 20_000 * (stage != "split")))
    code = main(stage.split())
    print("exit code", code, stage, file=sys.stderr)
    filler.unlink()
    if stage == "cohort":
        assert not list(pathlib.Path("data/cohort").rglob("*.csv"))
    assert code == 1 and main(stage.split()) == 0, stage
"""


def test_stages_on_a_full_disk_say_so_and_run_when_there_is_room(project, tmp_path):  # noqa: F811
    root = project(split__folds=[0, 1, 2])
    disk_of = tmp_path / "disk"
    disk_of.mkdir()
    said = in_a_mount(f"mount -t tmpfs -o size=40m none {disk_of}", FULL_DISK, root, disk_of)
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 6 and all(line.startswith("error: the disk of ") for line in errors), said


def test_a_second_command_does_not_write_the_same_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    hold = "import sys, time; from pathlib import Path; from pipeline.disk import alone\n"
    hold += "with alone(Path(sys.argv[1]), ''): print('held', flush=True); time.sleep(60)"
    for file, words in (
        ("out.csv", ["predict", "bundle", "scan", "--out", "out.csv"]),
        ("data/scratch/training.lock", ["folds"]),
    ):
        other = subprocess.Popen(
            [sys.executable, "-c", hold, file], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert other.stdout.readline() == b"held\n"
        assert main(words) == 1
        said = capsys.readouterr().err
        assert "another" in said and ("writing out.csv; name another file" in said or "wait until it ends" in said)
        other.kill()
        other.communicate()
        assert main(words) == 1 and "another" not in capsys.readouterr().err  # refused for another reason
