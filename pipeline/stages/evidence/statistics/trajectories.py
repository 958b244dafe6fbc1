"""Compare the trainings of two arms on the same folds: bootstrap draws, mean losses, when a level is reached.

An interval over folds has two sources of variation. The bootstrap draws patients, with one weight per patient in
training and test alike. A training also varies by chance (initial weights, order of batches), which the bootstrap does
not show: in simulations of two arms that differed by nothing else, the bootstrap alone claimed a difference in up to
two of three cohorts. The interval is therefore that of the bootstrap, widened to Student's interval over the folds
where that is wider.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from pipeline.metrics.bootstrap import Bootstrap, estimate_of
from pipeline.metrics.paired_tests import Difference, minimum_detectable_difference
from pipeline.stages.evidence.statistics.runs import Floats, Names, Trajectory


class Pair(NamedTuple):
    """The trainings of an arm and of its reference on one fold."""

    fold: str
    arm: Trajectory
    reference: Trajectory

    @property
    def both(self) -> tuple[Trajectory, Trajectory]:
        """The training of the arm, then that of the reference."""
        return self.arm, self.reference


class Drawn(NamedTuple):
    """Bootstrap weights of the patients; row 0 is the sample itself.

    Attributes
    ----------
    patients : (P,) str
        Sorted.
    weights : (1 + R, P)
    """

    patients: Names
    weights: Floats

    def of(self, patients: Names) -> Floats:
        """Look up the weight of each case's patient: (1 + R, n)."""
        weights: Floats = self.weights[:, np.searchsorted(self.patients, patients)]
        return weights


def pairs(trajectories: Sequence[Trajectory], arm: str, reference: str) -> list[Pair]:
    """Pair the trainings of both arms by fold, sorted by name; folds of only one arm are left out.

    Raises
    ------
    ValueError
        If the arms of a fold hold out different cases.
    """
    by_arm = {(one.arm, one.fold): one for one in trajectories}
    folds = sorted({fold for _, fold in by_arm if (arm, fold) in by_arm and (reference, fold) in by_arm})
    found = [Pair(fold, by_arm[arm, fold], by_arm[reference, fold]) for fold in folds]
    for pair in found:
        if not np.array_equal(np.sort(pair.arm.test_patients), np.sort(pair.reference.test_patients)):
            raise ValueError(
                f"fold {pair.fold}: {arm} and {reference} hold out different cases; train both on the same split"
            )
    return found


def draw(paired: Sequence[Pair], bootstrap: Bootstrap) -> Drawn:
    """Draw the patients of all folds with replacement, as `bootstrap.cluster_weights` does."""
    of_all = [one.test_patients for pair in paired for one in pair.both]
    of_all += [one.train_patients for pair in paired for one in pair.both]
    patients = np.unique(np.concatenate(of_all))
    return Drawn(patients, bootstrap.weights(patients))


def mean_losses(losses: Floats, weights: Floats) -> Floats:
    """Compute weighted mean losses.

    Parameters
    ----------
    losses : (E, n)
        Cases with NaN, whose label is not known, are left out.
    weights : (1 + R, n)

    Returns
    -------
    (1 + R, E)
        NaN where no case is drawn.
    """
    known = ~np.isnan(losses).any(axis=0)
    with np.errstate(invalid="ignore"):
        means: Floats = weights[:, known] @ losses[:, known].T / weights[:, known].sum(axis=1, keepdims=True)
    return means


def plain_mean(losses: Floats) -> Floats:
    """Compute mean losses (E,) over the cases (E, n) whose labels are known."""
    means: Floats = mean_losses(losses, np.ones((1, losses.shape[1])))[0]
    return means


def reached(curves: Floats, levels: Floats) -> Floats:
    """Find when curves first fall to a level, by linear interpolation between epochs.

    Parameters
    ----------
    curves : (R, E)
        Mean losses after epochs 0, 1, ...
    levels : (R,)

    Returns
    -------
    (R,)
        In epochs, 0..E - 1; NaN where a curve stays above the level.
    """
    below = curves <= levels[:, None]
    last, rows = below.argmax(axis=1), np.arange(len(curves))
    before = np.maximum(last - 1, 0)
    upper, lower = curves[rows, before], curves[rows, last]
    with np.errstate(invalid="ignore", divide="ignore"):
        epochs = np.where(last > 0, before + (upper - levels) / (upper - lower), 0.0)
    return np.where(below.any(axis=1), epochs, np.nan)


def at(curves: Floats, epochs: Floats) -> Floats:
    """Interpolate curves (R, E) at fractional epochs (R,); NaN where the epoch is NaN."""
    known, rows = np.nan_to_num(epochs), np.arange(len(curves))
    before = np.floor(known).astype(int)
    after, share = np.ceil(known).astype(int), known - before
    return np.where(np.isnan(epochs), np.nan, (1 - share) * curves[rows, before] + share * curves[rows, after])


def over_folds(values: Floats, shares: Floats, confidence: float, power: float = 0.8) -> Difference:
    """Estimate the mean over folds, with the variation of patients and of trainings; see the top of this file.

    Student's interval assumes independent folds. Their training patients overlap, so the interval is somewhat too
    narrow where the variation of trainings exceeds that of patients (Bengio and Grandvalet 2004, "No unbiased
    estimator of the variance of K-fold cross-validation").

    Parameters
    ----------
    values : (K, 1 + R)
        Of each fold, on the sample and then on each replicate.
    shares : (K, 1 + R)
        Weights of the folds.
    confidence : float
        Of the interval; the minimum detectable difference is that of a test at level 1 - confidence.

    Returns
    -------
    Difference
        Without limits if there is only one fold, which cannot show how much trainings vary.
    """
    with np.errstate(invalid="ignore"):
        share = shares / shares.sum(axis=0)
    means = (share * values).sum(axis=0)
    found = estimate_of(means, confidence)
    if found.value is None or found.lower is None or found.upper is None or len(values) < 2:
        return Difference(found.value, None, None, se=None, minimum_detectable=None)
    spread = float(values[:, 0].std(ddof=1) * np.sqrt((share[:, 0] ** 2).sum()))
    by_patients = float(np.std(means[1:][np.isfinite(means[1:])], ddof=1))
    beyond, found_at = student.ppf([(1 + confidence) / 2, power], df=len(values) - 1)
    lower = min(found.lower, found.value - beyond * spread)
    upper = max(found.upper, found.value + beyond * spread)
    least = max(minimum_detectable_difference(by_patients, power, 1 - confidence), (beyond + found_at) * spread)
    return Difference(
        found.value, float(lower), float(upper), se=max(spread, by_patients), minimum_detectable=float(least)
    )
