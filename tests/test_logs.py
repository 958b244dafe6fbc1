"""The log of a run: one file for all stages of a `dvc repro`, which can be read after the terminal is closed."""

import logging
import os
import subprocess
import sys

import pytest

from pipeline import logs
from pipeline.__main__ import main
from pipeline.logs import RUNS, runs_stages
from tests.conftest import ROOT
from tests.stages.conftest import project  # noqa: F401 - a fixture


@pytest.fixture
def under_dvc(project, monkeypatch):  # noqa: F811
    """A project whose stages belong to one run of DVC."""
    monkeypatch.setenv("DVC_STAGE", "cohort")
    monkeypatch.setattr(logs, "start_of_run", lambda: 1.0e9)
    return project()


def test_all_stages_of_a_run_write_one_file_with_their_position(under_dvc):
    for stage in ("cohort", "preprocess", "split"):
        assert main([stage]) == 0
    assert main(["adapt", "--fold", "no such"]) == 1
    [file] = (under_dvc / RUNS).iterdir()
    written = file.read_text()
    for number, stage in enumerate(("cohort", "preprocess", "split"), start=1):
        assert f" stage {number} of 16, {stage}: {stage} begins, medadapt" in written
        assert f" stage {number} of 16, {stage}: {stage} ends: done\n" in written
    assert "cases of 24 patients" in written and "adapt ends: UserError" in written
    assert "Doe" not in written


def test_without_a_run_there_is_no_log_of_a_run(project):  # noqa: F811
    root = project()
    assert main(["cohort"]) == 0
    assert not (root / RUNS).exists()


def test_the_logs_of_the_latest_runs_are_kept(under_dvc, monkeypatch):
    monkeypatch.setattr(logs, "KEPT_RUNS", 2)
    for began in (1.0e9, 1.1e9, 1.2e9):
        monkeypatch.setattr(logs, "start_of_run", lambda began=began: began)
        [handler] = logs.run_log("cohort", "stage 1 of 16, cohort")
        handler.close()
    assert [file.name[:4] for file in sorted(RUNS.iterdir())] == ["2004", "2008"]


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        ("/venv/bin/python -m dvc repro calibrate", True),
        ("/venv/bin/python /venv/bin/dvc repro", True),
        ("dvc --wait-for-lock repro -s adapt@0", True),
        ("dvc exp run -S seed=1", True),
        ("/venv/bin/python /venv/bin/medadapt run metrics", True),
        ("python -m pipeline folds --jobs 2", True),
        ("dvc status", False),
        ("python -m pipeline split", False),
        ("sh -c python -m pipeline run", False),
        ("", False),
    ],
)
def test_a_run_is_known_by_the_words_of_its_process(words, runs):
    assert runs_stages(words.split()) == runs


def test_a_run_is_found_among_the_parents_of_a_stage(tmp_path):
    """The outermost one: `medadapt run` above `dvc repro`."""
    (tmp_path / "dvc.py").write_text("import subprocess, sys; print(subprocess.check_output(sys.argv[2:], text=True))")
    stage = [sys.executable, "-c", "from pipeline.logs import start_of_run; print(start_of_run() is not None)"]
    alone = subprocess.check_output(stage, text=True)
    path = {**os.environ, "PYTHONPATH": f".:{ROOT}"}
    below = subprocess.check_output([sys.executable, "-m", "dvc", "repro", *stage], text=True, cwd=tmp_path, env=path)
    assert alone.split() == ["False"] and below.split() == ["True"]


def test_messages_below_info_stay_out_of_the_log_of_a_run(under_dvc):
    [handler] = logs.run_log("cohort", "100 % done")
    logger = logging.getLogger("pipeline.somewhere")
    handler.handle(logger.makeRecord("pipeline.somewhere", logging.INFO, "", 0, "told", (), None))
    handler.handle(logger.makeRecord("pipeline.progress", logging.INFO, "", 0, "stage 3: half", (), None))
    debug = logger.makeRecord("pipeline.somewhere", logging.DEBUG, "", 0, "not told", (), None)
    assert not handler.filter(debug)
    handler.close()
    [file] = RUNS.iterdir()
    told, progress = (line.split(" ", 2)[2] for line in file.read_text().splitlines())
    assert told == "100 % done: told" and progress == "stage 3: half"  # it names the stage itself
