import pytest

from pipeline import runtime
from pipeline.errors import UserError
from tests.conftest import ROOT


def square(number):
    return number**2


def refused(number):
    raise ValueError(f"no {number} here")


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Submitit's own cluster of local processes in place of SLURM's."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"BACKEND": "slurm", "SLURM_CLUSTER": "local", "WORKERS": "2", "SLURM_GPUS": "1"}.items():
        monkeypatch.setenv(f"MEDADAPT_{name}", value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path / "data/scratch/slurm"


def test_cases_run_as_jobs_of_slurm_in_their_order(jobs):
    assert runtime.map_cases(square, range(4), "square") == [0, 1, 4, 9]
    assert len(list(jobs.glob("*_result.pkl"))) == 4
    assert runtime.map_cases(square, [], "square") == []


def test_a_job_that_fails_is_told_with_its_log_and_reason(jobs):
    with pytest.raises(UserError, match=r"(?s)a job of SLURM failed, see .*slurm/.*err: .*no 3 here"):
        runtime.map_cases(refused, [3], "refused")


def test_an_engine_that_does_not_exist_is_refused(monkeypatch):
    monkeypatch.setenv("MEDADAPT_BACKEND", "abacus")
    with pytest.raises(UserError, match="it takes loky, threading, dask, ray or slurm"):
        runtime.map_cases(square, [1], "square")
