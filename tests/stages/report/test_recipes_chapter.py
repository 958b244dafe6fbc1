"""The report's words on the recipe of each fold, from records that are written by hand, and one that is not."""

import re

import pandas as pd
import pytest

from pipeline import paths
from tests.stages.by_hand import record as adapted_by_hand
from tests.stages.by_hand import trained_by_hand
from tests.stages.conftest import write_status
from tests.stages.report.page import rows_of, text_of
from tests.stages.running import FOLDS, run

AUTO = "auto tried recipes"


def step(strategy, loss=0.5, difference=None, kept=True, why="the start"):
    values = {"strategy": strategy, "loss": loss, "difference": difference, "kept": kept, "why": why}
    return values | {"standard_error": difference and 0.0625, "passes": 0 if difference is None else 1234.4}


def chosen(fold, strategy, *tried, asked="auto", **head):
    """Write down which recipe a fold got."""
    head = head or {"C": 0.01}
    paths.write_json({"asked": asked, "strategy": strategy, **head, "tried": tried}, paths.recipe(fold))


def untrained(fold):
    """Leave epoch 0 alone in the training curve."""
    curve = {"member": ["probe"], "epoch": [0], "train_loss": [0.7], "validation_loss": [0.7], "best": [True]}
    paths.write_table(pd.DataFrame(curve), paths.history(fold))


@pytest.fixture
def reported(project):
    """A project that was calibrated; returns a function that writes the page and gives its section on folds."""
    project(adapt__method="adabn")
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        adapted_by_hand(fold, unlabelled_sites=[])
        trained_by_hand(fold)
        chosen(fold, "lp_ft", asked="lp_ft")
    run("calibrate")
    write_status()

    def page():
        run("report")
        return re.search(r'<h2 id="folds">.*?(?=<h2 id="discrimination">)', paths.REPORT.read_text(), re.S)[0]

    return page


def test_requested_recipe_is_shown_without_a_word_on_choosing(reported):
    markup = reported()
    header, *rows = rows_of(markup, 'id="recipes"')
    assert header[:3] == ["Fold", "Recipe", "C (inverse regularisation strength), or neighbours"]
    assert rows == [[fold, "lp_ft", "C = 0.01", "1", "1", "set by finetune.strategy"] for fold in FOLDS]
    said = text_of(markup)
    assert AUTO not in said and "Not the same recipe" not in said and "chosen among" not in said


def test_candidates_of_auto_have_loss_difference_and_cost_in_details(reported):
    tried = [
        step("knn"),
        step("probe", 0.375, -0.125, why="the loss falls"),
        step("last_stage", 0.75, 0.375, kept=False, why="the loss does not fall by more than its standard error"),
        step("full", None, kept=False, why="left out: <b>900</b> image passes at least"),
    ]
    for fold in FOLDS:
        chosen(fold, "probe", *tried)
    markup = reported()
    said = text_of(markup)
    assert AUTO in said and "nested cross-validation" in said and "No held-out and no test case took part" in said
    assert "Not the same recipe" not in said
    assert markup.count("chosen among 3</summary>") == len(FOLDS) and "<details open" not in markup
    rows = rows_of(markup, "Fold final: probe")[1:]
    assert rows[0] == ["knn", "0.500", "the first", "0", "yes", "the start"]
    assert rows[1] == ["probe", "0.375", "-0.125 (0.062)", "1234", "yes", "the loss falls"]
    assert rows[2][2:5] == ["0.375 (0.062)", "1234", "no"]
    assert rows[3] == ["full", "not tried", "no", "left out: <b>900</b> image passes at least"]
    assert re.findall(r'<tr class="total"><th scope="row">(\w+)', markup[markup.index("Fold final: probe") :]) == [
        "probe"
    ]


def test_transductive_adaptation_says_that_evaluated_cases_took_part(reported):
    stamps = paths.read_json(paths.STAMPS)
    paths.write_json(stamps | {"evaluated_images_seen": True}, paths.STAMPS)
    chosen("0", "knn", step("knn"), neighbours=3)
    said = text_of(reported())
    assert "No label of a held-out or test case took part" in said and "No held-out and" not in said


def test_folds_that_chose_differently_are_counted(reported):
    chosen("0", "knn", step("knn"), neighbours=5)
    untrained("0")
    markup = reported()
    said = text_of(markup)
    assert "Not the same recipe everywhere: lp_ft in 2, knn in 1 of 3 folds." in said
    assert "The released model got lp_ft, as did 2 of the folds." in said
    assert rows_of(markup, 'id="recipes"')[1] == ["0", "knn", "5 neighbours", "none to run", "chosen among 1 tried"]
    chosen("final", "full", asked="full")
    assert "The released model got full, which no fold did" in text_of(reported())


def test_a_fold_in_which_no_epoch_was_run_has_no_empty_curve(reported):
    assert reported().count("<svg") == len(FOLDS)
    untrained("1")
    markup = reported()
    assert markup.count("<svg") == len(FOLDS) - 1 and "Fold 1: epoch" not in markup


def test_fine_tuning_that_never_beat_the_probe_is_told_as_the_probe(reported):
    curve = {"epoch": [0, 1], "train_loss": [0.7, 0.5], "validation_loss": [0.7, 0.8], "best": [True, False]}
    paths.write_table(pd.DataFrame(curve).assign(member="probe"), paths.history("2"))
    assert rows_of(reported(), 'id="recipes"')[3] == [
        "2",
        "lp_ft",
        "C = 0.01",
        "1",
        "0, the probe",
        "set by finetune.strategy",
    ]


def test_a_fold_trained_before_recipes_were_recorded_is_told_as_such(reported):
    paths.recipe("1").unlink()
    assert rows_of(reported(), 'id="recipes"')[2] == ["1", "not recorded", "1", "1", ""]


def test_a_soup_is_not_told_as_one_epoch(reported, project):
    assert "soup" not in text_of(reported())
    project(finetune__average="soup")
    assert "mean of good epochs" in text_of(reported())


def test_what_finetune_writes_is_what_the_page_reads(reported, project):
    project(finetune__strategy="auto")
    run("adapt --fold 0", "finetune --fold 0")
    record, curve = paths.read_json(paths.recipe("0")), pd.read_csv(paths.history("0"))
    markup = reported()
    row = rows_of(markup, 'id="recipes"')[1]
    assert row[:2] == ["0", record["strategy"]]
    assert row[3] == (str(curve["epoch"].max()) if len(curve) > 1 else "none to run")
    rows = rows_of(markup, f"Fold 0: {record['strategy']}")[1:]
    assert [cells[0] for cells in rows] == [one["strategy"] for one in record["tried"]]
    assert [cells[1] for cells in rows] == [f"{one['loss']:.3f}" for one in record["tried"]]


def test_recipes_need_no_script(reported):
    markup = reported()
    markup = markup[markup.index('id="recipes"') :]
    assert "<script" not in markup and not re.search(r"<[^>]+\son\w+=", markup)
