"""Whether one training overfits less than another: test losses where both fit their training cases equally well.

At the end of training the arms differ in how far they have fitted; at an equal training loss they do not. So the
comparison depends on no rule of stopping. A fold in which one arm begins below all that the other ever reaches has no
equal training loss, and is left out: there a low test loss would tell of a better fit, not of less overfitting.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.summary import as_number
from pipeline.stages.evidence.statistics.runs import Floats, Trajectory
from pipeline.stages.evidence.statistics.trajectories import (
    Drawn,
    Pair,
    at,
    draw,
    mean_losses,
    over_folds,
    pairs,
    reached,
)

OVERFITTING = [
    *("arm", "reference", "train_loss", "arm_gap", "reference_gap"),
    *("difference", "lower", "upper", "minimum_detectable", "n"),
    *("folds", "words"),
]


class Gaps(NamedTuple):
    """Of a fold, in nats; first row: the sample, then its replicates.

    Attributes
    ----------
    level : (1 + R,)
        The lowest mean training loss that both arms reach.
    arm, reference : (1 + R,)
        Mean test loss less the level, when it is first reached.
    patients : (1 + R,)
        Held out, as drawn.
    n : int
        Cases held out.
    exist : bool
        Whether both arms begin at the level or above it.
    """

    level: Floats
    arm: Floats
    reference: Floats
    patients: Floats
    n: int
    exist: bool


def overfitting(trajectories: Sequence[Trajectory], arm: str, reference: str, bootstrap: Bootstrap) -> pd.DataFrame:
    """Compare the gaps between test and training loss of two arms at an equal training loss.

    Parameters
    ----------
    trajectories : sequence
        Of any arms and folds; folds that both arms trained are compared.
    bootstrap : Bootstrap
        Draws training patients and test patients alike (`trajectories.over_folds`).

    Returns
    -------
    DataFrame
        `OVERFITTING` in one row, none without a fold in common: means over folds, weighted by patients held out;
        difference = reference_gap - arm_gap, above 0 where the arm overfits less; n is the cases held out; `folds` are
        those with an equal training loss, and without one there are only words.

    Raises
    ------
    ValueError
        If the arms of a fold hold out other cases.
    """
    paired = pairs(trajectories, arm, reference)
    if not paired:
        return pd.DataFrame(columns=OVERFITTING)
    drawn = draw(paired, bootstrap)
    found = [gaps for gaps in (gaps_of(pair, drawn) for pair in paired) if gaps.exist]
    left_out = len(paired) - len(found)
    words = f"in {left_out} of {len(paired)} folds the arms never have an equal training loss" if left_out else ""
    numbers = _means(found, bootstrap.confidence) if found else [None] * 7
    row = (arm, reference, *numbers, sum(gaps.n for gaps in found), len(found), words)
    return pd.DataFrame([row], columns=OVERFITTING)


def gaps_of(pair: Pair, drawn: Drawn) -> Gaps:
    """Take both arms' test losses where the mean training loss first is the higher of their lowest ones."""
    train = [mean_losses(one.train_losses, drawn.of(one.train_patients)) for one in pair[1:]]
    test = [mean_losses(one.test_losses, drawn.of(one.test_patients)) for one in pair[1:]]
    level = np.maximum(*(curves.min(axis=1) for curves in train))
    arm, reference = (
        at(held_out, reached(fitted, level)) - level for fitted, held_out in zip(train, test, strict=True)
    )
    patients = drawn.of(np.unique(pair.arm.test_patients)).sum(axis=1)
    exist = all(bool(curves[0, 0] >= level[0]) for curves in train)
    return Gaps(level, arm, reference, patients, len(pair.arm.test_patients), exist)


def _means(found: Sequence[Gaps], confidence: float) -> list[float | None]:
    """Compute the mean level and gaps over folds, and the difference of gaps with its limits."""
    level, arm, reference, patients = (np.stack(one) for one in list(zip(*found, strict=True))[:4])
    means = [np.average(one[:, 0], weights=patients[:, 0]) for one in (level, arm, reference)]
    apart = over_folds(reference - arm, patients, confidence)
    numbers = [*means, apart.value, apart.lower, apart.upper, apart.minimum_detectable]
    return [None if number is None else as_number(number) for number in numbers]
