"""Trainings whose gap is planted, and trainings that differ by chance alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics.overfitting import OVERFITTING, overfitting
from pipeline.stages.evidence.statistics.runs import Trajectory

EPOCHS = np.arange(15)
FITTED = 0.1 + 0.5 * np.exp(-EPOCHS / 4)


def training(arm, fold, train, test, n=20, noise=0.0, rng=None):
    """One training with these mean losses; `n` cases held out, of all the patients of five folds of `n`."""
    rng = np.random.default_rng(0) if rng is None else rng
    names = np.array([f"{k % 5}-{k}" for k in range(5 * n)])
    inside = np.char.startswith(names, str(fold))
    of_train = np.asarray(train, float)[:, None] + noise * rng.normal(size=(~inside).sum())
    of_test = np.asarray(test, float)[:, None] + noise * rng.normal(size=n)
    cost = 1.0 + np.arange(len(train))
    return Trajectory(arm, str(fold), cost, cost, of_test[:, 0], of_train, names[~inside], of_test, names[inside])


def compared(trainings, replicates=200, seed=0):
    table = overfitting(trainings, "adapted", "imagenet", Bootstrap(replicates, 0.95, seed))
    assert list(table) == OVERFITTING and len(table) == 1
    return table.iloc[0]


def planted(arm_gap, gap, noise=0.0, seed=0):
    """Five folds; the arm fits faster and further, and its test loss lies `arm_gap` above its training loss."""
    rng, faster = np.random.default_rng(seed), 0.05 + 0.55 * np.exp(-EPOCHS / 2)
    return [
        training(arm, fold, train, train + apart, noise=noise, rng=rng)
        for fold in range(5)
        for arm, train, apart in (("adapted", faster, arm_gap), ("imagenet", FITTED, gap))
    ]


def test_planted_gaps_are_recovered_at_the_training_loss_that_both_reach():
    found = compared(planted(0.1, 0.3))
    assert found["train_loss"] == pytest.approx(FITTED.min(), abs=1e-6)
    assert found[["arm_gap", "reference_gap", "difference"]].tolist() == pytest.approx([0.1, 0.3, 0.2], abs=1e-5)
    assert (found["n"], found["folds"], found["words"]) == (100, 5, "")


def test_a_planted_gap_lies_in_its_interval_and_is_told_from_none():
    cohorts = [compared(planted(0.1, 0.3, noise=0.2, seed=seed), 100, seed) for seed in range(60)]
    assert sum(found["lower"] <= 0.2 <= found["upper"] for found in cohorts) >= binom.ppf(0.001, 60, 0.95)
    assert sum(found["lower"] > 0 for found in cohorts) > 50


def test_interval_is_over_patients_where_folds_agree_and_arms_are_paired():
    """What a patient adds to both arms' losses is no reason for doubt, what is added to one of them is."""
    rng, trainings, shared = np.random.default_rng(0), planted(0.1, 0.3), planted(0.1, 0.3)
    noise = rng.normal(size=20)
    noise = (noise - noise.mean()) / noise.std()
    trainings[::2] = [replace(one, test_losses=one.test_losses + noise) for one in trainings[::2]]
    shared = [replace(one, test_losses=one.test_losses + noise) for one in shared]
    found = compared(trainings, 2000)
    assert found["upper"] - found["lower"] == pytest.approx(2 * 1.96 / np.sqrt(100), rel=0.08)
    assert (found["lower"] + found["upper"]) / 2 == pytest.approx(0.2, abs=0.03)
    found = compared(shared)
    assert found["upper"] - found["lower"] < 1e-5


def test_the_doubt_about_the_training_loss_is_part_of_the_interval():
    """Where it is reached later, test losses that rise with the epochs are higher."""
    noise = np.random.default_rng(0).normal(size=80)
    trainings = [
        training(arm, fold, FITTED, 0.6 + 0.05 * EPOCHS) for fold in range(5) for arm in ("adapted", "imagenet")
    ]
    fitted = (noise - noise.mean()) / 10
    trainings[::2] = [replace(one, train_losses=one.train_losses + fitted) for one in trainings[::2]]
    found = compared(trainings)
    assert found["difference"] == pytest.approx(0, abs=1e-6)
    assert found["lower"] < -0.01 and found["upper"] > 0.01


def test_the_least_detectable_difference_is_found_about_four_times_in_five():
    """On average over cohorts, since it is estimated in each of them."""
    least = np.mean([compared(planted(0.3, 0.3, 0.2, seed), 100, seed)["minimum_detectable"] for seed in range(30)])
    found = [compared(planted(0.3 - least, 0.3, 0.2, 100 + seed), 100, seed)["lower"] > 0 for seed in range(80)]
    assert 0.65 <= np.mean(found) <= 0.97


def test_identical_trainings_overfit_alike_without_doubt():
    trainings = [training(arm, fold, FITTED, FITTED + 0.2) for fold in range(5) for arm in ("adapted", "imagenet")]
    found = compared(trainings)
    assert found[["difference", "lower", "upper"]].tolist() == [0, 0, 0]


def test_an_arm_that_stopped_early_is_evaluated_where_it_stopped():
    short = [training("adapted", fold, FITTED[:6], FITTED[:6] + 0.2) for fold in range(5)]
    longer = [training("imagenet", fold, FITTED, FITTED + 0.05 * EPOCHS) for fold in range(5)]
    found = compared([*short, *longer])
    assert found["train_loss"] == pytest.approx(FITTED[5], abs=1e-6)
    assert found["difference"] == pytest.approx(0.05 * 5 - 0.2, abs=1e-6)


def test_random_training_differences_are_seldom_called_overfitting():
    """Arms of one kind, with another gap in every training; drawing patients alone claims far more."""
    cohorts, claims = 150, np.zeros(2)
    for seed in range(cohorts):
        rng = np.random.default_rng(seed)
        trainings = [
            training(arm, fold, FITTED, FITTED + 0.3 + 0.1 * rng.normal(), noise=0.1, rng=rng)
            for fold in range(5)
            for arm in ("adapted", "imagenet")
        ]
        found = compared(trainings, 100, seed)
        claims += [found["lower"] > 0, found["upper"] < 0]
    assert (claims <= binom.ppf(0.999, cohorts, 0.025)).all() and claims.sum() > 0


def test_the_chance_of_the_patients_alone_is_seldom_taken_for_a_difference():
    cohorts = [compared(planted(0.3, 0.3, noise=0.2, seed=seed), 100, seed) for seed in range(150)]
    missed = sum(not found["lower"] <= 0 <= found["upper"] for found in cohorts)
    assert missed <= binom.ppf(0.999, 150, 0.05)


def test_a_fold_without_an_equal_training_loss_is_left_out_and_reported():
    apart = [training("adapted", 0, FITTED / 9, FITTED / 9 + 0.5), training("imagenet", 0, FITTED, FITTED + 0.3)]
    found = compared([*apart, *planted(0.1, 0.3)[2:]])
    assert (found["folds"], found["n"]) == (4, 80)
    assert found["difference"] == pytest.approx(0.2, abs=1e-5)
    assert found["words"] == "in 1 of 5 folds the arms never have an equal training loss"
    alone = compared(apart)
    assert alone["folds"] == 0 and alone[["difference", "lower", "upper", "train_loss"]].isna().all()


def test_without_a_fold_in_common_the_table_is_empty():
    assert overfitting([training("adapted", 0, FITTED, FITTED)], "adapted", "imagenet", Bootstrap(10, 0.95, 0)).empty
