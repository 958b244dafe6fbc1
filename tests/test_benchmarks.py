"""The settings of the benchmarks are settings of today: what is run once in a while must not rot meanwhile."""

import shutil
import sys
from argparse import Namespace

import pytest

from pipeline.params import load
from pipeline.stages.cohort.statements import read_statements
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

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
