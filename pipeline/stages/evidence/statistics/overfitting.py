"""Compare the overfitting of two arms by their test losses at an equal training loss.

At the end of training the arms differ in how well they fit the training cases; at an equal training loss they do not,
and the comparison is independent of the stopping rule. A fold in which one arm starts below every training loss of the
other has no equal training loss and is left out, because a lower test loss would then mean a better fit, not less
overfitting.
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
    """Gaps between test and training loss of one fold in nats, on the sample and then on each replicate.

    Attributes
    ----------
    level : (1 + R,)
        The lowest mean training loss that both arms reach.
    arm, reference : (1 + R,)
        Mean test loss minus the level, when the level is first reached.
    patients : (1 + R,)
        Number of held-out patients, as drawn.
    n : int
        Held-out cases.
    exist : bool
        Whether both arms start at or above the level.
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
        Of any arms and folds; the folds trained by both arms are compared.
    bootstrap : Bootstrap
        Draws training patients and test patients alike (`trajectories.over_folds`).

    Returns
    -------
    DataFrame
        Columns `OVERFITTING`, one row, or none without a common fold. Means over folds are weighted by held-out
        patients; difference = reference_gap - arm_gap is above 0 if the arm overfits less; `n` counts held-out cases;
        `folds` counts the folds with an equal training loss. Without such a fold only `words` is given.

    Raises
    ------
    ValueError
        If the arms of a fold hold out different cases.
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
    """Compute both arms' gaps at the lowest mean training loss that both reach."""
    arm_train, reference_train = (mean_losses(one.train_losses, drawn.of(one.train_patients)) for one in pair.both)
    arm_test, reference_test = (mean_losses(one.test_losses, drawn.of(one.test_patients)) for one in pair.both)
    level = np.maximum(arm_train.min(axis=1), reference_train.min(axis=1))
    return Gaps(
        level=level,
        arm=at(arm_test, reached(arm_train, level)) - level,
        reference=at(reference_test, reached(reference_train, level)) - level,
        patients=drawn.of(np.unique(pair.arm.test_patients)).sum(axis=1),
        n=len(pair.arm.test_patients),
        exist=bool(arm_train[0, 0] >= level[0] and reference_train[0, 0] >= level[0]),
    )


def _means(found: Sequence[Gaps], confidence: float) -> list[float | None]:
    """Average level and gaps over folds, and estimate the difference of the gaps with its limits."""
    level, arm = np.stack([one.level for one in found]), np.stack([one.arm for one in found])
    reference, patients = np.stack([one.reference for one in found]), np.stack([one.patients for one in found])
    means = [np.average(one[:, 0], weights=patients[:, 0]) for one in (level, arm, reference)]
    apart = over_folds(reference - arm, patients, confidence)
    numbers = [*means, apart.value, apart.lower, apart.upper, apart.minimum_detectable]
    return [None if number is None else as_number(number) for number in numbers]
