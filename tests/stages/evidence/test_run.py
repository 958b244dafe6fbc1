"""evidence on a project of images and a tiny encoder: what is measured, what is not, and what is trained again."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline import cache, params, paths
from pipeline.paths import Role
from pipeline.stages.evidence.experiments import predictions, trainings
from pipeline.stages.evidence.experiments.networks import Arms
from pipeline.stages.evidence.experiments.splits import Split
from tests.stages.by_hand import relabel
from tests.stages.evidence.conftest import sha_of
from tests.stages.running import refusal, run

FOLDS = ("0", "1", "2")
SMALL = {"evidence__fractions": [0.5], "evidence__draws": 2, "evidence__episodes": 4, "evidence__shots": [1, 3]}
IN_FULL = {"evidence__budget": 100_000, "finetune__epochs": 1, "evidence__draws": 1}


def table(name):
    return pd.read_csv(paths.evidence(name), keep_default_na=False, na_values=[""])


def adapted(folds=(*FOLDS, "final")):
    run("cohort", "preprocess", "split", *(f"adapt --fold {fold}" for fold in folds))


@pytest.fixture
def probed(project):
    """A project whose evidence was gathered without training anything."""
    project(**SMALL)
    adapted()
    run("evidence")


def test_verdicts_without_a_budget_come_from_probes_alone(probed):
    found = table("verdicts").set_index(["comparison", "promise"])
    measured = found.loc["adaptation"].loc[[1, 4, 5]]
    assert set(measured["verdict"]) <= {"helped", "no evidence", "hurt"} and set(measured["recipe"]) == {"probe"}
    assert measured[["value", "n", "patients", "minimum_detectable"]].notna().all().all()
    sets = [("external", "auc"), ("external", "log_loss"), ("internal", "auc"), ("internal", "log_loss")]
    assert list(measured.loc[[4, 5]][["scope", "metric"]].itertuples(index=False, name=None)) == sets
    others = pd.concat([found.loc["transfer"], found.loc["adaptation"].loc[[2, 3]]])
    assert set(others["verdict"]) == {"not measured"} and others["value"].isna().all()
    assert others["why"].str.contains("evidence.budget").all()
    assert not (paths.SCRATCH / "evidence").exists() and paths.read_json(paths.EVIDENCE / "record.json")["rates"] == {}


def test_every_table_is_there_and_the_verdicts_stand_in_git(probed):
    curve = table("learning_curve").query("metric == 'auc'")
    assert set(curve["arm"]) == {"imagenet", "adapted"} and sorted(set(curve["fraction"])) == [0.5, 1.0]
    assert (curve["patients"].groupby(curve["fraction"]).nunique() == 1).all()
    assert set(table("domains")["site"]) == {"inside", "next door", "outside"}
    assert set(table("few_shot")["method"]) == {"prototype", "knn", "probe"} and set(table("few_shot")["shots"]) == {
        1,
        3,
    }
    assert table("zero_shot").loc[0, "state"] == "not available"
    challenges = table("challenges")
    assert {"architecture", "knowledge", "data"} == set(challenges["challenge"])
    separable = challenges.query("name == 'linear separability'").set_index("arm")["value"]
    final = table("final").query("scope == 'internal' and metric == 'auc'").set_index("arm")["value"]
    assert separable.to_dict() == final.to_dict() and len(final) == 2
    in_git = pd.read_csv(paths.VERDICTS)
    assert len(in_git) == 12 and {"scope", "verdict", "value", "lower", "upper", "n"} <= set(in_git)


def test_labels_of_evaluated_cases_move_no_prediction(project, monkeypatch):
    project(**SMALL)
    adapted()
    kept = []

    def remember(self, key, split, logits, patients):
        kept[-1][key, split.name] = logits
        gathered(self, key, split, logits, patients)

    gathered = predictions.Gathered.add
    monkeypatch.setattr(predictions.Gathered, "add", remember)
    for flip in (False, True):
        kept.append({})
        if flip:
            for fold in (*FOLDS, "final"):
                cases = paths.read_table(paths.split(fold))
                evaluated = cases["role"].isin([Role.HELD_OUT, Role.TEST])
                other = cases["label"].map({"ill": "well", "well": "ill"})
                paths.write_table(cases.assign(label=cases["label"].where(~evaluated, other)), paths.split(fold))
        run("evidence")
    before, after = kept
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before if key[1] in (*FOLDS, "final"))


def test_a_method_that_acts_in_training_alone_is_not_probed_and_says_so(project):
    project(**SMALL, adapt__method="none")
    adapted()
    run("evidence")
    verdicts = table("verdicts").query("comparison == 'adaptation'")
    assert set(verdicts["verdict"]) == {"not measured"}
    assert verdicts.query("promise in (1, 4, 5)")["why"].str.contains("adapt.method none does not change").all()
    assert set(table("learning_curve")["arm"]) == {"imagenet"}


def test_closed_test_set_is_not_predicted_and_its_labels_stay_hidden(project):
    project(**SMALL, calibrate__test="closed")
    adapted()
    test = set(paths.read_table(paths.split("final")).query("role == 'test'")["case"])
    run("evidence")
    assert "external" not in set(table("domains")["kind"]) | set(table("final")["scope"])
    places = table("embedding")
    assert test and places.loc[places["case"].isin(test), "label"].isna().all()


def test_in_full_every_arm_is_trained_once_and_a_second_run_trains_nothing(project, monkeypatch):
    project(**SMALL | IN_FULL)
    adapted()
    trained = []
    watch = trainings.watch
    monkeypatch.setattr(trainings, "watch", lambda *given, **more: trained.append(1) or watch(*given, **more))
    run("evidence")
    first, spent = table("verdicts"), paths.read_json(paths.EVIDENCE / "record.json")["passes_spent"]
    curves = table("learning_curve").query("recipe == 'trained' and metric == 'auc'")
    assert set(curves["arm"]) == {"scratch", "imagenet", "adapted"}
    assert set(table("trajectories")["arm"]) == {"scratch", "imagenet", "adapted"}
    assert set(first.query("comparison == 'transfer' and promise in (1, 2, 4, 5)")["recipe"]) == {"trained"}
    assert 0 < spent < 100_000 and set(paths.read_json(paths.EVIDENCE / "record.json")["rates"]) >= set(FOLDS)
    once = len(trained)
    run("evidence")
    assert len(trained) == once and table("verdicts").equals(first)
    assert paths.read_json(paths.EVIDENCE / "record.json")["passes_spent"] == spent
    next(iter((paths.SCRATCH / "evidence").glob("*.npz"))).unlink()  # as if the run had been killed before this one
    run("evidence")
    assert len(trained) == once + 1 and table("verdicts").equals(first)


def test_trainings_are_reused_for_equal_code_and_starting_weights(project, code):
    project(**SMALL | IN_FULL)
    adapted()
    split = Split("0", paths.read_table(paths.split("0")))

    def names():
        cache.code_of.cache_clear()
        school = trainings.Trainings(Arms(params.for_stage("evidence")), 1000)
        return {arm: school.kept(arm, split, 2) for arm in ("adapted", "imagenet")}

    def changed(file):
        with (code / "pipeline" / file).open("a") as source:
            source.write("# changed\n")
        before, found[:] = dict(found[-1]), [names()]
        return {arm for arm in before if before[arm] != found[0][arm]}

    found = [names()]
    assert (
        changed("metrics/bands.py")
        == set()
        == changed("stages/calibrate/predictions.py")
        == changed("stages/report/run.py")
    )
    assert (
        changed("stages/finetune/fold_data.py")
        == changed("stages/evidence/experiments/splits.py")
        == {"adapted", "imagenet"}
    )
    assert changed("stages/evidence/run.py") == {"adapted", "imagenet"}
    state = torch.load("weights.pt", weights_only=True)
    torch.save({name: value * 1.5 for name, value in state.items()}, "weights.pt")
    assert names()["imagenet"] != found[0]["imagenet"]


def test_a_budget_too_small_for_a_fair_training_from_scratch_says_so(project):
    project(**SMALL | IN_FULL | {"evidence__budget": 40, "finetune__epochs": 5})
    adapted()
    run("evidence")
    transfer = table("verdicts").query("comparison == 'transfer'")
    assert set(transfer["verdict"]) == {"not measured"}
    assert transfer["why"].map(lambda why: bool(re.search("evidence.budget allows .* fewer than the 5", why))).all()


def test_a_site_left_out_is_seen_by_no_network_that_is_evaluated_there(project, monkeypatch):
    project(**SMALL)
    adapted()
    site_of = paths.read_table(paths.split("final")).set_index("case")["site"]
    seen = {}

    def remember(self, split):
        network = adapt_anew(self, split)
        seen[split.name] = set(
            site_of[split.cases.loc[split.cases["role"].isin([Role.TRAIN, Role.UNLABELLED]), "case"]]
        )
        return network

    adapt_anew = Arms.adapt_anew
    monkeypatch.setattr(Arms, "adapt_anew", remember)
    run("evidence")
    assert set(seen) == {"without-inside", "without-next-door"}
    assert "inside" not in seen["without-inside"] and "next door" not in seen["without-next-door"]


def three_classes(table):
    """A blob, or none, and every third patient something else."""
    names = sorted(set(table["patient"]))
    ill = table.drop_duplicates("patient").set_index("patient")["label"]
    return {name: "other" if number % 3 == 0 else ill[name] for number, name in enumerate(names)}


def findings(table):
    """A blob or none; edema in every second patient, not known in every third."""
    names = sorted(set(table["patient"]))
    ill = table.drop_duplicates("patient").set_index("patient")["label"] == "ill"
    edema = {name: "?edema" if number % 3 == 0 else "edema" * (number % 2) for number, name in enumerate(names)}
    return {name: ";".join(filter(None, ["blob" * bool(ill[name]), edema[name]])) or "no finding" for name in names}


@pytest.mark.parametrize(
    ("task", "classes", "label_of"),
    [
        ("multiclass", ["well", "ill", "other"], three_classes),
        ("ordinal", ["well", "other", "ill"], three_classes),
        ("multilabel", ["blob", "edema"], findings),
    ],
)
def test_every_task_has_its_verdicts_and_a_curve_for_each_class(project, task, classes, label_of):
    project(**SMALL, split__validation_fraction=0.3)
    run("cohort", "preprocess", "split")
    relabel(task, classes, label_of)
    run(*(f"adapt --fold {fold}" for fold in (*FOLDS, "final")), "evidence")
    verdicts = table("verdicts").query("comparison == 'adaptation' and promise in (1, 5)")
    assert verdicts["n"].notna().all() and verdicts["recipe"].eq("probe").all()
    assert set(table("learning_curve")["of"].dropna()) == set(classes)
    assert len(table("few_shot")) == 0 if task == "multilabel" else set(table("few_shot")["shots"]) >= {1}
    assert table("zero_shot").loc[0, "state"] == "not available"


def test_vision_language_model_predicts_and_no_table_holds_its_path(project, folder):
    model = {"evidence__vision_language": str(folder), "evidence__vision_language_sha256": sha_of(folder)}
    project(**SMALL | model, evidence__prompts={"ill": ["a bright blob"]})
    adapted()
    run("evidence")
    found = table("zero_shot").set_index("metric")
    assert set(found["state"]) == {"measured"} and set(found.index) == {"auc", "log_loss", "accuracy"}
    assert (found["n"] == len(paths.read_table(paths.split("final")).query("role in ('train', 'validation')"))).all()
    assert 0 <= found.loc["auc", "lower"] <= found.loc["auc", "value"] <= found.loc["auc", "upper"] <= 1
    assert not [file for file in paths.EVIDENCE.iterdir() if str(folder.parent) in file.read_text()]


def test_prompts_for_an_unknown_class_are_refused_with_the_parameter(project, folder, capsys):
    model = {"evidence__vision_language": str(folder), "evidence__vision_language_sha256": sha_of(folder)}
    project(**SMALL | model, evidence__prompts={"mad": ["a blob"]})
    adapted()
    assert "evidence.prompts: mad is not a class" in refusal(capsys, "evidence")
