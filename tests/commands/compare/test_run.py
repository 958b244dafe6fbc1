"""Runs side by side, through the command line: folders, revisions and experiments of a small project of DVC."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.__main__ import main
from pipeline.commands.compare import finished_runs
from pipeline.commands.compare.run import differences
from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.calibrators.calibrator import identity_for
from pipeline.metrics.evaluation import TaskSpec, evaluated_by, summary_of
from pipeline.seeds import seed_for
from tests.conftest import dvc

CLASSES = ["well", "ill"]
PARAMS = {
    "seed": 7,
    "cohort": {"path": "data/raw/clinic"},
    "finetune": {"epochs": 10},
    "calibrate": {"bins": 10, "n_bootstrap": 100, "confidence": 0.9},
}
EVALUATE = """
import json, pathlib, numpy as np, pandas as pd, yaml
signal = yaml.safe_load(open("params.yaml"))["finetune"]["epochs"] / 16
rng = np.random.default_rng(0)
labels = np.repeat(rng.integers(0, 2, 30), 2)
event = 1 / (1 + np.exp(-signal * (2 * labels - 1) - rng.normal(size=60)))
table = pd.DataFrame({"patient": [f"p{n // 2:02d}" for n in range(60)], "case": [f"c{n:02d}" for n in range(60)]})
table = table.assign(site="Jane's hospital", fold=0, label=np.array(["well", "ill"])[labels], scope="internal")
table = table.assign(probability_0=1 - event, probability_1=event)
pathlib.Path("data/calibrated").mkdir(parents=True, exist_ok=True)
table.to_csv("data/calibrated/predictions.csv", index=False)
pathlib.Path("data/cohort").mkdir(exist_ok=True)
facts = {"classes": ["well", "ill"], "task": "multiclass", "simulated": False}
pathlib.Path("data/cohort/cohort.json").write_text(json.dumps(facts))
"""
STAGES = {
    "calibrate": {
        "cmd": f"{sys.executable} pipeline/evaluate.py",
        "params": ["seed", "cohort", "finetune", "calibrate"],
        "deps": ["pipeline/evaluate.py"],
        "outs": ["data/calibrated", "data/cohort"],
    }
}


def command(*words):
    subprocess.run(words, check=True, capture_output=True)


def git(*words):
    command("git", "-c", "user.name=n", "-c", "user.email=e@x", *words)


def write(root, **changes):
    """Write a project whose only stage draws predictions; `finetune.epochs` is how good they are."""
    values = json.loads(json.dumps(PARAMS))
    for dotted, value in changes.items():
        section, key = dotted.split("__")
        values[section][key] = value
    (root / "pipeline").mkdir(parents=True, exist_ok=True)
    (root / "pipeline" / "evaluate.py").write_text(EVALUATE)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (root / "params.yaml").write_text(yaml.safe_dump(values))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Two checkouts without DVC, evaluated by 10 and by 30 epochs; the first is the present folder."""
    for name, epochs in (("first", 10), ("second", 30)):
        write(tmp_path / name, finetune__epochs=epochs)
        subprocess.run([sys.executable, "pipeline/evaluate.py"], cwd=tmp_path / name, check=True)
    monkeypatch.chdir(tmp_path / "first")
    return tmp_path


@pytest.fixture(scope="module")
def versioned(tmp_path_factory):
    """A repository of git and DVC with a tag of 10 epochs and an experiment of 30; the workspace has 20."""
    root = tmp_path_factory.mktemp("versioned")
    write(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{name}_NAME", "n")
            patch.setenv(f"GIT_{name}_EMAIL", "e@x")
        git("init", "-q")
        dvc("init")
        dvc("config", "core.analytics", "false")
        dvc("repro")
        git("add", "-A")
        git("commit", "-qm", "ten")
        git("tag", "ten")
        dvc("exp", "run", "-n", "thirty", "-S", "finetune.epochs=30")
        write(root, finetune__epochs=20)
        dvc("repro")
    return root


@pytest.fixture
def repository(versioned, monkeypatch):
    monkeypatch.chdir(versioned)
    return versioned


def change_predictions(folder, change):
    file = folder / "data" / "calibrated" / "predictions.csv"
    change(pd.read_csv(file)).to_csv(file, index=False)


def line(printed, start):
    return next(line.split() for line in printed.splitlines() if line.strip().startswith(start))


def test_a_better_run_is_told_to_be_better_with_what_was_changed(folders, capsys):
    assert main(["compare", ".", "../second"]) == 0
    printed = capsys.readouterr().out
    assert "second against workspace: 60 cases of 30 patients with the same label in both runs" in printed
    assert line(printed, "AUC")[-1] == "better" and line(printed, "log-loss")[-1] == "better"
    assert line(printed, "finetune.epochs") == ["finetune.epochs", "10", "30"]
    assert "parameters that differ: 1" in printed and "unknown, because a run has no dvc.lock" in printed


def test_metrics_and_intervals_are_those_of_the_runs_own_reports(folders, capsys):
    main(["compare", "workspace", "../second"])
    printed = capsys.readouterr().out
    table = pd.read_csv("data/calibrated/predictions.csv")
    labels = table["label"].eq("ill").to_numpy(dtype=np.int64)
    logits = np.log(table[["probability_0", "probability_1"]].to_numpy())
    cases = table[["case", "patient", "site", "fold"]].assign(logit_0=logits[:, 0], logit_1=logits[:, 1])
    evaluated = evaluated_by(identity_for(labels), cases, labels)
    seed = seed_for(7, "bootstrap", "internal")
    report = summary_of(
        evaluated, evaluated.calibrated, TaskSpec(CLASSES), bins=10, bootstrap=Bootstrap(100, 0.9, seed)
    )["brier"]
    shown = "Brier score {value:.3f} ({lower:.3f} to {upper:.3f})".format(**report)
    assert shown in re.sub(" +", " ", printed)


def test_revision_experiment_and_workspace_leave_the_workspace_unchanged(repository, capsys):
    before = {
        file: file.read_bytes()
        for file in repository.rglob("*")
        if file.is_file() and not {".dvc", "logs"} & {*file.parts}
    }
    assert main(["compare", "ten", "thirty", "workspace"]) == 0
    printed = capsys.readouterr().out
    assert line(printed, "finetune.epochs") == ["finetune.epochs", "10", "30", "20"]
    assert "code and cohort, thirty against ten: the same" in printed
    gains = [float(found) for found in re.findall(r"log-loss .*?\)\s+.*?\)\s+([+-][\d.]+)", printed)]
    assert len(gains) == 2 and gains[0] > gains[1] > 0
    unchanged = {file: file.read_bytes() for file in before}
    assert unchanged == before


def test_parameters_are_those_of_the_run_even_if_the_file_was_edited_since(repository, capsys):
    edited = Path("params.yaml").read_text()
    try:
        write(repository, finetune__epochs=99)
        main(["compare", "ten", "workspace"])
    finally:
        Path("params.yaml").write_text(edited)
    assert line(capsys.readouterr().out, "finetune.epochs") == ["finetune.epochs", "10", "20"]


def test_code_that_differs_is_named(repository, capsys):
    lock, old = Path("dvc.lock"), Path("dvc.lock").read_text()
    known = yaml.safe_load(old)
    known["stages"]["calibrate"]["deps"][0]["md5"] = "0" * 32
    try:
        lock.write_text(yaml.safe_dump(known))
        main(["compare", "ten", "workspace"])
    finally:
        lock.write_text(old)
    assert "code and cohort, workspace against ten: pipeline/evaluate.py" in capsys.readouterr().out


def test_a_revision_without_outputs_in_the_cache_is_refused_with_the_cure(repository, capsys):
    cache = repository / ".dvc" / "cache"
    cache.rename(repository / "elsewhere")
    try:
        assert main(["compare", "workspace", "thirty"]) == 1
    finally:
        (repository / "elsewhere").rename(cache)
    error = capsys.readouterr().err
    assert "thirty: " in error and "dvc fetch" in error and "dvc exp apply thirty" in error


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (["ten", "nothing-of-this-name"], "neither a folder with data/ nor a revision"),
        (["ten"], "name two or more different runs"),
        (["ten", "ten"], "name two or more different runs"),
    ],
)
def test_what_cannot_be_compared_is_refused(repository, runs, said, capsys):
    assert main(["compare", *runs]) == 1
    assert said in capsys.readouterr().err


def test_a_folder_that_was_never_evaluated_is_refused_with_the_cure(folders, capsys):
    (folders / "second" / "data" / "calibrated" / "predictions.csv").unlink()
    assert main(["compare", ".", "../second"]) == 1
    assert "predictions.csv" in (error := capsys.readouterr().err) and "dvc repro calibrate" in error


def test_predictions_of_another_cohort_are_refused_with_the_cure(folders, capsys):
    facts = folders / "second" / "data" / "cohort" / "cohort.json"
    facts.write_text(facts.read_text().replace('"well", "ill"', '"well", "ill", "odd"'))
    assert main(["compare", ".", "../second"]) == 1
    assert "holds 2 classes, but data/cohort/cohort.json has 3" in capsys.readouterr().err


def test_cases_that_one_run_lacks_are_left_out_and_counted(folders, capsys):
    change_predictions(folders / "second", lambda table: table[table["case"] >= "c10"])
    main(["compare", ".", "../second"])
    printed = capsys.readouterr().out
    assert "50 cases of 25 patients with the same label in both runs" in printed
    assert "(60 cases in workspace, 50 in second)" in printed


def test_runs_without_a_common_case_stand_beside_each_other_unpaired(folders, capsys):
    change_predictions(folders / "second", lambda table: table.assign(case="x" + table["case"]))
    main(["compare", ".", "../second"])
    printed = capsys.readouterr().out
    assert "not compared, because only 0 cases have the same label in both runs" in printed
    assert printed.count("not compared") == 6  # in the heading, and of five metrics


def test_runs_of_other_classes_are_not_paired(folders, capsys):
    facts = folders / "second" / "data" / "cohort" / "cohort.json"
    facts.write_text(facts.read_text().replace('["well", "ill"]', '["ill", "well"]'))
    main(["compare", ".", "../second"])
    assert "not compared, because the classes differ" in capsys.readouterr().out


def test_runs_without_a_common_set_of_cases_are_refused(folders, capsys):
    change_predictions(folders / "second", lambda table: table.assign(scope="external"))
    assert main(["compare", ".", "../second"]) == 1
    assert "workspace evaluated internal; second evaluated external" in capsys.readouterr().err


def test_patients_that_are_evaluated_as_one_are_paired_by_their_name(folders, capsys):
    for folder, letter in (("first", "a"), ("second", "b")):
        change_predictions(
            folders / folder,
            lambda table, letter=letter: table[::2].assign(scope="internal_patients", case=letter + table["case"]),
        )
    main(["compare", ".", "../second"])
    assert "internal, patients, second against workspace: 30 patients with the same label" in capsys.readouterr().out


def test_a_test_set_is_warned_of(folders, capsys):
    main(["compare", ".", "../second"])
    assert "test set" not in capsys.readouterr().out
    for folder in ("first", "second"):
        change_predictions(folders / folder, lambda table: table.assign(scope="external"))
    main(["compare", ".", "../second"])
    assert "Choose between runs by internal metrics" in capsys.readouterr().out


def test_the_page_holds_the_metrics_and_neither_names_nor_folders(folders, tmp_path):
    for folder, path in (("first", "/home/jane-doe/scans"), ("second", "/mnt/doe/scans2")):
        write(folders / folder, finetune__epochs=1, cohort__path=path)
    out = tmp_path / "page.html"
    assert main(["compare", ".", str(folders / "second"), "--out", str(out)]) == 0
    page = out.read_text()
    assert "second is better" in page and "scans2" in page
    for canary in ("jane", "Jane", "/mnt", str(tmp_path), "p01", "c01"):
        assert canary not in page


def test_folders_that_end_alike_are_told_apart_by_number(folders, capsys):
    twin = folders / "deeper" / "second"
    twin.parent.mkdir()
    (folders / "second").rename(twin)
    write(folders / "second")
    subprocess.run([sys.executable, "pipeline/evaluate.py"], cwd=folders / "second", check=True)
    main(["compare", str(folders / "second"), str(twin)])
    assert "second (2) against second (1)" in capsys.readouterr().out


def test_nested_parameters_are_named_by_dotted_keys_and_lists_stay_whole():
    assert finished_runs.flat({"a": {"b": {"c": 1}, "d": [1, 2]}, "e": {}}) == {"a.b.c": 1, "a.d": [1, 2], "e": {}}
    found = differences([{"a": 1, "b": [1]}, {"a": 1, "b": [2], "c": None}])
    assert found == {"b": ["[1]", "[2]"], "c": ["(absent)", "null"]}


def test_a_first_run_without_the_settings_that_are_needed_is_refused(folders, capsys):
    values = yaml.safe_load(Path("params.yaml").read_text())
    del values["calibrate"]["bins"]
    Path("params.yaml").write_text(yaml.safe_dump(values))
    assert main(["compare", ".", "../second"]) == 1
    assert "'calibrate.bins'" in capsys.readouterr().err
