"""Options, outputs and errors that several commands share, and `import` and `plan`."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import params
from pipeline.__main__ import main
from pipeline.commands.plan import run
from pipeline.imaging.geometry import Geometry
from tests.conftest import ROOT, shared
from tests.stages.conftest import project  # noqa: F401 - a fixture

FOLDER = "data/raw/new"


def table_of_images(root, name="t.csv"):
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    rows = [(f"{number}.png", "ill" if number % 2 else "well", f"p{number}") for number in range(6)]
    pd.DataFrame(rows, columns=["file", "label", "who"]).to_csv(root / name, index=False)
    return str(root / name)


def test_import_tells_what_was_taken_and_what_to_set(project, tmp_path, capsys):  # noqa: F811
    project()
    assert (
        main(["import", "csv", table_of_images(tmp_path), "--into", FOLDER, "--image", "file", "--patient", "who"]) == 0
    )
    printed = capsys.readouterr().out
    assert "taken: 6 images of 6 patients" in printed and f"cohort.path: {FOLDER}" in printed


def test_import_refuses_a_wrong_column_by_its_option(project, tmp_path, capsys):  # noqa: F811
    project()
    assert main(["import", "csv", table_of_images(tmp_path), "--into", FOLDER]) == 1
    assert "name it with --image" in capsys.readouterr().err


def test_plan_tells_stages_values_time_and_disk_before_anything_ran(project, capsys):  # noqa: F811
    root = project(preprocess__image_size="auto", finetune__strategy="auto")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    assert main(["plan", "--minutes", "10"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"evidence.budget: \d+000 takes about 10 min here", printed)
    assert "stages to run: cohort, preprocess, split, adapt@0" in printed and "release, report\n" in printed
    assert re.search(r"cases: \d+ images", printed)
    assert "preprocess.image_size: 64 (auto)" in printed
    assert "finetune.strategy: auto, one of knn, probe, last_stage, full, within" in printed
    assert "finetune.budget: 10000 passes in each fold" in printed
    assert re.search(r"time, about: \d+ min", printed) and re.search(r"disk, about: \d+ MB", printed)
    assert not (root / "data" / "prepared").exists()


@pytest.mark.parametrize(
    ("finetune", "adapt", "said"),
    [
        ({"strategy": "gradual"}, {}, "gradual"),
        ({"strategy": "full"}, {"method": "combat"}, "probe"),
        ({}, {}, "auto, one of knn, probe, last_stage, lp_ft, full, within finetune.budget: 10000 p"),
        ({"budget": 5}, {"method": "combat"}, "auto, one of knn, probe, within finetune.budget: 5 p"),
        ({}, {"method": "coral"}, "lp_ft (auto, because adapt.method is coral)"),
        ({}, {"method": "coral", "strength": 0.0}, "auto, one of knn, probe, last_stage, lp_ft, full, within"),
        ({}, {"method": "auto"}, "passes in each fold (but lp_ft if adapt.method: auto chooses coral)"),
    ],
)
def test_plan_names_the_recipes_that_finetune_may_take(finetune, adapt, said):
    asked = changed(finetune={"strategy": "auto"} | finetune, adapt=adapt)
    assert said in run.describe_recipes(run.recipes_of(asked, 5), asked)


def test_plan_counts_what_auto_may_spend_in_every_fold_and_nothing_where_there_is_no_choice():
    geometry = Geometry("image", 128, 1, 1, None, "pad", "keep")

    def passes(**finetune):
        asked = changed(finetune=finetune)
        return run.passes_of(asked, geometry, 10, run.recipes_of(asked, 5))

    folds = len(params.load(ROOT / "params.yaml").split.folds)
    assert passes(strategy="auto") - passes(strategy="lp_ft") == 10_000 * folds
    assert passes(strategy="auto", budget=0) == passes(strategy="lp_ft") == passes(strategy="lp_ft", budget=9)


def changed(**sections):
    """Take params.yaml with some values of some sections changed."""
    known = params.load(ROOT / "params.yaml")
    return known.model_copy(
        update={name: getattr(known, name).model_copy(update=values) for name, values in sections.items()}
    )


@pytest.mark.parametrize("name", ["predict", "verify"])
def test_help_names_the_bundle_that_the_demo_writes(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = re.findall(r"data/released/\w+", " ".join(capsys.readouterr().out.split()))
    assert shown == [f"data/released/{params.load(ROOT / 'params.yaml').release.name}"]


@pytest.mark.parametrize("name", ["plan", "cohort", "predict x y"])
def test_outside_a_project_the_top_folder_is_asked_for(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    assert main(name.split()) == 1
    assert re.search("top folder|is not there", capsys.readouterr().err)


@pytest.mark.parametrize("name", ["predict bundle scan", "monitor bundle results.csv", "compare a b", "encoders"])
def test_where_a_result_cannot_be_written_is_said_before_anything_is_computed(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for place, why in {"file/results.csv": "exists", ".": "directory"}.items():
        assert main([*name.split(), "--out", place]) == 1
        told = capsys.readouterr().err
        assert told.startswith(f"error: --out: {place} cannot be written") and why in told
    main([*name.split(), "--out", "new/results.csv"])  # something else is wrong, and no empty file is left behind
    assert "--out" not in capsys.readouterr().err and list(Path("new").iterdir()) == []


def test_covid_ct_is_imported_whole(tmp_path, capsys):
    source = shared("covid_ct") / "labels.csv"
    columns = ["--image", "file", "--patient", "patient", "--split", "split", "--rename", "0=noncovid", "1=covid"]
    assert main(["import", "csv", str(source), "--into", str(tmp_path / "covid"), "--link", *columns]) == 0
    printed = capsys.readouterr().out
    assert "taken: 746 images" in printed and "left out: 0" in printed
    assert "test, covid: 98" in printed and "test, noncovid: 105" in printed
