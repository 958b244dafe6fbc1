"""`medadapt run TARGET`: which stages it asks DVC for, and how it ends."""

import subprocess
import sys

import pytest
import yaml

from pipeline import runtime
from pipeline.__main__ import main
from pipeline.commands.run import TARGETS, run
from tests.conftest import ROOT
from tests.stages.by_hand import evaluated_by_hand
from tests.stages.conftest import project  # noqa: F401 - a fixture


@pytest.fixture
def asked(project, monkeypatch):  # noqa: F811
    """Metrics of a finished run, and the list of what was asked of DVC, which runs nothing."""
    project()
    evaluated_by_hand()
    words = []
    monkeypatch.setattr(runtime, "dvc", lambda *given, **options: words.append((given, options)))
    monkeypatch.setattr(run, "train_changed", lambda folds, stages: words.append((tuple(folds), {})))
    return words


def test_metrics_end_with_calibrate_and_the_metrics_are_printed(asked, capsys):
    assert main(["run", "metrics"]) == 0
    assert asked == [
        (("0", "1", "2", "final"), {}),
        (("repro", "calibrate"), {"to_terminal": True, "stages": TARGETS["metrics"]}),
    ]
    assert "0.954 (0.899 to 0.998)" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "last"), [([], []), (["all"], []), (["model"], ["release"])])
def test_all_is_the_default_and_a_model_ends_with_its_release(asked, words, last):
    assert main(["run", *words]) == 0
    assert asked[1][0] == ("repro", *last)


def test_data_end_with_the_split_and_show_no_metrics_of_an_earlier_run(asked, capsys):
    assert main(["run", "data"]) == 0
    assert asked[0][0] == ("repro", "split") and "medadapt run metrics" in capsys.readouterr().out


def test_the_target_metrics_leaves_out_evidence_release_and_report(project):  # noqa: F811
    known = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert TARGETS["all"] == tuple(known)
    root = project()
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    planned = runtime.dvc("dag", "--dot", TARGETS["metrics"][-1])
    assert "finetune@final" in planned and "calibrate" in planned
    assert not any(stage in planned for stage in ("evidence", "explain", "release", "report"))
    planned = runtime.dvc("dag", "--dot", TARGETS["model"][-1])
    left_out = set(TARGETS["all"]) - set(TARGETS["model"])
    assert "evidence" in planned and not any(stage in planned for stage in left_out)


def test_the_stage_report_leaves_the_summary_to_the_command(monkeypatch):
    assert runtime.stages_of_run() == []
    monkeypatch.setenv("MEDADAPT_STAGES", "cohort report")
    assert runtime.stages_of_run() == ["cohort", "report"]
