"""Outputs of folds that `split.folds` named once."""

import pytest

from pipeline import paths
from pipeline.stages.split.former_folds import former_outputs, remove_former_outputs
from tests.stages.running import run


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("0", "3", "final")


def write(*folds):
    for fold in folds:
        for file in (paths.adapted_encoder(fold), paths.model(fold), paths.fold_metrics(fold), paths.split(fold)):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    paths.DUPLICATES.touch()


def files():
    return {file.relative_to(paths.DATA).as_posix() for file in paths.DATA.rglob("*") if file.is_file()}


def test_only_outputs_of_folds_that_are_not_named_are_listed(written):
    listed = [path.relative_to(paths.DATA).as_posix() for path in former_outputs(("0", "final"))]
    assert listed == ["adapted/3", "folds/3", "metrics/folds/3.json"]


def test_outputs_of_former_folds_are_removed_and_no_other(written):
    before = files()
    assert remove_former_outputs(("0", "final"), ("0", "final")) == ["3"]
    assert before - files() == {
        "adapted/3/encoder.safetensors",
        "folds/3/model.safetensors",
        "metrics/folds/3.json",
        "split/3.csv",
    }
    assert remove_former_outputs(("0", "final"), ("0", "final")) == []


def test_split_removes_what_former_folds_left_and_says_so(project, capsys):
    project()
    run("cohort", "preprocess", "split")
    assert "removed" not in capsys.readouterr().out
    write("1", "7")
    project(split__folds=[0, 1, "final"])
    run("split")
    assert "removed outputs of folds that split.folds no longer names: 7; DVC's cache" in capsys.readouterr().out
    assert {folder.name for folder in paths.FOLDS.iterdir()} == {"1"}
    assert paths.split("2").exists()  # assigned, though it is not trained
