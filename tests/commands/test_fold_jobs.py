"""Jobs of folds: which stages are run, in which order, and what is told of those that fail."""

import json

from pipeline import runtime
from pipeline.__main__ import main
from pipeline.commands import fold_jobs, side_by_side
from pipeline.commands.fold_jobs import Job
from tests.commands.conftest import STAGES, log_lines
from tests.stages.conftest import project  # noqa: F401 - a fixture


def test_a_fold_is_run_from_its_first_changed_stage_on(monkeypatch):
    stale = {"adapt@1": [], "finetune@2": []}
    monkeypatch.setattr(runtime, "dvc", lambda *_: json.dumps(stale))
    assert {job.fold: list(job.commands) for job in fold_jobs.changed(["0", "1", "2"], STAGES, fold_jobs.bare)} == {
        "0": [],
        "1": ["adapt", "finetune"],
        "2": ["finetune"],
    }
    assert fold_jobs.changed(["2"], STAGES, fold_jobs.bare)[0].commands == {
        "finetune": ["pipeline", "finetune", "--fold", "2"]
    }


def test_stages_of_a_fold_run_in_order_and_write_to_its_log(here):
    (here / "greet.py").write_text("import os, sys; print('hello', sys.argv[1], os.environ['OMP_NUM_THREADS'])")
    outcome = fold_jobs.run_job(
        Job("0", {"adapt": ["greet", "a"], "finetune": ["greet", "b"]}), {"OMP_NUM_THREADS": "3"}
    )
    assert (outcome.done, outcome.failed, str(outcome)) == (STAGES, None, "ok") and outcome.seconds > 0
    assert log_lines("0") == ["hello a 3", "hello b 3"]


def test_a_fold_stops_at_the_stage_that_failed(here):
    outcome = fold_jobs.run_job(Job("0", {"adapt": ["fail"], "finetune": ["greet"]}), {})
    assert (outcome.done, outcome.failed, str(outcome)) == ((), "adapt", "adapt failed")
    assert log_lines("0") == ["no such lesion"]


def test_a_fold_that_fails_stops_no_other_and_its_log_is_shown_and_named(project, no_dvc, monkeypatch, capsys):  # noqa: F811
    root = project()
    (root / "greet.py").write_text("print('hello')")
    (root / "fail.py").write_text("raise SystemExit('no such lesion')")
    words = {"0": ["greet"], "1": ["fail"], "2": ["greet"]}
    monkeypatch.setattr(side_by_side, "through_dvc", lambda fold, stages: Job(fold, dict.fromkeys(stages, words[fold])))
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
