"""Detect out-of-distribution scans from the energy of their logits, their features and their appearance.

Only summary statistics are kept, nothing of a single case: means, principal axes of the features, and quantiles of
scores.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage

from pipeline.metrics.conformal import fewest, rank_of

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

MOST_AXES = 16  # principal axes that a bundle holds; all other directions share one variance
DIGITS = 6  # significant digits of every number in a bundle
GRID = 21  # number of quantiles that describe the scores of development patients
UPPER = 0.95  # a score's distance from its median to this quantile is scaled to 1
NORMAL_UPPER = 1.645  # the `UPPER` quantile of a normal distribution, in standard deviations
FLOOR = 0.1  # smallest standard deviation of a feature, as a fraction of the median one
SCORES = ("energy", "features", "appearance")


@dataclass(frozen=True)
class ClassGaussians:
    """Gaussians of the training cases' features: one mean per group and one shared ("tied") covariance.

    Attributes
    ----------
    means : mapping of (p,)
        Mean of each class, or of each site.
    scales : (p,)
        Standard deviation of each feature within groups; features are divided by it first.
    axes : (r, p)
        Unit vectors of the largest variance within groups.
    variances : (r,)
        Shrunk variance along each axis.
    rest : float
        Variance along any other direction.
    """

    means: Mapping[str, Floats]
    scales: Floats
    axes: Floats
    variances: Floats
    rest: float

    def distances(self, features: Floats) -> Floats:
        """Compute the Mahalanobis distance (n, number of groups) to each mean: root of Lee et al. 2018, equation 2."""
        apart = (features[:, None] - np.stack(list(self.means.values()))) / self.scales
        along = apart @ self.axes.T
        beyond = (apart**2).sum(axis=2) - (along**2).sum(axis=2)
        return np.asarray(np.sqrt((along**2 / self.variances).sum(axis=2) + np.maximum(beyond, 0) / self.rest))

    def at_site(self, features: Floats, weight: float) -> "ClassGaussians":
        """Move all means to the mean of features (n, p) of one site, and widen the scales to their spread there.

        The classes of the site need not be known; their shares should not differ much from those of the means.

        Parameters
        ----------
        weight : float
            Of the site beside the training cases, from 0 to 1.
        """
        centre = np.mean(list(self.means.values()), axis=0)
        moved = weight * (features.mean(axis=0) - centre)
        variances = (1 - weight) * self.scales**2 + weight * features.var(axis=0)
        return replace(
            self,
            means={name: mean + moved for name, mean in self.means.items()},
            scales=np.maximum(self.scales, np.sqrt(variances)),
        )

    def as_json(self) -> dict[str, Any]:
        """Give plain values, which `fit_gaussians` has already rounded."""
        means = {name: mean.tolist() for name, mean in self.means.items()}
        arrays = {name: getattr(self, name).tolist() for name in ("scales", "axes", "variances")}
        return {"means": means, **arrays, "rest": self.rest}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ClassGaussians":
        """Rebuild the object from the values of `as_json`."""
        means = {name: np.array(mean) for name, mean in values["means"].items()}
        axes, variances = np.array(values["axes"], ndmin=2), np.array(values["variances"], ndmin=1)
        return cls(means, np.array(values["scales"]), axes=axes, variances=variances, rest=float(values["rest"]))


def fit_gaussians(features: Floats, groups: Names) -> ClassGaussians:
    """Fit the means and the shared covariance to the features of a model's training cases.

    Features are scaled to one standard deviation; otherwise those with the largest values would dominate. The
    covariance within groups is shrunk towards a sphere (Ledoit and Wolf 2004), since there are more features than
    cases. Its `MOST_AXES` largest axes are kept; the remaining variance is spread evenly over all other directions.

    Parameters
    ----------
    features : (n, p)
        Input of the network's head.
    groups : (n,)
        Names of classes or sites.
    """
    means = {str(name): _short(features[groups == name].mean(axis=0)) for name in np.unique(groups)}
    residuals = features - np.stack([means[str(name)] for name in groups])
    spreads = residuals.std(axis=0)
    scales = _short(np.maximum(spreads, FLOOR * np.median(spreads)))
    scales[scales == 0] = 1.0
    residuals /= scales
    shrinkage = float(ledoit_wolf_shrinkage(residuals, assume_centered=True)) if residuals.any() else 1.0
    _, singular, axes = np.linalg.svd(residuals, full_matrices=False)
    variances, p = singular**2 / len(features), features.shape[1]
    sphere = max(variances.sum() / p, 1e-12)
    kept = min(MOST_AXES, p - 1, int((variances > 1e-9 * variances.max()).sum()))
    beyond = (1 - shrinkage) * variances[kept:].sum() / (p - kept) + shrinkage * sphere
    along = (1 - shrinkage) * variances[:kept] + shrinkage * sphere
    rest = float(_short(np.array(beyond or sphere)))
    return ClassGaussians(means, scales, axes=_short(axes[:kept]), variances=_short(along), rest=rest)


def energy(logits: Floats, several: bool = False) -> Floats:
    """Compute the energy (n,) of logits (n, K): -ln sum exp (Liu et al. 2020, equation 4), high if no logit is large.

    With `several` independent labels it is the sum of the energy of each label (Wang et al. 2021, "Can multi-label
    classification networks know what they don't know?").
    """
    found = -np.logaddexp(0, logits).sum(axis=1) if several else -logsumexp(logits, axis=1)
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True)
class OODDetector:
    """Out-of-distribution detector of single scans, fitted on development scans.

    Attributes
    ----------
    medians, scales : (float, float, float)
        Of each of `SCORES` the median, and the distance from the median to the `UPPER` quantile.
    threshold : float or None
        Scans with a higher OOD score are flagged; None if there were too few patients to set it.
    rate : float
        Share of new patients from the development sites that may be flagged.
    patients : int
        Number of patients that set the threshold, each by the highest score of their scans.
    quantiles : (GRID,)
        Quantiles of the OOD scores of these patients.
    """

    medians: tuple[float, ...]
    scales: tuple[float, ...]
    threshold: float | None
    rate: float
    patients: int
    quantiles: tuple[float, ...]

    def ood_score(self, scores: Floats) -> Floats:
        """Combine scores (n, 3), see `scores_of`, into one (n,): the largest after scaling.

        0 is typical; one development scan in twenty reaches 1 in a given score. The scores are not summed, because a
        distant scan can have a large logit, which must not cancel its distance. Upper tails are scaled to be equal
        rather than standard deviations, because distances have longer tails than energies.
        """
        return np.asarray(self.scaled(scores).max(axis=1))

    def scaled(self, scores: Floats) -> Floats:
        """Scale scores (n, 3): 0 is the median of the development scans, 1 their `UPPER` quantile."""
        return np.asarray((scores - self.medians) / self.scales)

    def at_site(self, scores: Floats, weight: float) -> "OODDetector":
        """Raise medians and scales towards those of scores (n, 3) at a site, by a weight from 0 to 1; lower none."""
        medians, scales = np.array(self.medians), np.array(self.scales)
        upper = NORMAL_UPPER * scores.std(axis=0)  # a quantile of few scores would be too uncertain
        medians += weight * np.maximum(np.median(scores, axis=0) - medians, 0)
        scales += weight * np.maximum(upper - scales, 0)
        return replace(self, medians=tuple(medians.tolist()), scales=tuple(scales.tolist()))

    def is_ood(self, ood_scores: Floats) -> NDArray[np.bool_]:
        """Flag the scans (n,) whose OOD score is above the threshold; none where there is no threshold."""
        return np.asarray(ood_scores > (np.inf if self.threshold is None else self.threshold))

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "OODDetector":
        """Rebuild the object from the values of `as_json`."""
        pairs = {name: tuple(values[name]) for name in ("medians", "scales", "quantiles")}
        return cls(**{**values, **pairs})


def scores_of(energies: Floats, distances: Floats, appearances: Floats) -> Floats:
    """Stack the three scores (n,) into columns (n, 3), in the order of `SCORES`; distances as logarithms."""
    far = [np.log(np.maximum(one, np.finfo(np.float64).tiny)) for one in (distances, appearances)]
    return np.stack([energies, *far], axis=1)


def fit_ood_detector(scores: Floats, patients: Names, rate: float) -> OODDetector:
    """Set the threshold on cases (n,) that the scoring model was not trained on.

    The threshold is the k-th lowest of the patients' highest scores, k = ceil((n + 1) (1 - rate)), as in `conformal`:
    at most that share of new exchangeable patients is expected above it. (Exact if median and scale were known; they
    are quantiles of the same cases.)

    Parameters
    ----------
    scores : (n, 3)
        See `scores_of`.
    patients : (n,)
    rate : float
        Accepted share of flagged patients, between 0 and 1, both excluded.
    """
    medians, upper = np.quantile(scores, [0.5, UPPER], axis=0)
    scales = np.where(upper > medians, upper - medians, 1.0)
    without = OODDetector(tuple(medians.tolist()), tuple(scales.tolist()), None, rate, patients=0, quantiles=())
    highest = highest_scores(without.ood_score(scores), patients)
    n = len(highest)
    threshold = None if n < fewest(rate) else float(highest[rank_of(n, rate) - 1])
    return replace(without, threshold=threshold, patients=n, quantiles=quantiles_of(highest))


def false_alarms(scores: Floats, patients: Names, rate: float, parts: int = 5) -> tuple[int, int]:
    """Count flagged and evaluated patients; cross-fitted, each part by a detector fitted on the other parts."""
    names, of_case = np.unique(patients, return_inverse=True)
    flagged = evaluated = 0
    for part in range(min(parts, len(names))):
        held_out = of_case % parts == part
        detector = fit_ood_detector(scores[~held_out], patients[~held_out], rate)
        if detector.threshold is not None:
            flagged += len(set(patients[held_out][detector.is_ood(detector.ood_score(scores[held_out]))]))
            evaluated += len(set(patients[held_out]))
    return flagged, evaluated


def highest_scores(scores: Floats, patients: Names) -> Floats:
    """Give the highest score of each patient, in ascending order."""
    return np.asarray(pd.Series(scores).groupby(patients).max().sort_values())


def quantiles_of(scores: Floats) -> tuple[float, ...]:
    """Compute `GRID` quantiles, so that a bundle holds no score of a single case."""
    return tuple(_short(np.quantile(scores, np.linspace(0, 1, GRID))).tolist())


def share_beyond(score: float, quantiles: tuple[float, ...]) -> float:
    """Estimate the share of development patients with a higher score: 0 above all quantiles, 1 below all of them."""
    return float(1 - np.interp(score, quantiles, np.linspace(0, 1, len(quantiles)), left=0.0, right=1.0))


def _short(numbers: Floats) -> Floats:
    """Round to `DIGITS` significant digits."""
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(numbers), where=numbers != 0, out=np.zeros_like(numbers))))
    return np.asarray(np.round(numbers * scale) / scale)
