"""Trainings whose speed is planted, and trainings that differ by chance alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics.runs import Trajectory
from pipeline.stages.evidence.statistics.training_time import (
    TIME_TO_QUALITY,
    TRAJECTORIES,
    time_to_quality,
    trajectories_table,
)

EPOCHS = 25
PASSES = 100.0 * np.arange(1, EPOCHS + 1)
FALLING = 0.3 + 0.4 * np.exp(-PASSES / 800)


def training(arm, fold, curve, n=20, noise=0.0, seed=0, names=None):
    """One training whose mean test loss is `curve`; cases differ by `noise`, the same in all epochs."""
    losses = np.asarray(curve, float)[:, None] + noise * np.random.default_rng(seed).normal(size=n)
    patients = np.array([f"{fold}-{k}" for k in range(n)]) if names is None else names
    passes = PASSES[: len(losses)]
    return Trajectory(arm, fold, passes, passes / 50, losses.mean(axis=1), losses, patients, losses, patients)


def compared(trainings, replicates=200, seed=0):
    return time_to_quality(trainings, "adapted", "imagenet", Bootstrap(replicates, 0.95, seed)).set_index("unit")


def both(arm_curve, curve, folds="012", noise=0.0):
    return [
        training(arm, fold, of_arm, noise=noise, seed=10 * number + (arm == "imagenet"))
        for number, fold in enumerate(folds)
        for arm, of_arm in (("adapted", arm_curve), ("imagenet", curve))
    ]


def test_a_planted_speed_up_of_three_is_found_in_epochs_passes_and_seconds():
    faster = 0.3 + 0.4 * np.exp(-3 * PASSES / 800)
    found = compared(both(faster, FALLING, noise=0.001))
    assert list(found.index) == ["epochs", "passes", "seconds"]
    np.testing.assert_allclose(found["ratio"].astype(float), 3, rtol=0.03)
    assert ((found["lower"] > 2) & (found["upper"] < 4) & (found["reached"] == 3) & (found["folds"] == 3)).all()
    assert found.loc["passes", "reference_value"] == pytest.approx(2500)
    assert found.loc["seconds", "arm_value"] == pytest.approx(found.loc["passes", "arm_value"] / 50, rel=1e-4)
    assert (found["words"] == "").all()


def test_identical_trainings_take_the_same_time_without_doubt():
    found = compared(both(FALLING, FALLING)).loc["passes"]
    assert (found["ratio"], found["lower"], found["upper"]) == (1, 1, 1)


def test_exchanging_the_arms_inverts_the_ratio_and_its_limit():
    trainings = both(0.34 + 0.4 * np.exp(-PASSES / 500), FALLING, noise=0.01)
    there = compared(trainings).loc["passes"]
    back = time_to_quality(trainings, "imagenet", "adapted", Bootstrap(200, 0.95, 0)).set_index("unit").loc["passes"]
    assert there["ratio"] == pytest.approx(1 / back["ratio"], rel=1e-5)
    assert there["upper"] == pytest.approx(1 / back["lower"], rel=1e-5)


def test_arm_that_misses_the_best_in_some_fold_is_not_called_faster():
    trainings = both(0.3 + 0.4 * np.exp(-3 * PASSES / 800), FALLING)
    trainings[0] = training("adapted", "0", 0.4 + 0.4 * np.exp(-9 * PASSES / 800))
    found = compared(trainings).loc["passes"]
    assert found["reached"] == 2 and found["lower"] is None and found["upper"] > found["ratio"] > 1
    assert "in 1 of 3 folds the arm does not reach the reference's best" in found["words"]


def test_a_slow_arm_is_found_slow_though_it_never_becomes_as_good():
    found = compared(both(FALLING, 0.3 + 0.4 * np.exp(-3 * PASSES / 800), noise=0.001)).loc["passes"]
    assert found["reached"] == 0 and found["upper"] < 0.5
    assert found["ratio"] == pytest.approx(1 / 3, rel=0.03)


def test_reference_that_never_improves_is_best_before_training():
    rising = np.linspace(0.7, 0.9, EPOCHS)
    found = compared(both(np.linspace(0.8, 0.3, EPOCHS), rising)).loc["epochs"]
    assert found["reference_value"] == 1
    assert found["arm_value"] == pytest.approx(1 + 0.1 / 0.5 * (EPOCHS - 1), abs=1e-5)
    assert "in 3 of 3 folds the reference is best before any training" in found["words"]


def test_trainings_that_patience_ended_early_are_compared_all_the_same():
    found = compared(both(FALLING[:10], FALLING)).loc["passes"]
    assert found["reached"] == 0 and found["ratio"] == pytest.approx(1)


def test_random_training_differences_are_seldom_called_a_speed_up():
    """Arms of one kind, with another curve in every training; drawing patients alone claims 30 of 100."""
    cohorts, claims = 150, np.zeros(2)
    for seed in range(cohorts):
        rng = np.random.default_rng(seed)
        rates, rise = 600 * np.exp(0.5 * rng.normal(size=10)), 2e-4 * PASSES
        curves = [0.4 + 0.4 * np.exp(-PASSES / rate) + rise + 0.02 * rng.normal(size=EPOCHS) for rate in rates]
        trainings = [
            training(arm, str(fold), curves[2 * fold + k], n=40, noise=0.1, seed=seed)
            for fold in range(5)
            for k, arm in enumerate(("adapted", "imagenet"))
        ]
        found = compared(trainings, replicates=100, seed=seed).loc["passes"]
        claims += [found["lower"] is not None and found["lower"] > 1, found["upper"] < 1]
    assert (claims <= binom.ppf(0.999, cohorts, 0.025)).all()


def test_where_folds_agree_the_doubt_is_that_of_the_patients():
    """Half of the patients are fitted more slowly; how many of them were drawn decides how fast the arm is."""
    slow = 0.3 + 0.4 * np.exp(-1.5 * PASSES / 800)
    fast = 0.3 + 0.4 * np.exp(-6 * PASSES / 800)
    losses = np.repeat(np.stack([slow, fast], axis=1), 10, axis=1)
    trainings = both((slow + fast) / 2, FALLING)
    trainings[::2] = [replace(one, test_losses=losses) for one in trainings[::2]]
    found = compared(trainings).loc["passes"]
    assert 1.4 < found["lower"] < 0.95 * found["ratio"] < 1.05 * found["ratio"] < found["upper"] < 4.5


def test_one_fold_gives_a_ratio_but_no_limits():
    found = compared(both(0.3 + 0.4 * np.exp(-2 * PASSES / 800), FALLING, folds="0", noise=0.001)).loc["passes"]
    assert found["ratio"] == pytest.approx(2, rel=0.03)
    assert found[["lower", "upper", "minimum_detectable"]].isna().all()


def test_only_folds_that_both_arms_trained_are_compared():
    alone = training("adapted", "9", FALLING)
    assert compared([*both(FALLING, FALLING), alone])["folds"].tolist() == [3, 3, 3]
    nothing = time_to_quality([alone], "adapted", "imagenet", Bootstrap(10, 0.95, 0))
    assert nothing.empty and list(nothing) == TIME_TO_QUALITY


def test_a_probe_that_is_said_to_cost_nothing_is_refused_by_name():
    trainings = both(FALLING, FALLING)
    trainings[2] = replace(trainings[2], passes=PASSES - 100)
    with pytest.raises(ValueError, match="fold 1, adapted: passes must start above 0"):
        compared(trainings)


def test_arms_that_hold_out_other_cases_are_refused():
    other = training("imagenet", "0", FALLING, names=np.array([f"x{k}" for k in range(20)]))
    with pytest.raises(ValueError, match="fold 0: adapted and imagenet hold out different cases"):
        compared([training("adapted", "0", FALLING), other])


def test_trajectories_are_means_over_cases_with_known_labels():
    one = training("adapted", "0", [0.5, 0.25], n=2)
    one = replace(
        one, test_losses=np.array([[0.2, 0.4, np.nan], [0.1, 0.5, np.nan]]), validation_loss=np.array([0.6, 0.7])
    )
    table = trajectories_table([one])
    assert list(table) == TRAJECTORIES
    assert table.iloc[1].tolist() == ["adapted", "0", 1, 200, 4, 0.25, 0.7, pytest.approx(0.3)]
