"""What is done, running, stale or was never run: asked of a small project of DVC in each of these states."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from pipeline import paths
from pipeline.__main__ import main
from pipeline.commands import stage_states
from pipeline.commands.running import being_written, processes_here, training_of
from pipeline.commands.stage_states import Line, survey
from pipeline.commands.status import run
from pipeline.commands.status.run import joined
from pipeline.learning.training.checkpoint import Checkpoint
from tests.conftest import ROOT, dvc

COPY = """
import pathlib, sys, time, yaml
params, out = yaml.safe_load(open("params.yaml")), pathlib.Path(sys.argv[1])
time.sleep(params["wait"] * ("0" in sys.argv))
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(str(params))
"""


def stage(out, deps, params, words=""):
    return {"cmd": f"{sys.executable} pipeline/copy.py {out} {words}", "params": params, "deps": deps, "outs": [out]}


STAGES = {
    "split": stage("data/split/0.csv", ["pipeline/copy.py"], ["seed"]),
    "finetune": {
        "matrix": {"fold": [0, 1]},
        **stage("data/folds/${item.fold}/model.pt", ["data/split/0.csv"], ["finetune", "wait"], "${item.fold}"),
    },
    "calibrate": stage("data/calibrated/table.csv", ["data/folds/0/model.pt", "data/folds/1/model.pt"], ["bins"]),
}


def set_params(**values):
    Path("params.yaml").write_text(yaml.safe_dump({"seed": 1, "finetune": 1, "bins": 1, "wait": 0} | values))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A project that was run to its end."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        (root / "pipeline").mkdir()
        (root / "pipeline" / "copy.py").write_text(COPY)
        (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
        set_params()
        dvc("init", "--no-scm")
        dvc("config", "core.analytics", "false")
        dvc("repro")
    return root


@pytest.fixture
def project(done, tmp_path, monkeypatch):
    """A copy of it, to be changed."""
    root = tmp_path / "project"
    subprocess.run(["cp", "-r", str(done), str(root)], check=True)
    monkeypatch.chdir(root)
    return root


def test_outputs_of_former_folds_are_named(project, capsys):
    for fold in ("7", "without-north"):
        (project / "data" / "folds" / fold).mkdir()
    assert main(["status"]) == 0
    said = "left from folds that split.folds no longer names: data/folds/7, data/folds/without-north; the stage split"
    assert said in capsys.readouterr().out


def states():
    return {"@".join(filter(None, [line.stage, *line.folds])): line.state for line in survey()}


def why(stage, fold=""):
    return next(line.why for line in survey() if (line.stage, *line.folds) == (stage, fold))


def put_down(fold, name, epoch, stage="finetune"):
    """Leave a checkpoint as a training does that is then killed."""
    file = paths.checkpoints(stage, fold) / f"{name}.pt"
    Checkpoint(file, "key", every=0).offer({"weight": torch.ones(2)}, epoch)
    return file


def test_what_was_run_to_its_end_is_done_in_the_order_of_the_stages(project):
    assert list(states()) == ["split", "finetune@0", "finetune@1", "calibrate"]
    assert set(states().values()) == {"done"}


def test_a_changed_parameter_makes_its_stage_stale_and_later_ones_behind(project):
    set_params(finetune=2)
    assert states() == {"split": "done", "finetune@0": "stale", "finetune@1": "stale", "calibrate": "behind"}
    assert why("finetune", "0") == "parameters: finetune"
    assert why("calibrate") == "after finetune@0, finetune@1"


def test_behind_is_told_of_stages_further_down_too(project):
    set_params(seed=2)
    assert states() == {"split": "stale", "finetune@0": "behind", "finetune@1": "behind", "calibrate": "behind"}


def test_changed_code_is_told_by_the_name_of_its_file(project):
    Path("pipeline/copy.py").write_text(COPY + "\n")
    assert states()["split"] == "stale" and why("split") == "code: copy.py"


def test_outputs_that_are_gone_are_missing(project):
    Path("data/folds/1/model.pt").unlink()
    found = states()
    assert (found["finetune@0"], found["finetune@1"]) == ("done", "missing")
    assert why("finetune", "1") == "data/folds/1/model.pt"


def test_a_stage_that_dvc_lock_does_not_know_was_never_run(project):
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    del lock["stages"]["finetune@1"]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert states()["finetune@1"] == "never run"
    Path("dvc.lock").unlink()
    assert set(states().values()) == {"never run"}


def wait_until(true, seconds=30):
    end = time.time() + seconds
    while not true():
        assert time.time() < end, "it did not come to that"
        time.sleep(0.1)


def test_a_stage_run_by_dvc_is_running_and_its_readers_are_not_known(project):
    set_params(wait=60)
    running = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "-q", "-s", "finetune@0"], start_new_session=True)
    try:
        wait_until(lambda: states()["finetune@0"] == "running")
        wait_until(lambda: states()["split"] == "done")  # until its command runs, DVC keeps its lock
        assert states() == {"split": "done", "finetune@0": "running", "finetune@1": "stale", "calibrate": "not known"}
        assert why("finetune", "0") == "DVC is writing its files"
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert being_written(Path(".dvc/tmp/rwlock")) == set()  # whatever a killed DVC left there
    assert states()["finetune@0"] == "missing"


def test_a_stage_started_without_dvc_is_running_with_time_and_epoch(project):
    Path("pipeline/__main__.py").write_text("import time; time.sleep(60)")
    put_down("1", "training-lp_ft", 4)
    running = subprocess.Popen([sys.executable, "-m", "pipeline", "finetune", "--fold", "1"])
    try:
        wait_until(lambda: ("finetune", "1") in processes_here())
        assert states()["finetune@1"] == "running" and states()["finetune@0"] == "done"
        assert why("finetune", "1").startswith("for ") and "training-lp_ft, epoch 4, " in why("finetune", "1")
        os.chdir("/")
        assert ("finetune", "1") not in processes_here()
    finally:
        os.chdir(project)
        running.terminate()
        running.wait()
    assert states()["finetune@1"] == "stopped"


def test_while_dvc_is_locked_the_states_are_not_known(project, monkeypatch):
    from dvc.lock import Lock, LockError

    def refuse(self):
        raise LockError("busy")

    monkeypatch.setattr(Lock, "lock", refuse)
    assert set(states().values()) == {"not known"}


def test_an_abandoned_checkpoint_is_stopped_with_its_newest_progress(project):
    put_down("0", "training-lp_ft", 9)
    put_down("0", "training-last_stage-1", 3)
    assert states()["finetune@0"] == "stopped"
    assert why("finetune", "0").startswith("training-last_stage-1, epoch 3, ")
    os.utime(paths.progress("finetune", "0"), (time.time() - 125, time.time() - 125))
    assert re.fullmatch("training-last_stage-1, epoch 3, 2 min ([5-9]|[1-5][0-9]) s ago", why("finetune", "0"))


def test_progress_is_told_of_any_stage_and_of_each_fold_by_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_down("0", "pretraining", 7, stage="adapt")
    assert training_of("adapt", "0").startswith("pretraining, epoch 7, ")
    assert training_of("adapt", "1") == training_of("finetune", "0") == training_of("split", "") == ""


def test_progress_is_read_without_opening_a_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put_down("0", "training", 12).write_bytes(b"not a checkpoint")
    assert training_of("finetune", "0").startswith("training, epoch 12, ")
    code = "import sys; import pipeline.commands.status.run; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n", done.stderr


def test_times_are_of_the_newest_output_or_of_the_record_of_its_cost(project):
    os.utime("data/split/0.csv", (1.7e9, 1.7e9))
    record = paths.cost("finetune", "0")
    paths.write_json({"seconds": 125.4, "peak_mib": 9}, record)
    os.utime(record, (1.9e9, 1.9e9))
    split, finetune, other, _ = survey()
    assert split.finished == 1.7e9 and split.took is None
    assert finetune.finished == 1.9e9 and finetune.took == 125.4 and other.took is None


def test_the_screen_shows_every_stage_and_explains_the_words_that_occur(project, capsys):
    set_params(bins=2)
    assert main(["status"]) == 0
    printed = capsys.readouterr().out
    rows = printed.splitlines()
    assert [row.split()[0] for row in rows[:5]] == ["stage", "split", "finetune", "finetune", "calibrate"]
    assert "\ndone: " in printed and "\nstale: " in printed and "\nrunning: " not in printed
    assert rows[4].endswith("parameters: bins")


def test_many_folds_in_one_state_share_a_line(project, capsys, monkeypatch):
    monkeypatch.setattr(run, "SCREEN", 3)
    main(["status"])
    rows = capsys.readouterr().out.splitlines()
    assert rows[2].split()[:4] == ["finetune", "0", "1", "done"] and rows[3].split()[0] == "calibrate"
    lines = [Line("finetune", (fold,), "done", "", float(fold), 30.0) for fold in "123"]
    assert joined([*lines, Line("finetune", ("4",), "stale", "code", None, None)]) == [
        Line("finetune", ("1", "2", "3"), "done", "", 3.0, 90.0),
        Line("finetune", ("4",), "stale", "code", None, None),
    ]


def test_a_folder_without_dvc_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["status"]) == 1
    assert "dvc.yaml in this folder cannot be read" in capsys.readouterr().err


def test_a_running_stage_says_which_candidate_it_tries(project, monkeypatch):
    monkeypatch.setattr(stage_states, "processes_here", lambda: {("finetune", "0"): time.time() - 61})
    assert why("finetune", "0") == "for 1 min 1 s"
    file = paths.activity("finetune", "0")
    file.parent.mkdir(parents=True)
    file.write_text("candidate last_stage (3 of 5), part 1 of 3, epoch 4")
    assert why("finetune", "0") == "for 1 min 1 s; candidate last_stage (3 of 5), part 1 of 3, epoch 4"
