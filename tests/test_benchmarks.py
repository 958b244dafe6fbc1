"""The settings of the benchmarks are settings of today: what is run once in a while must not rot meanwhile."""

import random
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from pipeline.__main__ import STAGES
from pipeline.params import load
from pipeline.stages.cohort.simulation.recipe import read_recipe
from pipeline.stages.cohort.statements import read_statements
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

import campaign
import campaign_pieces
import charts
import cohorts
import covid_ct
import finetune
import paying
import trials

ARRANGEMENTS = {
    f"{name} {one.name}": one
    for name in cohorts.COHORTS
    for one in (*cohorts.COHORTS[name]().evaluated, cohorts.COHORTS[name]().oracle)
}
ARRANGEMENTS |= {what: finetune.arrangement_of(what, ("0",)) for what in ("validation", "official", "grouped", "wbc")}
ARRANGEMENTS |= {f"paying {name}": one for name, one in paying.COHORTS.items()}


def loaded(folder):
    return load(folder / "params.yaml")


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_every_arrangement_of_a_cohort_has_parameters_that_are_accepted(tmp_path, name):
    trials.configure(tmp_path, ARRANGEMENTS[name].changes, {"seed": 1})
    assert loaded(tmp_path).seed == 1


@pytest.mark.parametrize("method", trials.METHODS)
def test_every_method_that_is_compared_is_one_of_adapt(tmp_path, method):
    trials.configure(tmp_path, {"adapt": trials.METHODS[method]})
    assert loaded(tmp_path).adapt.strength == trials.METHODS[method]["strength"]


@pytest.mark.parametrize("recipe", finetune.RECIPES)
def test_every_recipe_that_is_compared_is_one_of_finetune(tmp_path, recipe):
    trials.configure(tmp_path, {"finetune": finetune.RECIPES[recipe]})
    assert loaded(tmp_path).finetune.strategy == finetune.RECIPES[recipe]["strategy"]


@pytest.mark.parametrize("split", covid_ct.SPLITS)
def test_covid_ct_runs_with_parameters_and_a_card_that_are_accepted(tmp_path, split):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    asked = Namespace(split=split, seed=3, method=["simclr"], strength=None, epochs=12, open=True)
    covid_ct.configure(tmp_path / "params.yaml", asked)
    found = loaded(tmp_path)
    assert (found.seed, found.adapt.method, found.adapt.epochs, found.calibrate.test) == (3, "simclr", 12, "open")
    assert read_statements(tmp_path / found.cohort.path / "card.yaml")["data_licence"].endswith("research use only.")


def test_the_campaign_has_parameters_that_are_accepted_and_names_stages(tmp_path):
    for name in ("params.yaml", "data/demo/recipe.yaml", "data/demo/cohort.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    campaign.edit(tmp_path / "params.yaml", campaign.CHANGES)
    assert loaded(tmp_path).adapt.encoder == "test_efficientnet"
    campaign.edit(tmp_path / "data/demo/recipe.yaml", {"sites": {"north": {"patients": {"development": 3}}}})
    assert read_recipe(tmp_path / "data/demo").sites["north"].patients["development"] == 3
    assert {words.split()[0] for words in campaign_pieces.READERS.values()} <= {*STAGES, "verify"}
    assert campaign_pieces.Project(tmp_path).hashes("verify data/released/model") == {}


def test_the_campaign_flips_one_bit_keeps_the_time_and_puts_all_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project, file = campaign_pieces.Project(tmp_path / "project"), Path("data/prepared/index.csv")
    seen = []
    monkeypatch.setattr(project, "hashes", lambda words: {"data/split": "a"})
    monkeypatch.setattr(
        project, "attempt", lambda words: (seen.append((file.read_bytes(), file.stat())), (1, "error: "))[1]
    )
    for path in (file, Path("data/released/model/card")):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(100))
    known = file.stat()
    assert campaign_pieces.flip(project, str(file), file, random.Random(0), tmp_path / "bundle.zip") == "noticed"
    [(content, then)] = seen
    assert sum(byte.bit_count() for byte in content) == 1 and then.st_mtime_ns == known.st_mtime_ns
    assert file.read_bytes() == bytes(100) and file.stat().st_mtime_ns == known.st_mtime_ns


@pytest.mark.parametrize("chart", charts.CHARTS, ids=lambda chart: chart.page)
def test_each_chart_of_the_results_is_drawn_from_its_table(chart):
    page = ROOT / f"docs/results/{chart.page}"
    assert page.with_suffix(".svg").read_text() == charts.drawn(chart), "run python benchmarks/charts.py"
    assert f"({chart.page}.svg)" in page.with_suffix(".md").read_text()


def test_a_chart_moves_with_the_numbers_of_its_table():
    rows = charts.by_column({"ours": "us", "theirs": "them"})([["set", "ours", "theirs"], ["a", ".9, 1", "none"]])
    assert rows.series == {"us": [(0.9, 0.9, 0.9)], "them": [None]}
    low, high = (charts.Scale(0.5, 1.0, log=False).along(value) for value in (0.6, 0.9))
    assert low < high
