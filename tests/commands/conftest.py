"""Places for runs of folds without GPU, and without DVC."""

from pathlib import Path

import pytest

from pipeline import runtime
from tests.stages.conftest import project  # noqa: F401 - a fixture

STAGES = ("adapt", "finetune")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder whose modules can be run by `python -m`; no GPU, nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "MEDADAPT_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "cuda_devices", list)
    (tmp_path / "greet.py").write_text("import sys; print('hello', *sys.argv[1:])")
    (tmp_path / "fail.py").write_text("raise SystemExit('no such lesion')")
    return tmp_path


@pytest.fixture
def no_dvc(monkeypatch):
    """DVC replaced by a list of what it was asked to do."""
    asked = []
    monkeypatch.setattr(runtime, "dvc", lambda *words, **_: asked.append(words) or "{}")
    return asked


def never_run(job, place):
    raise AssertionError(f"{job} was run")


def log_lines(fold):
    return (Path("data/scratch/folds") / f"{fold}.log").read_text().splitlines()
