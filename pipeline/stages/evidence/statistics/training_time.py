"""How long a training takes to become as good as another: in epochs, in images through the encoder, in seconds.

Both arms' time is taken to the lowest mean test loss that both reach. Where the arm reaches the reference's best, as it
does where it is better, that is the reference's best. Where it does not, it is the arm's own best, so that exchanging
the arms inverts the ratio. Taking the arm's whole training for its time instead would let arms that differ by chance
alone come out slower: in simulations in which training ends in overfitting, in 32 to 58 of 100 cohorts.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.summary import as_number
from pipeline.stages.evidence.statistics.runs import Floats, Trajectory
from pipeline.stages.evidence.statistics.trajectories import (
    Drawn,
    Pair,
    draw,
    mean_losses,
    over_folds,
    pairs,
    plain_mean,
    reached,
)

TRAJECTORIES = ["arm", "fold", "epoch", "passes", "seconds", "train_loss", "validation_loss", "test_loss"]
TIME_TO_QUALITY = [
    *("arm", "reference", "unit", "arm_value", "reference_value", "ratio", "lower", "upper"),
    *("reached", "folds", "minimum_detectable", "words"),
]
UNITS = ("epochs", "passes", "seconds")


class Times(NamedTuple):
    """When both arms of a fold first are as good as both become; first row: the sample, then its replicates.

    Attributes
    ----------
    arm, reference : (1 + R,)
        In epochs from 0, the probe.
    reached : bool
        Whether the arm comes down to the reference's lowest loss.
    at_start : bool
        Whether the reference is best at epoch 0: training never improved it.
    """

    arm: Floats
    reference: Floats
    reached: bool
    at_start: bool


def trajectories_table(trajectories: Sequence[Trajectory]) -> pd.DataFrame:
    """Table `TRAJECTORIES`: mean losses over cases, in nats, one row per training and epoch."""
    rows = [
        (one.arm, one.fold, epoch, *map(as_number, numbers))
        for one in trajectories
        for epoch, numbers in enumerate(_epochs(one))
    ]
    return pd.DataFrame(rows, columns=TRAJECTORIES)


def time_to_quality(trajectories: Sequence[Trajectory], arm: str, reference: str, bootstrap: Bootstrap) -> pd.DataFrame:
    """Compare how long two arms train until they are equally good; see the top of this file.

    Parameters
    ----------
    trajectories : sequence
        Of any arms and folds; folds that both arms trained are compared. Patience that ends a training is part of it.
    bootstrap : Bootstrap
        Draws patients (`trajectories.over_folds`); a patient has one weight in all folds.

    Returns
    -------
    DataFrame
        `TIME_TO_QUALITY`, a row per unit; none without a fold in common. Values and ratio (reference / arm: 3 is three
        times faster) are geometric means over folds; an epoch counts from 1, the probe. `lower` is empty unless the arm
        reaches the reference's best in every fold (`reached`): no speed-up can be claimed. `minimum_detectable` is the
        least ratio that would have been found with 80 % power.

    Raises
    ------
    ValueError
        If passes or seconds do not begin above 0 or fall, or the arms of a fold hold out other cases.
    """
    paired = pairs(trajectories, arm, reference)
    if not paired:
        return pd.DataFrame(columns=TIME_TO_QUALITY)
    drawn = draw(paired, bootstrap)
    times = [times_of(pair, drawn) for pair in paired]
    rows = [(arm, reference, unit, *_row(paired, times, unit, bootstrap.confidence)) for unit in UNITS]
    return pd.DataFrame(rows, columns=TIME_TO_QUALITY)


def times_of(pair: Pair, drawn: Drawn) -> Times:
    """Find when the arms of a fold first reach the higher of their lowest test losses."""
    arm, reference = (mean_losses(one.test_losses, drawn.of(one.test_patients)) for one in pair[1:])
    best_arm, best = arm.min(axis=1), reference.min(axis=1)
    level = np.maximum(best_arm, best)
    return Times(
        reached(arm, level), reached(reference, level), bool(best_arm[0] <= best[0]), bool(reference[0].argmin() == 0)
    )


def _row(paired: Sequence[Pair], times: Sequence[Times], unit: str, confidence: float) -> tuple[Any, ...]:
    arm = np.log([_cost(pair.arm, time.arm, unit) for pair, time in zip(paired, times, strict=True)])
    reference = np.log([_cost(pair.reference, time.reference, unit) for pair, time in zip(paired, times, strict=True)])
    ratio = over_folds(reference - arm, np.ones_like(arm), confidence)
    in_folds = sum(time.reached for time in times)
    found = [arm[:, 0].mean(), reference[:, 0].mean(), ratio.value, ratio.lower, ratio.upper, ratio.minimum_detectable]
    numbers = [None if number is None else as_number(np.exp(number)) for number in found]
    if in_folds < len(times):
        numbers[3] = None
    return (*numbers[:5], in_folds, len(times), numbers[5], _words(times))


def _cost(one: Trajectory, epochs: Floats, unit: str) -> Floats:
    """Read what a training has cost at fractional epochs (1 + R,)."""
    numbers = np.arange(len(one.passes))
    costs = {"epochs": numbers + 1.0, "passes": one.passes, "seconds": one.seconds}[unit]
    if not (costs[0] > 0 and (np.diff(costs) >= 0).all()):
        raise ValueError(f"fold {one.fold}, {one.arm}: {unit} must begin above 0, with the probe's own, and never fall")
    spent: Floats = np.interp(epochs, numbers, costs)
    return spent


def _words(times: Sequence[Times]) -> str:
    """Say where the ratio is not the time to a reference's best that training brought about."""
    short, at_start = (sum(marks) for marks in zip(*((not one.reached, one.at_start) for one in times), strict=True))
    words = []
    if short:
        words.append(
            f"the arm does not reach the reference's best in {short} of {len(times)} folds,"
            " where the time is that to the arm's own best; no speed-up is claimed"
        )
    if at_start:
        words.append(f"the reference is best before any training in {at_start} of {len(times)} folds")
    return "; ".join(words)


def _epochs(one: Trajectory) -> Iterator[tuple[float, ...]]:
    train, test = (plain_mean(losses) for losses in (one.train_losses, one.test_losses))
    return zip(one.passes, one.seconds, train, one.validation_loss, test, strict=True)
