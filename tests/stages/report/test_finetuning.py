from typing import get_args

import pytest

from pipeline.schema import Finetune
from pipeline.stages.report.finetuning import AVERAGES, difference, epochs, head_of, recipes, searches, why_of
from pipeline.stages.report.glossary import OF_RECIPES
from tests.stages.report.literals import values_of

STEP = {"loss": 0.5, "difference": None, "standard_error": None, "passes": 0, "kept": True, "why": "the start"}


def tried(*names, **changes):
    return [STEP | {"strategy": name} | changes for name in names]


def record(strategy="probe", **changes):
    return {"asked": "auto", "strategy": strategy, "C": 0.01, "tried": tried("knn", strategy)} | changes


def curve(*best):
    return [{"epoch": number, "best": one} for number, one in enumerate(best)]


def test_every_recipe_and_every_average_that_can_be_asked_for_has_words():
    asked = values_of(Finetune.model_fields["strategy"].annotation)
    assert len(asked) > 6 and asked - {"auto"} <= set(OF_RECIPES)
    averages = get_args(Finetune.model_fields["average"].annotation)
    assert set(averages) == set(AVERAGES)
    assert [name for name in averages if not AVERAGES[name]] == ["none"]


def test_the_kept_epoch_is_the_last_that_was_better_than_all_before():
    assert epochs(curve(True, False, True, True, False)) == {"run": 4, "kept": 3}
    assert epochs(curve(True, False)) == {"run": 1, "kept": 0}
    assert epochs(curve(True)) == {"run": 0, "kept": 0}


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"C": 10**-3.5}, "C = 0.00032"),
        ({"C": 1.0}, "C = 1"),
        ({"neighbours": 10}, "10 neighbours"),
        ({"neighbours": 1}, "1 neighbour"),
    ],
)
def test_the_head_is_told_by_its_c_or_by_its_votes(chosen, said):
    assert head_of(chosen) == said


def test_how_a_fold_came_to_its_recipe_is_told_for_every_way_there_is():
    left_out = tried("full", loss=None)
    assert why_of(record(tried=tried("knn", "probe") + left_out)) == "chosen among 2 tried"
    assert why_of(record(tried=left_out)) == "the probe, since no recipe fitted into the budget"
    assert why_of(record("lora", asked="lora", tried=[])) == "set by finetune.strategy"
    assert why_of(record("lp_ft", tried=[])).startswith("not selected: the alignment loss")
    assert why_of(record("probe", asked="full", tried=[])).startswith("instead of full: the encoder stays frozen")


def test_only_folds_in_which_several_were_tried_have_a_table_of_them():
    [search] = searches({"0": record("lp_ft", asked="lp_ft", tried=[]), "1": record("probe")})
    assert (search["fold"], search["strategy"], search["count"]) == ("1", "probe", 2)


def test_recipes_that_agree_need_no_note_and_one_that_differs_is_counted():
    assert difference({"0": "knn", "1": "knn", "final": "knn"}, "final") is None
    assert difference({}, "final") is None
    found = difference({"0": "knn", "1": "probe", "2": "probe", "final": "knn"}, "final")
    assert found == {"counts": {"probe": 2, "knn": 1}, "folds": 3, "released": "knn", "alike": 1}
    assert list(found["counts"]) == ["probe", "knn"]


def test_released_recipe_that_no_fold_got_differs_from_a_missing_model():
    assert difference({"0": "knn", "final": "full"}, "final")["alike"] == 0
    found = difference({"0": "knn", "1": "full"}, "final")
    assert found["released"] == "" and found["folds"] == 2


def test_a_fold_without_a_record_keeps_its_row_and_its_epochs():
    found = recipes({"0": None, "final": record("knn")}, {"0": curve(True, True), "final": curve(True)}, "final", "ema")
    assert found["rows"][0] == {"fold": "0", "run": 1, "kept": 1, "strategy": "", "head": "", "why": ""}
    assert [search["fold"] for search in found["searches"]] == ["final"] and found["difference"] is None


def test_averaged_weights_are_told_only_where_anything_was_trained():
    assert "ema" in recipes({"0": record()}, {"0": curve(True, True)}, "final", "ema")["average"]
    assert recipes({"0": record()}, {"0": curve(True)}, "final", "ema")["average"] == ""
    assert recipes({"0": record()}, {"0": curve(True, True)}, "final", "none")["average"] == ""
