"""Recalibration at a new site, and the number of labelled patients that it needs to be beneficial."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.metrics.discrimination import SMALLEST, Labels, log_loss
from pipeline.metrics.questions import both_ways, questions_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Update = Literal["intercept", "slope", "intercept and slope"]

UPDATES: tuple[Update, ...] = ("intercept", "slope", "intercept and slope")
NO_UPDATE = "none"
EVERY_CLASS = "all"
MEANS = ("log_loss", "gain", "intercept_off", "slope")
RECALIBRATED = ["class", "update", "patients", "evaluated", "draws", "share_better"]
RECALIBRATED += [f"{mean}{what}" for mean in MEANS for what in ("", "_se")]
WEAK_PRIOR = 1e-6
INFINITE = 20.0  # larger intercepts or slopes mean separated classes, which have no finite estimate


@dataclass(frozen=True)
class Recalibration:
    """Recalibration p -> softmax(a + b ln p): intercepts a (K,) adjust prevalences, the slope b the confidence.

    For two classes this is logit p -> (a1 - a0) + b logit p; a = 0 and b = 1 is the identity.
    """

    intercepts: tuple[float, ...]
    slope: float

    def apply(self, probabilities: Floats) -> Floats:
        """Recalibrate (n, K) probabilities whose rows sum to one."""
        return np.asarray(softmax(np.array(self.intercepts) + self.slope * _ln(probabilities), axis=1))


def fit_recalibration(probabilities: Floats, labels: Ints, update: Update, prior: float = 1.0) -> Recalibration:
    """Fit a recalibration on labelled cases of a new site.

    "intercept" fits a ("recalibration in the large"), "slope" b (a temperature of 1 / b), "intercept and slope" both
    ("logistic recalibration"): Steyerberg, Borsboom et al. 2004, "Validation and updating of predictive logistic
    regression models", methods 2 and 3; Janssen, Moons et al. 2008. More than two classes have one intercept each and a
    common slope.

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int
    update : {"intercept", "slope", "intercept and slope"}
    prior : float
        Ridge penalty towards no update, above 0: the inverse variance of normal priors with mean 0 on each a and mean 1
        on b. It prevents overfitting to few cases and makes the intercepts unique.

    Returns
    -------
    Recalibration
        The posterior mode, by Newton's method.
    """
    found = _most_probable(_ln(probabilities), labels, update, prior)
    return Recalibration(tuple(found[:-1].tolist()), float(1 + found[-1]))


def recalibration_curve(
    probabilities: Floats,
    labels: Labels,
    patients: NDArray[np.str_],
    classes: Sequence[str],
    *,
    sizes: Sequence[int],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Tabulate each update, fitted on m labelled patients of a new site and evaluated on other patients there.

    Each draw puts the patients in random order. The first m are used to fit, those beyond the largest m to evaluate, so
    that every m and every update of a draw is evaluated on the same cases. (Vergouwe et al. 2017, "A closed testing
    procedure to select an appropriate method for updating prediction models", compare the same updates by sample size.)

    Parameters
    ----------
    probabilities : (n, K)
    labels : (n,) int or (n, K) float
        Class numbers; of a multilabel task 1, 0, and NaN for not known, with a curve for each label.
    patients : (n,)
    classes : sequence of str
    sizes : sequence of int
        Numbers of patients m, at least 1; m above half of the patients is left out, since too few would evaluate it.
    draws : int
        At least 2.
    seed : int

    Returns
    -------
    pandas.DataFrame
        Columns `RECALIBRATED`: means over draws, and `_se`, their Monte Carlo standard error (which excludes the
        variation between cohorts). `gain` is the log-loss without update minus that with it, on the same cases,
        `share_better` the share of draws with a gain above 0. `intercept_off` is the absolute remaining calibration
        intercept (for more than two classes, the largest distance between two intercepts): it includes sampling error
        of the evaluated cases, so compare it with that of no update. `slope` is the calibration slope. `evaluated`
        counts patients.

    Raises
    ------
    ValueError
        If there are fewer than two draws.
    """
    if draws < 2:
        raise ValueError("draws must be at least 2, so that their standard error can be estimated")
    tables = [
        _curve(predictions, truth, patients[rows], sizes=sizes, draws=draws, seed=seed).assign(**{"class": name})
        for name, predictions, truth, rows in _tasks(probabilities, labels, classes)
    ]
    return pd.concat(tables, ignore_index=True).reindex(columns=RECALIBRATED)


def _tasks(
    probabilities: Floats, labels: Labels, classes: Sequence[str]
) -> Iterator[tuple[str, Floats, Ints, NDArray[np.int64]]]:
    """Yield each task of exclusive classes: its name, predictions (m, K), labels (m,), and rows (m,)."""
    if labels.ndim == 1:
        yield EVERY_CLASS, probabilities, labels, np.arange(len(labels))
        return
    for question in questions_of(probabilities, labels, classes):
        yield question.name, both_ways(question.prediction), question.events.astype(np.int64), question.rows


def _curve(
    probabilities: Floats, labels: Ints, patients: NDArray[np.str_], *, sizes: Sequence[int], draws: int, seed: int
) -> pd.DataFrame:
    names, patient = np.unique(patients, return_inverse=True)
    sizes = [m for m in sizes if 1 <= m <= len(names) / 2]
    rng, found = np.random.default_rng(seed), []
    for draw in range(draws if sizes else 0):
        place = rng.permutation(len(names))[patient]
        evaluated = place >= max(sizes)
        rest = _Rest(probabilities[evaluated], labels[evaluated])
        before = rest.after(Recalibration((0.0,) * probabilities.shape[1], 1.0))
        found.append({"update": NO_UPDATE, "patients": 0, "draw": draw, **before, "gain": 0.0})
        for m in sizes:
            for update in UPDATES:
                after = rest.after(fit_recalibration(probabilities[place < m], labels[place < m], update))
                gain = before["log_loss"] - after["log_loss"]
                found.append({"update": update, "patients": m, "draw": draw, **after, "gain": gain})
    if not found:
        return pd.DataFrame(columns=RECALIBRATED)
    return _over_draws(pd.DataFrame(found)).assign(evaluated=len(names) - max(sizes))


class _Rest:
    """The cases on which the updates of a draw are evaluated, with their own best update, fitted once for all of them.

    With A and B the best intercepts and slope, an update (a, b) leaves the slope B / b. With A1 the best intercepts at
    slope 1, an update of the intercepts alone leaves A1 - a; any other slope needs a fit.
    """

    def __init__(self, probabilities: Floats, labels: Ints) -> None:
        self.probabilities, self.labels = probabilities, labels
        self.every_class = len(np.unique(labels)) == probabilities.shape[1]
        if self.every_class:
            self.intercepts = np.array(fit_recalibration(probabilities, labels, "intercept", WEAK_PRIOR).intercepts)
            self.slope = fit_recalibration(probabilities, labels, "intercept and slope", WEAK_PRIOR).slope

    def after(self, change: Recalibration) -> dict[str, float]:
        """Compute the log-loss after an update, and the remaining calibration intercept and slope."""
        updated = change.apply(self.probabilities)
        loss = float(log_loss(updated, self.labels, np.ones((1, len(self.labels))))[0])
        if not self.every_class:
            return {"log_loss": loss, "intercept_off": np.nan, "slope": np.nan}
        left = self.intercepts - np.array(change.intercepts)
        if change.slope != 1:
            left = _most_probable(_ln(updated), self.labels, "intercept", WEAK_PRIOR)[:-1]
        slope = self.slope / change.slope if abs(self.slope) < INFINITE else np.nan
        metrics = {"intercept_off": float(np.ptp(left)), "slope": slope}
        return {"log_loss": loss, **{name: one if abs(one) < INFINITE else np.nan for name, one in metrics.items()}}


def _over_draws(found: pd.DataFrame) -> pd.DataFrame:
    groups = found.assign(better=found["gain"] > 0).groupby(["update", "patients"], sort=False)
    table = groups[list(MEANS)].mean().join(groups[list(MEANS)].sem().add_suffix("_se"))
    return table.assign(draws=groups.size(), share_better=groups["better"].mean()).reset_index()


def _ln(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.clip(probabilities, SMALLEST, 1)))


def _most_probable(ln: Floats, labels: Ints, update: Update, prior: float) -> Floats:
    """Fit x = (a, b - 1) of softmax(a + b ln p), ln (n, K), under a normal prior about 0; 0 what `update` leaves.

    Newton's method. Gradient and curvature follow from the fitted probabilities f: of a_j and a_k it is the sum over
    cases of f_j ([j = k] - f_k), of a_j and b that of f_j (ln p_j - m) with m the mean of ln p under f, of b the
    variance of ln p under f.
    """
    n_classes, columns = ln.shape[1], np.ascontiguousarray(ln.T)
    free = np.flatnonzero([*([update != "slope"] * n_classes), update != "intercept"])
    observed = np.append(np.bincount(labels, minlength=n_classes), columns[labels, np.arange(len(labels))].sum())

    def fitted(x: Floats) -> tuple[float, Floats]:
        logits = x[:-1, None] + (1 + x[-1]) * columns
        top = logits.max(axis=0)
        shares = np.exp(logits - top)
        total = shares.sum(axis=0)
        loss = (top + np.log(total)).sum() - observed[:-1] @ x[:-1] - observed[-1] * (1 + x[-1])
        return float(loss + prior * x @ x / 2), shares / total

    x = np.zeros(n_classes + 1)
    least, shares = fitted(x)
    for _ in range(100):
        weighted = shares * columns
        mean = weighted.sum(axis=0)
        expected = np.append(shares.sum(axis=1), mean.sum())
        curvature = np.diag(np.append(expected[:-1], (weighted * columns).sum() - mean @ mean))
        curvature[:-1, :-1] -= shares @ shares.T
        curvature[:-1, -1] = curvature[-1, :-1] = weighted.sum(axis=1) - shares @ mean
        slope, ridge = (expected - observed + prior * x)[free], prior * np.eye(len(free))
        step = np.zeros_like(x)
        step[free] = np.linalg.solve(curvature[np.ix_(free, free)] + ridge, slope)
        step[:-1] -= step[:-1].mean()  # the likelihood ignores a common shift, so the prior makes it 0
        if np.abs(step).max() < 1e-8:
            return x - step
        tried = (x - step / 2**times for times in range(30))  # a full step may overshoot if predictions are confident
        found = ((one, *fitted(one)) for one in tried)
        x, least, shares = next((one for one in found if one[1] <= least), (x, least, shares))
    return x
