"""Scores of a candidate method of adaptation without labels of the new hospital, from its predictions."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax

from pipeline.learning.training.validators import information_maximisation, log_losses, soft_neighbourhood_density

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Found = Mapping[str, NDArray]
Rule = Callable[[Found, str, Ints], float]  # predictions, candidate, rows of the target: higher is better


def mean_target(found: Found, candidate: str, rows: Ints) -> Floats:
    return np.asarray(found[f"{candidate}/target"].mean(axis=0)[rows])


def temperature(logits: Floats, labels: Ints) -> float:
    """Fit the temperature of source predictions out of fold."""
    best = minimize_scalar(
        lambda log: log_losses(logits / np.exp(log), labels).mean(), bounds=(-3, 3), method="bounded"
    )
    return float(np.exp(best.x))


def calibrated(found: Found, candidate: str, rows: Ints) -> tuple[Floats, Floats]:
    """Return the largest probabilities of source and target, after temperature scaling on the source."""
    source = found[f"{candidate}/source"]
    t = temperature(source, found["labels"])
    target = mean_target(found, candidate, rows)
    return softmax(source / t, axis=1), softmax(target / t, axis=1)


def average_confidence(found: Found, candidate: str, rows: Ints) -> float:
    return float(calibrated(found, candidate, rows)[1].max(axis=1).mean())


def expected_loss(found: Found, candidate: str, rows: Ints) -> float:
    """Minus the mean entropy of calibrated predictions: the log-loss that they expect of themselves."""
    target = calibrated(found, candidate, rows)[1]
    return float((target * np.log(np.clip(target, 1e-12, 1))).sum(axis=1).mean())


def thresholded_confidence(found: Found, candidate: str, rows: Ints) -> float:
    """ATC: the share of the target above the confidence that as many source cases exceed as are right (Garg 2022)."""
    source, target = calibrated(found, candidate, rows)
    wrong = (source.argmax(axis=1) != found["labels"]).mean()
    return float((target.max(axis=1) > np.quantile(source.max(axis=1), wrong)).mean())


def agreement(found: Found, candidate: str, rows: Ints) -> float:
    """Mean negative Jensen-Shannon divergence of the probes that learned from different patients."""
    shares = softmax(found[f"{candidate}/target"][:, rows], axis=2)
    joint = shares.mean(axis=0)
    entropy = [-(one * np.log(np.clip(one, 1e-12, 1))).sum(axis=-1) for one in (joint, shares)]
    return float((entropy[1].mean(axis=0) - entropy[0]).mean())


def transfer_score(found: Found, candidate: str, rows: Ints) -> float:
    """Hopkins's statistic and normalised mutual information (Yang et al. 2023, without the uniformity of a network)."""
    target = mean_target(found, candidate, rows)
    return float(found[f"{candidate}/hopkins"]) + information_maximisation(target) / np.log(target.shape[1])


SCORES: dict[str, Rule] = {
    "information maximisation": lambda found, one, rows: information_maximisation(mean_target(found, one, rows)),
    "soft neighbourhood density": lambda found, one, rows: soft_neighbourhood_density(mean_target(found, one, rows)),
    "average confidence, calibrated": average_confidence,
    "expected log-loss, calibrated": expected_loss,
    "thresholded confidence (ATC)": thresholded_confidence,
    "agreement of members": agreement,
    "transfer score": transfer_score,
    "deep embedded validation": lambda found, one, rows: -float(found[f"{one}/risk"]),
    "reverse validation": lambda found, one, rows: -float(found[f"{one}/reverse"]),
    "source loss": lambda found, one, rows: -float(log_losses(found[f"{one}/source"], found["labels"]).mean()),
}
OF_DRAWS = list(SCORES)[:7]  # scores that depend on which target cases are drawn
