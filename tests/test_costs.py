"""Records of what stages cost, and what makes an old record useless."""

import json

import pytest

from pipeline import costs, paths
from pipeline.__main__ import STAGES, main
from pipeline.costs import DECIDES, workload
from tests.commands.plan.changing import changed
from tests.stages.conftest import project  # noqa: F401 - a fixture


def test_the_cost_of_a_block_is_written_with_its_workload(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = tmp_path / "cost" / "a.json"
    with costs.recorded(record, {"finetune.epochs": 3}):
        paths.write_json({"image_size": 32, "slices": 1}, paths.GEOMETRY)  # known at the end only
    found = json.loads(record.read_text())
    assert found.keys() == {"seconds", "peak_mib", "processor_seconds", "settings", "size"}
    assert found["settings"] == {"finetune.epochs": 3} and found["size"] == [32, 1]


def test_a_stage_records_its_cost_and_the_number_of_cases(project):  # noqa: F811
    project()
    assert main(["cohort"]) == 0
    found = paths.read_json(paths.cost("cohort"))
    assert found["cases"] == 30 and found["settings"] == {"cohort.path": "data/raw/clinic"}


def test_a_broken_record_counts_as_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert costs.last_run("split") == {}
    paths.write_json({"seconds": 3.0}, paths.cost("split"))
    assert costs.last_run("split") == {"seconds": 3.0}
    paths.cost("split").write_text("")
    assert costs.last_run("split") == {}


def test_every_stage_has_a_workload_of_plain_values():
    assert set(DECIDES) == set(STAGES)
    for stage in STAGES:
        assert json.loads(json.dumps(workload(stage, changed()))) == workload(stage, changed())


@pytest.mark.parametrize(
    ("stage", "changes", "same"),
    [
        ("finetune", {"finetune": {"epochs": 3}}, False),
        ("finetune", {"finetune": {"learning_rate": 0.1}}, True),
        ("finetune", {"release": {"name": "other"}}, True),
        ("adapt", {"adapt": {"candidates": ["adabn"]}}, False),
        ("release", {"release": {"exports": []}}, False),
        ("release", {"release": {"description": "Other."}}, True),
        ("evidence", {"split": {"folds": ("0", "1")}}, False),
        ("calibrate", {"calibrate": {"bins": 5}}, True),
    ],
)
def test_a_workload_changes_with_what_decides_the_time_only(stage, changes, same):
    assert (workload(stage, changed(**changes)) == workload(stage, changed())) == same
