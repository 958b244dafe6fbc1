"""Folds side by side: what is run where, what is told, and that neither place nor company changes a byte."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest
import torch

from pipeline import runtime
from pipeline.__main__ import PER_FOLD, build_parser, main
from pipeline.commands.folds import LAUNCHERS, run
from pipeline.commands.folds.run import Job, Outcome
from pipeline.errors import UserError
from tests.commands.folds.conftest import STAGES, log_lines, never_run
from tests.conftest import ROOT
from tests.stages.conftest import project  # noqa: F401 - a fixture


def test_dummy_prints_commands_with_gpu_and_threads_and_runs_nothing(
    project,  # noqa: F811
    monkeypatch,
    capsys,
):
    project()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(runtime, "cuda_devices", lambda: ["4", "7"])
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(subprocess, "run", never_run)
    assert main(["folds", "0", "final", "2", "--jobs", "2", "--launcher", "dummy"]) == 0
    assert capsys.readouterr().out == (
        "python -m dvc repro split\n"
        "CUDA_VISIBLE_DEVICES=4 OMP_NUM_THREADS=6 python -m dvc --wait-for-lock repro -s adapt@0\n"
        "CUDA_VISIBLE_DEVICES=4 OMP_NUM_THREADS=6 python -m dvc --wait-for-lock repro -s finetune@0\n"
        "CUDA_VISIBLE_DEVICES=7 OMP_NUM_THREADS=6 python -m dvc --wait-for-lock repro -s adapt@final\n"
        "CUDA_VISIBLE_DEVICES=7 OMP_NUM_THREADS=6 python -m dvc --wait-for-lock repro -s finetune@final\n"
        "CUDA_VISIBLE_DEVICES=4 OMP_NUM_THREADS=6 python -m dvc --wait-for-lock repro -s adapt@2\n"
        "CUDA_VISIBLE_DEVICES=4 OMP_NUM_THREADS=6 python -m dvc --wait-for-lock repro -s finetune@2\n"
    )


def test_all_folds_of_params_are_run_unless_some_are_named(project, capsys):  # noqa: F811
    project()
    assert main(["folds", "--launcher", "dummy"]) == 0
    assert re.findall(r"(\S+@\S+)", capsys.readouterr().out) == [
        f"{stage}@{fold}" for fold in ("0", "1", "2", "final") for stage in STAGES
    ]
    assert main(["folds", "1", "1", "--stages", "finetune", "--launcher", "dummy"]) == 0
    assert re.findall(r"(\S+@\S+)", capsys.readouterr().out) == ["finetune@1"]


def test_unknown_folds_and_no_jobs_are_refused_before_anything_runs(project, no_dvc, capsys):  # noqa: F811
    project()
    assert main(["folds", "0", "7"]) == 1
    assert "split.folds has no fold 7; choose from 0, 1, 2, final" in capsys.readouterr().err
    assert main(["folds", "--jobs", "0"]) == 1
    assert "--jobs is 0" in capsys.readouterr().err
    assert no_dvc == []


def test_the_command_line_knows_every_launcher_and_stage_of_a_fold():
    assert set(LAUNCHERS) == set(run.LAUNCHERS)
    assert tuple(run.OUTPUT) == PER_FOLD == tuple(build_parser().parse_args(["folds"]).stages)


def test_without_a_gpu_one_fold_has_all_cores_and_several_share_them(here, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert run.places_for(5, None) == [{}]
    assert run.places_for(5, 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert run.places_for(2, 64) == [{"OMP_NUM_THREADS": "4"}] * 2


def test_each_gpu_gets_a_fold_and_more_jobs_than_gpus_share_them_in_turn(here, monkeypatch):
    monkeypatch.setattr(runtime, "cuda_devices", lambda: ["0", "1"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # set by the user, so left as it is
    assert run.places_for(5, None) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in run.places_for(5, 5)] == ["0", "1", "0", "1", "0"]


def test_gpus_carry_the_names_that_the_user_made_visible(monkeypatch):
    monkeypatch.delenv("MEDADAPT_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert runtime.cuda_devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,2")
    assert runtime.cuda_devices() == ["5", "2"]
    monkeypatch.setenv("MEDADAPT_DEVICE", "cpu")
    assert runtime.cuda_devices() == []


def test_two_folds_run_at_the_same_time_in_separate_places(here, no_dvc, monkeypatch):
    monkeypatch.setattr(runtime, "cuda_devices", lambda: ["0", "1"])
    both, taken, clashes = threading.Barrier(2, timeout=10), set(), []

    def runner(job, place):
        gpu = place["CUDA_VISIBLE_DEVICES"]
        clashes.extend({gpu} & taken)
        taken.add(gpu)
        both.wait()  # breaks unless a second fold is under way
        taken.discard(gpu)
        return Outcome(job.fold, 1.0, STAGES, None, here)

    outcomes = run.local([str(fold) for fold in range(6)], STAGES, 2, runner)
    assert [outcome.fold for outcome in outcomes] == list("012345") and clashes == []
    assert no_dvc == [("repro", "split")]


def test_one_job_at_a_time_never_meets_another(here, no_dvc):
    another = threading.Barrier(2, timeout=0.3)

    def runner(job, place):
        with pytest.raises(threading.BrokenBarrierError):  # nobody else came
            another.wait()
        return Outcome(job.fold, 1.0, STAGES, None, here)

    assert len(run.local(["0", "1", "2"], STAGES, None, runner)) == 3


def test_stages_of_a_fold_run_in_order_and_write_to_its_log(here):
    (here / "greet.py").write_text("import os, sys; print('hello', sys.argv[1], os.environ['OMP_NUM_THREADS'])")
    outcome = run.run_job(Job("0", {"adapt": ["greet", "a"], "finetune": ["greet", "b"]}), {"OMP_NUM_THREADS": "3"})
    assert (outcome.done, outcome.failed, str(outcome)) == (STAGES, None, "ok") and outcome.seconds > 0
    assert log_lines("0") == ["hello a 3", "hello b 3"]


def test_a_fold_stops_at_the_stage_that_failed(here):
    outcome = run.run_job(Job("0", {"adapt": ["fail"], "finetune": ["greet"]}), {})
    assert (outcome.done, outcome.failed, str(outcome)) == ((), "adapt", "adapt failed")
    assert log_lines("0") == ["no such lesion"]


def test_a_fold_that_fails_stops_no_other_and_its_log_is_shown_and_named(project, no_dvc, monkeypatch, capsys):  # noqa: F811
    root = project()
    (root / "greet.py").write_text("print('hello')")
    (root / "fail.py").write_text("raise SystemExit('no such lesion')")
    words = {"0": ["greet"], "1": ["fail"], "2": ["greet"]}
    monkeypatch.setattr(run, "through_dvc", lambda fold, stages: Job(fold, dict.fromkeys(stages, words[fold])))
    assert main(["folds", "0", "1", "2", "--jobs", "2"]) == 1
    printed = capsys.readouterr()
    assert [line.split(maxsplit=2)[::2] for line in printed.out.splitlines()] == [
        ["fold", "outcome"],
        ["0", "ok"],
        ["1", "adapt failed"],
        ["2", "ok"],
    ]
    assert "error: fold 1: adapt failed, see data/scratch/folds/1.log" in printed.err
    assert "no such lesion" in printed.err and "fold 0" not in printed.err.partition("error:")[2]


def test_folds_are_not_begun_when_the_stages_before_them_fail(project, capfd):  # noqa: F811
    project()  # no DVC project, so that `dvc repro split` fails
    with pytest.raises(UserError, match="`dvc repro split` failed"):
        run.local(["0"], STAGES, 1, never_run)
    assert "DVC" in capfd.readouterr().err


def whole_project(root):
    """Complete a project by the code that its stages depend on, git and DVC."""
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    (root / ".dvc").mkdir()
    for name in (".gitignore", ".dvcignore", ".dvc/config"):
        shutil.copy(ROOT / name, root / name)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def results(root):
    """Read all that the stages of the folds wrote."""
    files = [file for folder in ("adapted", "folds") for file in (root / "data" / folder).rglob("*") if file.is_file()]
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


@pytest.mark.slow
def test_parallel_folds_and_jobs_give_the_bytes_of_repro_and_a_clean_dvc(
    project,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    root = project(split__folds=["0", "final"])
    whole_project(root)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sums over another number of threads differ in their last digits
    run.repro("split")
    targets = [f"{stage}@{fold}" for fold in ("0", "final") for stage in STAGES]
    for target in targets:
        assert main(target.replace("@", " --fold ").split()) == 0
    reference = results(root)
    shutil.rmtree(root / "data" / "adapted")
    shutil.rmtree(root / "data" / "folds")
    shutil.rmtree(root / "data" / "scratch", ignore_errors=True)
    found = {}
    for name, words in {
        "side by side": [sys.executable, "-m", "pipeline", "folds", "--jobs", "2"],
        "as jobs": [sys.executable, "-m", "pipeline", "folds", "--launcher", "slurm"],
    }.items():
        place = tmp_path / name.replace(" ", "_")
        shutil.copytree(root, place)
        environment = {**os.environ, "MEDADAPT_SLURM_CLUSTER": "local", "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
        monkeypatch.chdir(place)
        assert json.loads(runtime.dvc("status", "--json", *targets)) == {}, name
        found[name] = results(place)
    assert len([name for name in reference if name.endswith(("model.safetensors", "encoder.safetensors"))]) == 4
    for name, written in found.items():
        assert {file for file in reference if written.get(file) != reference[file]} == set(), name
        assert written.keys() == reference.keys()
