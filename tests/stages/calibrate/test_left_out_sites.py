"""Sites left out, seen and blind, and the evaluation of the search: split and calibrate on hand-written inputs."""

import re

import numpy as np
import pandas as pd
import pytest

from pipeline import params, paths
from pipeline.errors import UserError
from pipeline.metrics.calibrators.fitting import Unsuitable, fit_temperature
from pipeline.stages.calibrate import evaluated_sets
from tests.stages.running import refusal, run, run_all

FOLDS = [0, 1, 2, "final"]
NAMES = ["without-next-door", "blind-next-door"]


@pytest.fixture
def sites(project):
    """Two sites are developed on; every third patient next door is there without a label."""

    def write(**changes):
        root = project(**changes)
        table = pd.read_csv(root / "data/raw/clinic/cohort.csv", keep_default_na=False)
        number = table["patient_id"].str.split().str[-1].astype(int)
        table.loc[(table["site"] == "next door") & (number % 9 == 1), ["label", "split"]] = ["", "unlabelled"]
        table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
        run("cohort", "preprocess", "split")
        return root

    return write


def train_by_hand(folds, seen=("next door",), skill=1.0):
    """Write what adapt and finetune would: for each evaluated case logits that follow its label more or less."""
    for fold in map(str, folds):
        cases = pd.read_csv(paths.split(fold), keep_default_na=False)
        evaluated = cases[cases["role"].isin(["held_out", "test"])]
        noise = np.random.default_rng(len(fold)).normal(size=len(evaluated))
        evidence = skill * np.where(evaluated["label"] == "ill", 1, -1) + noise
        there = sorted(set(cases.loc[cases["role"] == "unlabelled", "site"]) & set(seen))
        record = {"method": "adabn", "unlabelled_sites": there, "evaluated_seen": False}
        paths.write_json(record, paths.adaptation(fold))
        paths.write_table(evaluated.assign(logit_0=0.0, logit_1=evidence), paths.predictions(fold))
        paths.model(fold).write_bytes(fold.encode())


def search_by_hand(folds, chosen="coral", candidates=("none", "coral")):
    """Write a search in which every candidate knows more than the one before, and its scores say so but one."""
    for fold in map(str, folds):
        evaluated = pd.read_csv(paths.split(fold)).query("role in ('held_out', 'test')")
        tables, search = [], []
        for step, candidate in enumerate(candidates):
            evidence = (step + 0.5) * np.where(evaluated["label"] == "ill", 1, -1)
            tables.append(evaluated[["case", "role"]].assign(candidate=candidate, logit_0=0.0, logit_1=evidence))
            scores = {"source_loss": -step, "information_maximisation": step, "soft_neighbourhood_density": -step}
            search.append({"method": candidate, "deep_embedded_validation": None, **scores})
        record = paths.read_json(paths.adaptation(fold))
        paths.write_json(record | {"asked": "auto", "method": chosen, "search": search}, paths.adaptation(fold))
        paths.write_table(pd.concat(tables), paths.search(fold))


def roles(fold):
    return pd.read_csv(paths.split(fold), keep_default_na=False)


@pytest.mark.parametrize("names", [["without-next-door"], NAMES])
def test_leaving_out_a_site_changes_no_other_fold(sites, project, names):
    sites()
    before = {fold: paths.split(str(fold)).read_bytes() for fold in FOLDS}
    assert not paths.split(names[0]).exists()
    project(split__folds=FOLDS + names)
    run("split")
    assert {fold: paths.split(str(fold)).read_bytes() for fold in FOLDS} == before
    assert {file.stem for file in paths.SPLIT.glob("*-*.csv")} == set(names)
    table, final = roles(names[0]), roles("final")
    assert (table["role"] == "held_out").sum() == 7
    assert (
        (table["role"] == "held_out") == final["role"].isin(["train", "validation"]) & (table["site"] == "next door")
    ).all()
    assert set(table.loc[table["role"].isin(["train", "validation"]), "site"]) == {"inside"}
    assert ((table["role"] == "test") == (final["role"] == "test")).all()


def test_blind_differs_from_without_only_in_unlabelled_cases_of_the_site(sites):
    sites(split__folds=FOLDS + NAMES)
    seen, blind = map(roles, NAMES)
    differs = seen["role"] != blind["role"]
    assert differs.any() and set(blind.loc[differs, "role"]) == {"excluded"}
    assert (differs == ((seen["role"] == "unlabelled") & (seen["site"] == "next door"))).all()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("without-mars", "split.folds names 'without-mars', but no .* the sites are: inside, next-door"),
        ("blind-outside", "no development case is of a site called 'outside'"),
    ],
)
def test_a_site_without_development_cases_is_an_error_listing_the_sites(sites, project, capsys, name, said):
    sites()
    project(split__folds=[*FOLDS, name])
    assert re.search(said, refusal(capsys, "split"))


@pytest.mark.parametrize(
    "name", ["with-north", "without-", "blind-a b", "blind-z\u00fcrich", "without_north", "3", "all"]
)
def test_an_unknown_fold_is_an_error_listing_the_allowed_names(project, name):
    project(split__folds=[*FOLDS, name])
    with pytest.raises(UserError, match=f"split.folds names '{name}', .* 0, 1, 2, final, without-SITE and blind-SITE"):
        params.load()


def test_names_of_sites_are_told_from_numbers(project):
    project(split__folds=[*FOLDS, "without-blind-1", "blind-3T"])
    split = params.load().split
    assert split.numbered == ("0", "1", "2") and split.left_out == ("without-blind-1", "blind-3T")


def test_sites_left_out_go_through_all_stages(sites):
    sites(split__folds=FOLDS + NAMES)
    run_all([*map(str, FOLDS), *NAMES])
    table = pd.read_csv(paths.LEFT_OUT)
    assert table["fold"].tolist() == NAMES and set(table["site"]) == {"next door"}
    assert table["unlabelled"].tolist() == ["seen", "unseen"] and set(table["state"]) == {"calibrated"}
    assert paths.REPORT.exists() and "without-next-door" in paths.REPORT.read_text()


def test_sites_left_out_change_no_pooled_metric_and_no_calibrator(sites, project):
    sites(split__folds=FOLDS + NAMES)
    train_by_hand(FOLDS + NAMES)
    run("calibrate")
    names = [
        paths.CALIBRATOR,
        paths.STAMPS,
        paths.ALL_METRICS,
        paths.ROC,
        paths.PREDICTIONS,
        *paths.METRICS_POOLED.iterdir(),
    ]
    kept = {file: file.read_bytes() for file in names}
    assert len(pd.read_csv(paths.LEFT_OUT)) == 2
    project(split__folds=FOLDS)
    run("calibrate")
    assert {file: file.read_bytes() for file in kept} == kept
    assert pd.read_csv(paths.LEFT_OUT).empty and "worst_recall" in pd.read_csv(paths.LEFT_OUT)


def evaluated_out_of_fold(folds=(0, 1, 2)):
    """The held-out cases of some folds: logits, labels and patients."""
    cases = pd.concat([pd.read_csv(paths.predictions(str(fold))).query("role == 'held_out'") for fold in folds])
    return cases, (cases["label"] == "ill").to_numpy().astype(int)


def test_a_left_out_site_is_calibrated_on_all_other_patients(sites):
    sites(split__folds=FOLDS + NAMES)
    train_by_hand(FOLDS + NAMES, skill=0.3)
    run("calibrate")
    scored, truth = evaluated_out_of_fold(["without-next-door"])
    cases, labels = evaluated_out_of_fold()
    others = ~cases["patient"].isin(scored["patient"]).to_numpy()
    assert (cases.loc[others, "site"] == "inside").all() and 0 < others.sum() < len(others)
    temperature = fit_temperature(cases.loc[others, ["logit_0", "logit_1"]].to_numpy(), labels[others]).value
    losses = np.log1p(np.exp(np.where(truth, -1, 1) * scored["logit_1"] / temperature))
    row = pd.read_csv(paths.LEFT_OUT).set_index("fold").loc["without-next-door"]
    assert row["log_loss"] == pytest.approx(losses.mean(), abs=1e-6) and abs(temperature - 1) > 0.01
    assert row["state"] == "calibrated"
    found = scored["logit_1"].to_numpy() > 0
    truth = truth.astype(bool)
    assert row["worst_recall"] == pytest.approx(min(found[truth].mean(), 1 - found[~truth].mean()), abs=1e-6)
    assert (row["n"], row["patients"], row["events"]) == (len(scored), scored["patient"].nunique(), truth.sum())
    assert row["log_loss_lower"] < row["log_loss"] < row["log_loss_upper"]


def test_no_patient_of_a_left_out_site_takes_part_in_its_calibration(sites):
    folds = [*FOLDS, "without-next-door"]
    root = sites(split__folds=folds)
    table = pd.read_csv(root / "data/raw/clinic/cohort.csv", keep_default_na=False)
    of_one = table.index[table["patient_id"] == "Jane Doe 0"]  # two images, both inside
    table.loc[of_one[0], "site"] = "next door"
    table.to_csv(root / "data/raw/clinic/cohort.csv", index=False)
    run("cohort", "preprocess", "split")
    train_by_hand(folds, skill=0.3)
    run("calibrate")
    before = pd.read_csv(paths.LEFT_OUT)
    there = set(roles("without-next-door").query("role == 'held_out'")["patient"])
    touched = set()
    for fold in ("0", "1", "2"):
        cases = pd.read_csv(paths.predictions(fold), keep_default_na=False)
        mask = cases["patient"].isin(there)
        touched |= set(cases.loc[mask & (cases["role"] == "held_out"), "site"])
        paths.write_table(cases.assign(logit_1=cases["logit_1"].mask(mask, 9.0)), paths.predictions(fold))
    assert touched == {"inside", "next door"}
    run("calibrate")
    pd.testing.assert_frame_equal(pd.read_csv(paths.LEFT_OUT), before)
    cases = pd.read_csv(paths.predictions("1"), keep_default_na=False)
    mask = ~cases["patient"].isin(there)
    paths.write_table(cases.assign(logit_1=cases["logit_1"].mask(mask, 0.1)), paths.predictions("1"))
    run("calibrate")
    assert pd.read_csv(paths.LEFT_OUT)["log_loss"].tolist() != before["log_loss"].tolist()


def test_a_left_out_site_stays_uncalibrated_if_the_method_is_unsuitable(sites, monkeypatch):
    sites(split__folds=FOLDS + NAMES)
    train_by_hand(FOLDS + NAMES)

    def unsuitable(*known):
        raise Unsuitable("too few")

    monkeypatch.setattr(evaluated_sets, "fitted", unsuitable)
    run("calibrate")
    row = pd.read_csv(paths.LEFT_OUT).set_index("fold").loc["without-next-door"]
    scored, truth = evaluated_out_of_fold(["without-next-door"])
    losses = np.log1p(np.exp(np.where(truth, -1, 1) * scored["logit_1"]))
    assert row["log_loss"] == pytest.approx(losses.mean(), abs=1e-6) and row["state"] == "uncalibrated"


def test_the_table_says_whether_unlabelled_images_were_seen_or_exist(sites):
    sites(split__folds=[*FOLDS, *NAMES, "without-inside"])
    train_by_hand([*FOLDS, *NAMES, "without-inside"])
    run("calibrate")
    assert pd.read_csv(paths.LEFT_OUT)["unlabelled"].tolist() == ["seen", "unseen", "none there"]
    train_by_hand([*FOLDS, *NAMES, "without-inside"], seen=())
    run("calibrate")
    assert pd.read_csv(paths.LEFT_OUT)["unlabelled"].tolist() == ["unseen", "unseen", "none there"]


def test_a_class_with_recall_zero_is_listed_with_its_scope(sites):
    sites(split__folds=FOLDS + NAMES)
    train_by_hand(FOLDS + NAMES, skill=20.0)
    run("calibrate")
    assert pd.read_csv(paths.COLLAPSES).empty
    for fold in ("1", "blind-next-door"):
        table = pd.read_csv(paths.predictions(fold))
        paths.write_table(table.assign(logit_1=-9.0), paths.predictions(fold))
    run("calibrate")
    table = pd.read_csv(paths.COLLAPSES)
    assert table.columns.tolist() == ["scope", "class", "n", "recall"]
    assert table["scope"].tolist() == ["fold_1", "blind-next-door"] and set(table["class"]) == {"ill"}
    events = pd.read_csv(paths.predictions("blind-next-door")).query("role == 'held_out' and label == 'ill'")
    assert table["n"].iloc[1] == len(events) and (table["recall"] == 0).all()


def test_without_a_search_its_tables_have_a_header_only(sites):
    sites()
    train_by_hand(FOLDS)
    run("calibrate")
    for file, column in ((paths.SEARCH, "regret"), (paths.VALIDATORS, "kendall_tau")):
        table = pd.read_csv(file)
        assert table.empty and table.columns[0] == "scope" and column in table


def test_the_search_is_evaluated_on_the_folds_and_on_an_open_test_set(sites, project):
    sites(calibrate__test="closed")
    train_by_hand(FOLDS)
    search_by_hand(FOLDS, chosen="none")
    run("calibrate")
    assert set(pd.read_csv(paths.SEARCH)["scope"]) == set(pd.read_csv(paths.VALIDATORS)["scope"]) == {"internal"}
    project(calibrate__test="open")
    run("calibrate")
    table = pd.read_csv(paths.SEARCH).set_index(["scope", "candidate"])
    assert table.index.tolist() == [(s, r) for s in ("internal", "external") for r in ("none", "coral", "auto")]
    assert table["chosen_in"].tolist() == [3, 0, 3, 1, 0, 1]
    assert table["oracle"].tolist() == [False, True, False] * 2
    loss = np.log1p(np.exp([-0.5, -1.5]))
    np.testing.assert_allclose(table["log_loss"], [*loss, loss[0]] * 2, atol=1e-6)
    np.testing.assert_allclose(table["regret"].dropna(), loss[1] - loss[0], atol=1e-6)
    evaluated = pd.read_csv(paths.PREDICTIONS).groupby("scope")["case"].count()
    assert table.loc["internal", "n"].unique() == evaluated["internal"]
    assert table.loc["external", "n"].unique() == evaluated["external"]
    taus = pd.read_csv(paths.VALIDATORS).set_index(["scope", "validator"])["kendall_tau"]
    for scope in ("internal", "external"):
        np.testing.assert_array_equal(taus.loc[scope].to_numpy(), [1, 1, -1, np.nan])


def test_a_search_of_other_cases_than_the_folds_is_refused(sites, capsys):
    sites()
    train_by_hand(FOLDS)
    search_by_hand(FOLDS)
    table = pd.read_csv(paths.search("1"))
    lost = table.loc[table["role"] == "held_out", "case"].iloc[0]
    paths.write_table(table[table["case"] != lost], paths.search("1"))
    assert "run adapt --fold 1 again" in refusal(capsys, "calibrate")


def test_a_calibrator_needs_two_numbered_folds_beside_left_out_sites(sites, capsys):
    sites(split__folds=[0, "final", *NAMES])
    assert "split.folds: name at least two numbered folds" in refusal(capsys, "calibrate")
