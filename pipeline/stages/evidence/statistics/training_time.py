"""Compare how long two arms train until they are equally good: in epochs, in images through the encoder, in seconds.

The time of both arms is measured to the lowest mean test loss that both reach. If the arm reaches the reference's best
loss, that is the level; if not, the level is the arm's own best, so that exchanging the arms inverts the ratio. Using
the arm's whole training time instead would make arms that differ only by chance look slower: in simulations of
trainings that end in overfitting, in 32 to 58 of 100 cohorts.
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
    """When both arms of a fold first reach the level, on the sample and then on each replicate.

    Attributes
    ----------
    arm, reference : (1 + R,)
        In epochs; epoch 0 is the linear probe.
    reached : bool
        Whether the arm reaches the reference's lowest loss.
    at_start : bool
        Whether the reference is best at epoch 0, so that training never improved it.
    """

    arm: Floats
    reference: Floats
    reached: bool
    at_start: bool


def trajectories_table(trajectories: Sequence[Trajectory]) -> pd.DataFrame:
    """Tabulate mean losses over cases in nats, one row per training and epoch; columns `TRAJECTORIES`."""
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
        Of any arms and folds; the folds trained by both arms are compared. Epochs spent on patience count.
    bootstrap : Bootstrap
        Draws patients (`trajectories.over_folds`); a patient has one weight in all folds.

    Returns
    -------
    DataFrame
        Columns `TIME_TO_QUALITY`, one row per unit; none without a common fold. Values and ratio (reference / arm; 3
        means three times faster) are geometric means over folds; epochs count from 1, the probe. `lower` is empty
        unless the arm reaches the reference's best in every fold (`reached`), because no speed-up can be claimed then.
        `minimum_detectable` is the smallest ratio that would be detected with 80 % power.

    Raises
    ------
    ValueError
        If passes or seconds do not start above 0, or decrease, or the arms of a fold hold out different cases.
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
    arm, reference = (mean_losses(one.test_losses, drawn.of(one.test_patients)) for one in pair.both)
    arm_best, reference_best = arm.min(axis=1), reference.min(axis=1)
    level = np.maximum(arm_best, reference_best)
    return Times(
        arm=reached(arm, level),
        reference=reached(reference, level),
        reached=bool(arm_best[0] <= reference_best[0]),
        at_start=bool(reference[0].argmin() == 0),
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
    """Interpolate the cost of a training at fractional epochs (1 + R,)."""
    numbers = np.arange(len(one.passes))
    costs = {"epochs": numbers + 1.0, "passes": one.passes, "seconds": one.seconds}[unit]
    if not (costs[0] > 0 and (np.diff(costs) >= 0).all()):
        raise ValueError(f"fold {one.fold}, {one.arm}: {unit} must start above 0 and must not decrease")
    spent: Floats = np.interp(epochs, numbers, costs)
    return spent


def _words(times: Sequence[Times]) -> str:
    """Explain where the ratio does not compare the time to the best loss of a trained reference."""
    short, at_start = sum(not one.reached for one in times), sum(one.at_start for one in times)
    words = []
    if short:
        words.append(
            f"in {short} of {len(times)} folds the arm does not reach the reference's best loss; "
            "the time there is that to the arm's own best, and no speed-up is claimed"
        )
    if at_start:
        words.append(f"in {at_start} of {len(times)} folds the reference is best before any training")
    return "; ".join(words)


def _epochs(one: Trajectory) -> Iterator[tuple[float, ...]]:
    train, test = (plain_mean(losses) for losses in (one.train_losses, one.test_losses))
    return zip(one.passes, one.seconds, train, one.validation_loss, test, strict=True)
