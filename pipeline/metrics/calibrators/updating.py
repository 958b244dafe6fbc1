"""Recalibration at a new site, and the number of labelled patients that it needs to be beneficial."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

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
    start, n_classes = _ln(probabilities), probabilities.shape[1]
    each = np.broadcast_to(np.eye(n_classes), (*start.shape, n_classes))
    design = np.concatenate([each, start[..., None]], axis=2)
    free = [*([update != "slope"] * n_classes), update != "intercept"]
    found = np.zeros(n_classes + 1)
    found[free] = _most_probable(start, design[..., free], labels, prior)
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
        before = _evaluate(probabilities[evaluated], labels[evaluated])
        found.append({"update": NO_UPDATE, "patients": 0, "draw": draw, **before, "gain": 0.0})
        for m in sizes:
            for update in UPDATES:
                change = fit_recalibration(probabilities[place < m], labels[place < m], update)
                after = _evaluate(change.apply(probabilities[evaluated]), labels[evaluated])
                gain = before["log_loss"] - after["log_loss"]
                found.append({"update": update, "patients": m, "draw": draw, **after, "gain": gain})
    if not found:
        return pd.DataFrame(columns=RECALIBRATED)
    return _over_draws(pd.DataFrame(found)).assign(evaluated=len(names) - max(sizes))


def _evaluate(probabilities: Floats, labels: Ints) -> dict[str, float]:
    """Compute the log-loss of a task, and the remaining calibration intercept and slope."""
    loss = float(log_loss(probabilities, labels, np.ones((1, len(labels))))[0])
    if len(np.unique(labels)) < probabilities.shape[1]:
        return {"log_loss": loss, "intercept_off": np.nan, "slope": np.nan}
    off = float(np.ptp(fit_recalibration(probabilities, labels, "intercept", WEAK_PRIOR).intercepts))
    slope = fit_recalibration(probabilities, labels, "intercept and slope", WEAK_PRIOR).slope
    metrics = {"intercept_off": off, "slope": slope}
    return {"log_loss": loss, **{name: one if abs(one) < INFINITE else np.nan for name, one in metrics.items()}}


def _over_draws(found: pd.DataFrame) -> pd.DataFrame:
    groups = found.assign(better=found["gain"] > 0).groupby(["update", "patients"], sort=False)
    table = groups[list(MEANS)].mean().join(groups[list(MEANS)].sem().add_suffix("_se"))
    return table.assign(draws=groups.size(), share_better=groups["better"].mean()).reset_index()


def _ln(probabilities: Floats) -> Floats:
    return np.asarray(np.log(np.clip(probabilities, SMALLEST, 1)))


def _most_probable(start: Floats, design: Floats, labels: Ints, prior: float) -> Floats:
    """Fit x (P,) of softmax(start + design x), with start (n, K) and design (n, K, P), under a normal prior about 0."""
    chosen, flat = np.eye(start.shape[1])[labels], design.reshape(-1, design.shape[2])

    def loss(x: Floats) -> float:
        return float(prior * x @ x / 2 - (chosen * log_softmax(start + design @ x, axis=1)).sum())

    x = np.zeros(design.shape[2])
    least = loss(x)
    for _ in range(100):
        fitted = softmax(start + design @ x, axis=1)
        gradient = (fitted - chosen).ravel() @ flat + prior * x
        centred = design - fitted[:, None] @ design
        curvature = (fitted[..., None] * centred).reshape(flat.shape).T @ centred.reshape(flat.shape)
        step = np.linalg.solve(curvature + prior * np.eye(len(x)), gradient)
        tried = (step / 2**times for times in range(30))  # a full step may overshoot if predictions are confident
        found = ((loss(x - some), some) for some in tried)
        least, step = next((one for one in found if one[0] <= least), (least, np.zeros_like(x)))
        x = x - step
        if np.abs(step).max() < 1e-8:
            break
    return x
