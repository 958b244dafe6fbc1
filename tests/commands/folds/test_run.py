"""The command `folds`: what it accepts, and that neither place nor company changes a byte."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from pipeline import runtime
from pipeline.__main__ import PER_FOLD, build_parser, main
from pipeline.commands import fold_jobs
from pipeline.commands.folds import LAUNCHERS, run
from tests.commands.conftest import STAGES, never_run
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
    assert tuple(fold_jobs.OUTPUT) == PER_FOLD == tuple(build_parser().parse_args(["folds"]).stages)


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
    fold_jobs.repro("split")
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
