import numpy as np
import pytest

from pipeline.learning.training.selection import choose, paired

PATIENTS = np.arange(50).astype(str)
NOISE = np.random.default_rng(0).normal(size=50) * 0.1


def searched(means, costs=None, passes=100.0):
    tried = []

    def attempt(name):
        tried.append(name)
        if means[name] is None:
            raise ValueError("it does not fit")
        return means[name] + NOISE * len(tried), (costs or {}).get(name, 0.0)

    steps = choose(list(means), lambda name: (costs or {}).get(name, 0.0), attempt, patients=PATIENTS, passes=passes)
    return [step.strategy for step in steps if step.kept], steps, tried


def test_what_pays_is_kept_and_the_last_one_kept_is_the_choice():
    kept, steps, _ = searched({"knn": 0.9, "probe": 0.7, "last_stage": 0.5, "lp_ft": 0.3})
    assert kept == ["knn", "probe", "last_stage", "lp_ft"]
    assert steps[2].difference == pytest.approx(paired(-0.2 + NOISE, PATIENTS)[0])
    assert steps[2].standard_error == pytest.approx(paired(-0.2 + NOISE, PATIENTS)[1])


def test_a_recipe_that_does_not_pay_does_not_end_the_search():
    kept, steps, tried = searched({"knn": 0.9, "probe": 0.7, "last_stage": 0.7, "lp_ft": 0.1})
    assert kept[-1] == "lp_ft" and tried == ["knn", "probe", "last_stage", "lp_ft"]
    assert "does not fall" in steps[2].why or "but not by more" in steps[2].why


def test_a_gain_within_its_standard_error_does_not_pay():
    _, error = paired(NOISE, PATIENTS)
    assert searched({"knn": 0.9, "probe": 0.7, "last_stage": 0.7 - 0.5 * error})[0][-1] == "probe"
    assert searched({"knn": 0.9, "probe": 0.7, "last_stage": 0.7 - 3 * error})[0][-1] == "last_stage"


def test_worse_probe_is_not_kept_and_does_not_end_the_search():
    kept, _, tried = searched({"knn": 0.5, "probe": 0.8, "last_stage": 0.3})
    assert tried == ["knn", "probe", "last_stage"] and kept == ["knn", "last_stage"]


def test_what_does_not_fit_into_the_budget_is_not_begun():
    kept, steps, tried = searched(
        {"knn": 0.9, "probe": 0.7, "last_stage": 0.5, "lp_ft": 0.3}, {"lp_ft": 60.0, "last_stage": 50.0}
    )
    assert tried == ["knn", "probe", "last_stage"] and kept[-1] == "last_stage"
    assert steps[-1].why == "skipped: needs at least 60 image passes, 50 passes of the budget are left"


def test_a_recipe_that_does_not_fit_the_network_is_left_out_and_says_why():
    kept, steps, _ = searched({"knn": None, "probe": 0.7, "last_stage": 0.3})
    assert kept == ["probe", "last_stage"] and steps[0].why == "skipped: it does not fit"
