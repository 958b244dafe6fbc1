"""What `medadapt show` prints of a run that was evaluated."""

import json

from pipeline.__main__ import main
from tests.stages.by_hand import evaluated_by_hand
from tests.stages.conftest import project  # noqa: F401 - a fixture


def test_sets_and_folds_have_a_line_each_in_their_order(project, capsys):  # noqa: F811
    project()
    evaluated_by_hand()
    assert main(["show"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    names = ["internal validation", "internal validation, by image", "external validation"]
    assert [row.split("  ")[0] for row in rows] == [*names, "fold 2", "fold 10", "fold without-north"]
    assert all(name in head for name in ("AUC", "log-loss", "Brier score", "calibration slope"))
    assert all(row.count("0.954 (0.899 to 0.998)") == 1 for row in rows)


def test_json_holds_every_metric_of_every_set(project, capsys):  # noqa: F811
    project()
    evaluated_by_hand()
    assert main(["show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fold 10"]["patients"] == 10 and found["external validation"]["auc"]["lower"] == 0.899


def test_before_an_evaluation_the_command_that_evaluates_is_named(project, capsys):  # noqa: F811
    project()
    assert main(["show"]) == 1
    assert "medadapt run metrics" in capsys.readouterr().err
