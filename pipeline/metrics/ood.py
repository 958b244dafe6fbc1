"""Whether a scan is like those the model learned from: by the energy of its logits, its features, and its appearance.

Nothing of a single case is kept: means, the directions in which features vary most, and how scores are spread.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage

from pipeline.metrics.conformal import fewest, rank_of

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

MOST_AXES = 16  # directions that are shipped; the others share one variance
DIGITS = 6  # of every number that is shipped
GRID = 21  # quantiles that tell how usual a score is
UPPER = 0.95  # the quantile whose distance from the median is 1 of a score
FLOOR = 0.1  # of the median standard deviation of a feature: less is not told from chance
SIGNS = ("energy", "features", "appearance")


@dataclass(frozen=True)
class Gaussian:
    """Where the features of the training cases lie: a mean of each group, and one covariance for all of them.

    Attributes
    ----------
    means : mapping of (p,)
        Of each class, or of each site.
    scales : (p,)
        Standard deviation of each feature within groups; features are divided by them first.
    axes : (r, p)
        Directions of the largest variance within groups, of length 1.
    variances : (r,)
        Along them, shrunk.
    rest : float
        Along any other direction.
    """

    means: Mapping[str, Floats]
    scales: Floats
    axes: Floats
    variances: Floats
    rest: float

    def distances(self, features: Floats) -> Floats:
        """Mahalanobis distance (n, number of groups) to each mean (Lee et al. 2018, equation 2; its root)."""
        apart = (features[:, None] - np.stack(list(self.means.values()))) / self.scales
        along = apart @ self.axes.T
        beyond = (apart**2).sum(axis=2) - (along**2).sum(axis=2)
        return np.asarray(np.sqrt((along**2 / self.variances).sum(axis=2) + np.maximum(beyond, 0) / self.rest))

    def as_json(self) -> dict[str, Any]:
        """Give plain values, rounded: what is rounded is what is fitted, see `fit_gaussian`."""
        means = {name: mean.tolist() for name, mean in self.means.items()}
        arrays = {name: getattr(self, name).tolist() for name in ("scales", "axes", "variances")}
        return {"means": means, **arrays, "rest": self.rest}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Gaussian":
        """Read what `as_json` gave."""
        means = {name: np.array(mean) for name, mean in values["means"].items()}
        axes, variances = np.array(values["axes"], ndmin=2), np.array(values["variances"], ndmin=1)
        return cls(means, np.array(values["scales"]), axes, variances, float(values["rest"]))


def fit_gaussian(features: Floats, groups: Names) -> Gaussian:
    """Fit means and covariance to the features of the cases that a model was trained on.

    Features are scaled to one standard deviation, or those of the largest numbers would decide alone. The covariance
    within groups ("tied") is shrunk towards a sphere by Ledoit and Wolf 2004, since there are more
    features than cases; its `MOST_AXES` largest axes are kept, and what is left is spread evenly over all others.

    Parameters
    ----------
    features : (n, p)
        What the head of the network sees.
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
    rest = (1 - shrinkage) * variances[kept:].sum() / (p - kept) + shrinkage * sphere
    along = (1 - shrinkage) * variances[:kept] + shrinkage * sphere
    return Gaussian(means, scales, _short(axes[:kept]), _short(along), float(_short(np.array(rest or sphere))))


def energy(logits: Floats, several: bool = False) -> Floats:
    """Energy (n,) of logits (n, K), high where no class speaks up: -ln sum exp (Liu et al. 2020, equation 4).

    Of `several` labels that stand each by themselves it is the sum of theirs (Wang et al. 2021, "Can multi-label
    classification networks know what they don't know?").
    """
    found = -np.logaddexp(0, logits).sum(axis=1) if several else -logsumexp(logits, axis=1)
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True)
class Alarm:
    """When a scan is called unlike the development scans.

    Attributes
    ----------
    centres, spreads : (float, float, float)
        Of each of `SIGNS`: the median, and from there to the `UPPER` quantile.
    threshold : float or None
        The highest score that is let through; None where there were too few patients to set one.
    share : float
        Of new patients from the development sites, that may be called unlike them.
    patients : int
        On whom it was set; of each the highest score counted.
    usual : (GRID,)
        Quantiles of their scores.
    """

    centres: tuple[float, ...]
    spreads: tuple[float, ...]
    threshold: float | None
    share: float
    patients: int
    usual: tuple[float, ...]

    def score(self, signs: Floats) -> Floats:
        """Score (n,) of signs (n, 3): the largest; 0 is the usual scan, and 1 what one in twenty reaches.

        Not their sum: a scan far away may well get a loud logit, which must not make up for the distance. Upper tails
        are set equal, not standard deviations, for distances have longer ones than energies.
        """
        return np.asarray(((signs - self.centres) / self.spreads).max(axis=1))

    def rings(self, scores: Floats) -> NDArray[np.bool_]:
        """Tell (n,) which scans are called unlike the development scans."""
        return np.asarray(scores > (np.inf if self.threshold is None else self.threshold))

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Alarm":
        """Read what `as_json` gave."""
        pairs = {name: tuple(values[name]) for name in ("centres", "spreads", "usual")}
        return cls(**{**values, **pairs})


def signs_of(energies: Floats, distances: Floats, appearances: Floats) -> Floats:
    """Put the three signs (n,) into columns (n, 3), in the order of `SIGNS`; distances as logarithms."""
    far = [np.log(np.maximum(one, np.finfo(np.float64).tiny)) for one in (distances, appearances)]
    return np.stack([energies, *far], axis=1)


def fit_alarm(signs: Floats, patients: Names, share: float) -> Alarm:
    """Set the threshold on cases (n,) that the scoring model was not trained on.

    It is the k-th lowest of the patients' highest scores, k = ceil((n + 1) (1 - share)), as in `conformal`: of new
    patients like these at most that share is expected above it. (Exactly so if centre and spread were known; they are
    quantiles of the same cases.)

    Parameters
    ----------
    signs : (n, 3)
        See `signs_of`.
    patients : (n,)
    share : float
        Above 0, below 1.
    """
    centres, upper = np.quantile(signs, [0.5, UPPER], axis=0)
    spreads = np.where(upper > centres, upper - centres, 1.0)
    without = Alarm(tuple(centres.tolist()), tuple(spreads.tolist()), None, share, 0, ())
    worst = worst_of(without.score(signs), patients)
    n = len(worst)
    threshold = None if n < fewest(share) else float(worst[rank_of(n, share) - 1])
    return Alarm(without.centres, without.spreads, threshold, share, n, quantiles_of(worst))


def false_alarms(signs: Floats, patients: Names, share: float, parts: int = 5) -> tuple[int, int]:
    """Count the patients (flagged, evaluated) that a detector fitted on others flags: cross-fitted, in `parts`."""
    names, of_case = np.unique(patients, return_inverse=True)
    flagged = evaluated = 0
    for part in range(min(parts, len(names))):
        held = of_case % parts == part
        alarm = fit_alarm(signs[~held], patients[~held], share)
        if alarm.threshold is not None:
            flagged += len(set(patients[held][alarm.rings(alarm.score(signs[held]))]))
            evaluated += len(set(patients[held]))
    return flagged, evaluated


def worst_of(scores: Floats, patients: Names) -> Floats:
    """Give the highest score of each patient, ascending."""
    return np.asarray(pd.Series(scores).groupby(patients).max().sort_values())


def quantiles_of(scores: Floats) -> tuple[float, ...]:
    """Give `GRID` quantiles, so that no score of a case is shipped by itself."""
    return tuple(_short(np.quantile(scores, np.linspace(0, 1, GRID))).tolist())


def share_beyond(score: float, usual: tuple[float, ...]) -> float:
    """Say what share of development patients has a score as high: 0 beyond them all, 1 below."""
    return float(1 - np.interp(score, usual, np.linspace(0, 1, len(usual)), left=0.0, right=1.0))


def _short(numbers: Floats) -> Floats:
    """Round to `DIGITS` significant digits."""
    scale = 10.0 ** (DIGITS - 1 - np.floor(np.log10(np.abs(numbers), where=numbers != 0, out=np.zeros_like(numbers))))
    return np.asarray(np.round(numbers * scale) / scale)
