"""finetune.strategy: portfolio, from the split to a released model."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from pipeline import paths
from pipeline.bundle.predictor import Predictor
from pipeline.imaging.augmentation.strengths import STRONG
from pipeline.stages.finetune import fold_data
from tests.stages.clinic import RAW
from tests.stages.running import run, run_all

FULL = {"epochs": 2, "sides": [32], "instances": 2, "seeds": 1}


@pytest.fixture
def portfolio(project):
    def write(**changes):
        return project(**{"finetune__strategy": "portfolio", "finetune__full": FULL} | changes)

    return write


def until_trained(fold="0"):
    run("cohort", "preprocess", "split", f"adapt --fold {fold}", f"finetune --fold {fold}")
    table, members = paths.read_table(paths.predictions(fold)), paths.read_table(paths.member_predictions(fold))
    return table, {str(name): rows for name, rows in members.groupby("member", sort=False)}


def test_predictions_are_the_mean_probabilities_of_the_members(portfolio):
    portfolio(finetune__full=FULL | {"seeds": 2})
    table, members = until_trained()
    assert list(members) == ["probe", "full", "full-2"]
    columns = ["logit_0", "logit_1"]
    means = np.mean([softmax(rows[columns].to_numpy(float), axis=1) for rows in members.values()], axis=0)
    np.testing.assert_allclose(softmax(table[columns].to_numpy(float), axis=1), means, atol=1e-6)
    assert not np.allclose(members["full"][columns], members["full-2"][columns])
    record, network = paths.read_json(paths.recipe("0")), paths.read_json(paths.network("0"))
    assert record["strategy"] == "portfolio" and [one["name"] for one in record["members"]] == list(members)
    assert [one["test_time"]["tta"] for one in network["portfolio"]] == [["mirror"]] * 3
    assert [one["instances"]["side"] for one in network["portfolio"]] == [None, 32, 32]


def test_no_patient_is_set_aside_and_the_curve_has_no_validation_loss(portfolio):
    portfolio()
    until_trained()
    curve = pd.read_csv(paths.history("0"))
    assert set(curve["member"]) == {"probe", "full"} and curve["validation_loss"].isna().all()
    assert curve.loc[curve["member"] == "full", "epoch"].tolist() == [0, 1, 2]


def test_a_portfolio_is_released_and_predicts_as_it_was_evaluated(portfolio):
    root = portfolio(split__folds=["0", "1", "2", "final"])
    run_all()
    [bundle] = [folder for folder in paths.RELEASED.iterdir() if folder.is_dir()]
    predictor = Predictor.from_bundle(bundle)
    cases = pd.read_csv(root / RAW / "cohort.csv")
    file = root / RAW / cases.loc[cases["split"] == "test", "image"].iloc[0]
    found = predictor(file)
    evaluated = paths.read_table(paths.predictions("final"))
    logits = evaluated[["logit_0", "logit_1"]].to_numpy(float)
    assert np.abs(logits - found.output.logits).max(axis=1).min() < 1e-5
    assert "portfolio" in paths.REPORT.read_text()


def test_an_alignment_loss_is_trained_by_lp_ft_and_the_record_says_so(portfolio):
    portfolio(adapt__method="coral", adapt__target="evaluated")
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    record = paths.read_json(paths.recipe("0"))
    assert (record["asked"], record["strategy"]) == ("portfolio", "lp_ft")
    assert paths.read_table(paths.member_predictions("0")).empty


def test_an_alignment_loss_aligns_all_cases_that_full_trains_on(portfolio):
    portfolio(finetune__strategy="full", adapt__method="coral", adapt__target="evaluated")
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    assert paths.read_json(paths.recipe("0"))["strategy"] == "full"


def test_full_learns_from_views_of_the_profile_that_is_asked_for(portfolio, monkeypatch):
    seen = []

    def views(channels, seeds, strengths, windows, mask_every):
        seen.append(strengths)
        return channels.float()

    monkeypatch.setattr(fold_data, "batched_views", views)
    portfolio(finetune__full=FULL | {"augmentation": "strong"})
    run("cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0")
    assert seen and all(strengths in STRONG.values() for strengths in seen)
