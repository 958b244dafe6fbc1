"""Folds as SLURM jobs: what is asked for, what is queued, and what DVC records of the results."""

import os
import re
import shutil
import sys

import pytest

from pipeline import clusters, params
from pipeline.commands.fold_jobs import Job
from pipeline.commands.folds import slurm
from pipeline.errors import UserError
from tests.commands.conftest import STAGES, log_lines, never_run
from tests.conftest import ROOT
from tests.stages.conftest import project  # noqa: F401 - a fixture


def test_slurm_without_its_package_or_without_slurm_says_what_to_do(here, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="login node, or use --launcher local"):
        clusters.slurm_executor(here, 1)
    monkeypatch.setenv("MEDADAPT_SLURM_CLUSTER", "local")
    monkeypatch.setenv("MEDADAPT_SLURM_TIME", "2:00:00")
    with pytest.raises(UserError, match="MEDADAPT_SLURM_TIME is '2:00:00'; it takes a whole number"):
        clusters.slurm_executor(here, 1)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=re.escape("pip install 'medadapt[slurm]'")):
        clusters.slurm_executor(here, 1)


def pretend_slurm(folder, monkeypatch, sbatch):
    """Commands of SLURM that keep the script they are given and answer as told."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    for name, script in {"srun": "", "sbatch": f'cp "$1" {folder}/script.sh\n{sbatch}'}.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")


def test_slurm_is_asked_for_what_the_environment_says(here, monkeypatch):
    pretend_slurm(here, monkeypatch, "echo Submitted batch job 42")
    for name, value in {"PARTITION": "gpu", "TIME": "90", "GPUS": "1", "CPUS": "8", "MEMORY": "32"}.items():
        monkeypatch.setenv(f"MEDADAPT_SLURM_{name}", value)
    queued = clusters.submitted(
        clusters.slurm_executor(here / "slurm", 2), slurm.run_bare, [Job(name, {}) for name in "012"]
    )
    assert [job.job_id for job in queued] == ["42_0", "42_1", "42_2"]
    asked = set(re.findall(r"#SBATCH --(\S+)", (here / "script.sh").read_text()))
    expected = {"partition=gpu", "time=90", "gpus-per-node=1", "cpus-per-task=8", "mem=32GB", "array=0-2%2"}
    assert expected <= asked


def test_a_fold_may_take_a_day_unless_the_environment_says_otherwise(here, monkeypatch):
    pretend_slurm(here, monkeypatch, "echo Submitted batch job 42")
    clusters.submitted(clusters.slurm_executor(here / "slurm", 1), slurm.run_bare, [Job("0", {})])
    assert "#SBATCH --time=1440" in (here / "script.sh").read_text()


def test_a_job_that_slurm_rejects_is_an_error_with_its_reason(here, monkeypatch):
    pretend_slurm(here, monkeypatch, "echo 'invalid partition' >&2; exit 1")
    with pytest.raises(UserError, match="(?s)invalid partition.*MEDADAPT_SLURM_"):
        clusters.submitted(clusters.slurm_executor(here / "slurm", 1), slurm.run_bare, [Job("0", {})])


@pytest.fixture
def local_cluster(here, no_dvc, monkeypatch):
    """Submitit's own cluster of local processes, and jobs of tiny modules; returns what DVC was asked."""
    monkeypatch.setenv("MEDADAPT_SLURM_CLUSTER", "local")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (here / "die.py").write_text("import os, signal; os.kill(os.getppid(), signal.SIGKILL)")
    for file in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / file, here)
    monkeypatch.setattr(slurm, "snapshot", lambda stages: (here / "params.yaml").read_text())
    return no_dvc


def queue_of(monkeypatch, **commands):
    """Let fold k run the given modules in place of the stages."""
    monkeypatch.setattr(slurm, "changed", lambda *_: [Job(fold[1:], words) for fold, words in commands.items()])


def test_dvc_records_what_succeeded_and_nothing_else(local_cluster, monkeypatch):
    queue_of(
        monkeypatch,
        k0={"adapt": ["greet"], "finetune": ["greet"]},
        k1={"adapt": ["greet"], "finetune": ["fail"]},
        k2={"adapt": ["die"], "finetune": ["greet"]},
        k3={},
    )
    outcomes = slurm.slurm(list("0123"), STAGES, None)
    assert [str(outcome) for outcome in outcomes] == ["ok", "finetune failed", "the cluster's job failed", "ok"]
    assert local_cluster == [("repro", "split"), ("commit", "-f", "adapt@0", "finetune@0", "adapt@1")]
    assert outcomes[2].log.exists() and log_lines("1") == ["hello", "no such lesion"]


def test_results_are_not_recorded_if_parameters_changed_while_jobs_ran(local_cluster, here, monkeypatch):
    (here / "edit.py").write_text("open('params.yaml', 'a').write('# edited')")
    queue_of(monkeypatch, k0={"adapt": ["edit"]})
    with pytest.raises(UserError, match="changed while the jobs ran.*dvc commit -f adapt@0"):
        slurm.slurm(["0"], ["adapt"], None)
    assert local_cluster == [("repro", "split")]


def test_nothing_is_queued_where_nothing_changed(local_cluster, monkeypatch):
    queue_of(monkeypatch, k0={}, k1={})
    monkeypatch.setattr(slurm, "run_bare", never_run)
    assert [str(outcome) for outcome in slurm.slurm(["0", "1"], STAGES, None)] == ["ok", "ok"]
    assert local_cluster == [("repro", "split")]


def test_snapshot_changes_with_parameters_code_or_cases_only(here):
    (here / "params.yaml").write_text(params_text := (ROOT / "params.yaml").read_text())
    (here / "dvc.yaml").write_text(
        "stages:\n  adapt: {params: [adapt], deps: [code.py, cases, 'data/split/${item.fold}.csv']}"
    )
    (here / "code.py").write_text("a = 1")
    (here / "cases").mkdir()
    before = slurm.snapshot(["adapt"])
    (here / "params.yaml").write_text(params_text.replace("bins: 10", "bins: 11"))
    (here / "code.py").write_text("a = 1")
    assert params.load().calibrate.bins == 11 and slurm.snapshot(["adapt"]) == before
    (here / "cases" / "new.npy").touch()
    assert slurm.snapshot(["adapt"]) != before
    before = slurm.snapshot(["adapt"])
    (here / "code.py").write_text("a = 2")
    assert slurm.snapshot(["adapt"]) != before
    before = slurm.snapshot(["adapt"])
    (here / "params.yaml").write_text(params_text.replace("strength: 0.5", "strength: 0.6"))
    assert slurm.snapshot(["adapt"]) != before


def test_a_bare_stage_does_not_write_through_a_hard_link_into_the_cache(here):
    (here / "cached").write_text("old")
    (here / "data/adapted/0").mkdir(parents=True)
    (here / "data/adapted/0/encoder").hardlink_to(here / "cached")
    (here / "write.py").write_text(
        "import os; os.makedirs('data/adapted/0', exist_ok=True); open('data/adapted/0/encoder', 'w').write('new')"
    )
    assert slurm.run_bare(Job("0", {"adapt": ["write"]})).failed is None
    assert ((here / "cached").read_text(), (here / "data/adapted/0/encoder").read_text()) == ("old", "new")


def test_a_job_of_slurm_uses_as_many_threads_as_it_was_given_cores(here, monkeypatch):
    (here / "threads.py").write_text("import os; print(os.environ['OMP_NUM_THREADS'])")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    slurm.run_bare(Job("0", {"adapt": ["threads"]}))
    assert log_lines("0") == ["6"]
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    slurm.run_bare(Job("0", {"adapt": ["threads"]}))
    assert log_lines("0") == ["2"]
