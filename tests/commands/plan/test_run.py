"""What `plan` prints before anything has run, and how it estimates."""

import re
import subprocess
import sys

import pytest

from pipeline import params, paths
from pipeline.__main__ import main
from pipeline.bundle.layout import METADATA
from pipeline.commands.plan import run
from tests.commands.plan.changing import changed
from tests.stages.clinic import RAW, cohort, with_copy
from tests.stages.conftest import project  # noqa: F401 - a fixture
from tests.stages.running import run as run_stages


def test_plan_tells_stages_values_time_and_disk_before_anything_ran(project, capsys):  # noqa: F811
    root = project(preprocess__image_size="auto", finetune__strategy="auto")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=root, check=True)
    assert main(["plan", "--minutes", "10"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"evidence.budget: \d+000 takes about 10 min here", printed)
    assert "stages to run: cohort, preprocess, split, adapt@0" in printed and "release, report\n" in printed
    assert re.search(r"cases: \d+ images", printed)
    assert "preprocess.image_size: 64 (auto)" in printed
    assert "finetune.strategy: auto, one of knn, probe, last_stage, within" in printed
    assert "finetune.budget: 10000 passes in each fold" in printed
    assert re.search(
        r"time, about: .+ if nothing else runs on this machine(; .+ at a time)?\n  cohort      \d+", printed
    )
    assert re.search(r"\n  finetune    .*, 4 folds \(measured\)\n", printed) and "\n  release " in printed
    assert re.search(r"disk, about: \d+ MB", printed)
    assert not (root / "data" / "prepared").exists()


def test_plan_lists_all_that_the_stages_would_refuse_at_once(project, capsys, caplog):  # noqa: F811
    root = project(split__test="sites", split__test_sites=["mars"], split__n_folds=20, split__folds=["final"])
    (root / RAW / "Doe_04_0.png").write_bytes(b"broken")
    cohort(root, lambda table: table.drop(columns="patient_id"))
    with_copy(root, "Doe_01_0.png", "again", image="./Doe_01_0.png", label="ill")
    (root / RAW / "card.yaml").write_text("ethic: Number 5.")
    paths.write_json({"cohort": "another"}, paths.bundle(params.load().release.name) / METADATA)
    assert main(["plan"]) == 1
    out, errors = capsys.readouterr()
    assert "refused   1  unreadable" in out and "every image counts as a patient" in caplog.text
    assert errors.count("error: ") == 1 and "error: 6 problems:" in errors
    assert "unknown field 'ethic'" in errors and "holds a model of another cohort" in errors
    for said in ("split.test_sites names 'mars'", "labels contradict", "class 'ill' has 1", "class 'well' has 1"):
        assert said in errors
    assert not (root / "data" / "cohort").exists()


def test_plan_tells_the_lines_that_dvc_misses_in_a_short_params_file(project, capsys):  # noqa: F811
    root = project()
    (root / "params.yaml").write_text("cohort: {path: data/raw/clinic}\nsplit: {n_folds: 3, folds: [final]}\n")
    run_stages("cohort", "preprocess", "split")
    assert main(["plan"]) == 1
    said = capsys.readouterr().err
    assert "`dvc repro` needs these" in said and "\n  budget: 300000\n" in said and "  adapt: {}\n" in said


def test_plan_takes_the_test_set_that_the_stage_cohort_would_propose(project, capsys):  # noqa: F811
    root = project(split__test="auto", split__n_folds=3)
    cohort(root, lambda table: table.drop(columns="split"))
    assert run.check_cohort(params.load()).params.split.test == "patients"


@pytest.mark.parametrize(
    ("finetune", "adapt", "said"),
    [
        ({"strategy": "gradual"}, {}, "gradual"),
        ({"strategy": "full"}, {"method": "combat"}, "probe"),
        ({"strategy": "portfolio"}, {}, "portfolio of probe and full, preset auto"),
        ({"strategy": "portfolio"}, {"method": "coral"}, "lp_ft (portfolio, because adapt.method is coral)"),
        ({"strategy": "portfolio"}, {"method": "combat"}, "probe (portfolio, because adapt.method is combat)"),
        ({}, {}, "auto, one of knn, probe, last_stage, lp_ft, within finetune.budget: 10000 p"),
        ({"budget": 5}, {"method": "combat"}, "auto, one of knn, probe, within finetune.budget: 5 p"),
        ({}, {"method": "coral"}, "lp_ft (auto, because adapt.method is coral)"),
        ({}, {"method": "coral", "strength": 0.0}, "auto, one of knn, probe, last_stage, lp_ft, within"),
        ({}, {"method": "auto"}, "passes in each fold (but lp_ft if adapt.method: auto chooses coral)"),
    ],
)
def test_plan_names_the_recipes_that_finetune_may_take(finetune, adapt, said):
    asked = changed(finetune={"strategy": "auto"} | finetune, adapt=adapt)
    assert said in run.describe_recipes(run.recipes_of(asked, 5), asked)


def test_plan_says_which_rows_lack_the_masks_that_the_network_is_to_see(project, capsys):  # noqa: F811
    project(preprocess__mask="crop")
    assert main(["plan"]) == 1
    assert "preprocess.mask is crop, but rows 1, 2, 3 and 27 more of cohort.csv name no mask" in capsys.readouterr().err
