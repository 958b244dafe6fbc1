"""Define the training from random weights, the experimental arm that transfer has to beat.

It gets what a randomly initialised network needs: normalisation statistics learned from the batches, one learning rate
for all stages, its own best rate, and a longer schedule (He, Girshick, Dollar 2019, "Rethinking ImageNet
pre-training", section 3).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.learning.training.recipe import Recipe

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SHARES = (0.25, 0.5)  # fractions of the training patients on which rates are tried
TRIAL_EPOCHS = 10
LONGER = 3  # times the epochs of the other arms


def recipe_from_scratch(recipe: Recipe, rate: float, epochs: int) -> Recipe:
    """Turn the recipe of fine-tuning into one for random initial weights."""
    patience = min(recipe.patience * LONGER, epochs)
    longer = replace(recipe, epochs=epochs, patience=patience, learning_rate=rate, rate_decay=1.0)
    return replace(longer, average="none", batch_statistics=True)


def passes_of_search(passes_of_epoch: float) -> float:
    """Count the passes that the search for a rate costs, given those of an epoch over all training cases."""
    tried, total = len(RATES), 0.0
    for share in SHARES:
        total += tried * share * TRIAL_EPOCHS * passes_of_epoch
        tried = max(tried // 2, 1)
    return total


def best_rate(attempt: Callable[[float, float], float], rates: Sequence[float] = RATES) -> float:
    """Choose a rate by successive halving over fractions of the training patients.

    (Jamieson, Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization", algorithm 1,
    with patients as the resource.)

    Parameters
    ----------
    attempt : callable
        attempt(rate, share) gives the lowest validation loss of a short training on that fraction of patients.
    """
    left = list(rates)
    for share in SHARES:
        losses = {rate: attempt(rate, share) for rate in left}
        left = sorted(left, key=losses.__getitem__)[: max(len(left) // 2, 1)]
    return left[0]
