import pytest

from pipeline.learning.training.recipe import Recipe
from pipeline.stages.evidence.learners.from_scratch import (
    RATES,
    TRIAL_EPOCHS,
    best_rate,
    passes_of_search,
    recipe_from_scratch,
)
from tests.conftest import PLAIN

RECIPE = Recipe(2, epochs=30, patience=6, batch_size=16, learning_rate=1e-4, rate_decay=0.5, weight_decay=0.01, **PLAIN)


@pytest.mark.parametrize("best", RATES)
def test_the_best_rate_wins_wherever_it_stands(best):
    assert best_rate(lambda rate, share: abs(rate - best)) == best


def test_rates_that_fall_behind_are_dropped_and_the_last_share_decides():
    tried = []

    def attempt(rate, share):
        tried.append((rate, share))
        return rate if share < 0.5 else -rate

    assert best_rate(attempt) == RATES[1]  # of the two that were left, the larger shares prefer the faster
    assert [rate for rate, share in tried if share == 0.25] == list(RATES)
    assert sorted(rate for rate, share in tried if share == 0.5) == sorted(RATES)[:2]


def test_the_cost_of_the_search_is_that_of_what_it_tries():
    spent = []
    best_rate(lambda rate, share: spent.append(share * TRIAL_EPOCHS * 7.0) or 0.0)
    assert passes_of_search(7.0) == pytest.approx(sum(spent))


def test_training_from_scratch_uses_the_full_rate_in_every_stage():
    recipe = recipe_from_scratch(RECIPE, 1e-3, epochs=90)
    assert recipe.batch_statistics and recipe.rate_decay == 1 and recipe.learning_rate == 1e-3
    assert (recipe.epochs, recipe.patience) == (90, 18)
    assert recipe_from_scratch(RECIPE, 1e-3, epochs=10).patience == 10
    same = ("batch_size", "weight_decay", "class_weights", "label_smoothing", "mix")
    assert all(getattr(recipe, name) == getattr(RECIPE, name) for name in same)
