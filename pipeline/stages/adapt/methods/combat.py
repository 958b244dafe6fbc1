"""ComBat: remove each site's shift and scale of every feature, estimated by empirical Bayes."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class UnseenSite(ValueError):
    """The features are of a site whose shift and scale were not estimated."""


@dataclass(frozen=True)
class Combat:
    """The model y_jf = alpha_f + x_j' beta_f + sigma_f (gamma_if + delta_if e_jf) of case j, at site i, feature f.

    Attributes
    ----------
    sites : (k,) str
    grand_mean, spread : (w,)
        alpha, at the covariates' means, and sigma; 0 where a feature does not vary, which then stays as it is.
    slopes, covariate_means : (c, w), (c,)
        beta, of covariates less their means.
    shift, scale : (k, w)
        gamma* and delta*, in units of sigma.
    strength : float
        How far features go from y (0, exactly) to y* (1).
    """

    sites: NDArray[np.str_]
    grand_mean: Array
    spread: Array
    slopes: Array
    covariate_means: Array
    shift: Array
    scale: Array
    strength: float

    def apply(self, features: Array, sites: NDArray[np.str_], covariates: Array | None = None) -> Array:
        """Harmonise features (n, w): y* = alpha + x' beta + (y - alpha - x' beta - sigma gamma*) / delta*.

        Without the covariates (n, c) of `fit_combat` every case stands at their means: the scale acts on their effect
        too. A site of neither `fit_combat` nor `extended` raises UnseenSite: other sites do not tell its shift.
        """
        if self.strength == 0:
            return features
        if unseen := sorted(set(sites) - set(self.sites)):
            raise UnseenSite(
                f"ComBat knows no site {', '.join(unseen)}; estimate it from unlabelled cases of that site"
            )
        rows, mean = np.searchsorted(self.sites, sites), self._expected(len(features), covariates)
        residual = (features - mean - self.spread * self.shift[rows]) / self.scale[rows]
        return features + self.strength * np.where(self.spread > 0, mean + residual - features, 0.0)

    def extended(self, features: Array, site: str, covariates: Array | None = None) -> "Combat":
        """Add a site, or estimate it anew, from its own unlabelled cases (n, w); all else stays as it was fitted."""
        varies = self.spread > 0
        z = (features - self._expected(len(features), covariates)) / np.where(varies, self.spread, 1.0)
        shift, scale = _site_effect(z, varies, site)
        kept = self.sites != site
        order = np.argsort(names := np.append(self.sites[kept], site))
        shifts, scales = np.vstack([self.shift[kept], shift])[order], np.vstack([self.scale[kept], scale])[order]
        return replace(self, sites=names[order], shift=shifts, scale=scales)

    def _expected(self, n: int, covariates: Array | None) -> Array:
        centred = np.zeros((n, len(self.covariate_means))) if covariates is None else covariates - self.covariate_means
        return self.grand_mean + centred @ self.slopes


def fit_combat(features: Array, sites: NDArray[np.str_], covariates: Array | None, strength: float) -> Combat:
    """Estimate the shift and scale of every site in features (n, w), sites (n,), by parametric empirical Bayes.

    Johnson, Li, Rabinovic 2007, "Adjusting batch effects in microarray expression data using empirical Bayes
    methods", section 3; for images Fortin et al. 2018, "Harmonization of cortical thickness measurements across
    scanners and sites", section 2.3. All that sites differ in beyond the covariates (n, c) goes, a difference in the
    share of classes included: where classes and sites go together, signal goes. Covariates, such as age and sex, keep
    their effect; they must be known wherever the model is applied, so the label is none. One site, a site of one case
    or without spread, fewer than two features that vary, and a covariate that sites explain are a ValueError.
    """
    names, rows, counts = np.unique(sites, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError("ComBat needs two sites; with one there is nothing to harmonise")
    extra = np.zeros((len(features), 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    means = extra.mean(axis=0)
    design = np.hstack([np.eye(len(names))[rows], extra - means])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError("a covariate is explained by the sites or by other covariates; leave it out")
    fitted = np.linalg.lstsq(design, features, rcond=None)[0]
    residual = features - design @ fitted
    varies = np.ptp(residual, axis=0) > 1e-9 * np.abs(features).max(axis=0)
    spread = np.where(varies, np.sqrt(np.mean(residual**2, axis=0)), 0.0)
    slopes, grand_mean = fitted[len(names) :], counts / len(features) @ fitted[: len(names)]
    z = (features - grand_mean - (extra - means) @ slopes) / np.where(varies, spread, 1.0)
    effects = [_site_effect(z[rows == row], varies, name) for row, name in enumerate(names)]
    shift, scale = (np.array(parts) for parts in zip(*effects, strict=True))
    return Combat(
        sites=names,
        grand_mean=grand_mean,
        spread=spread,
        slopes=slopes,
        covariate_means=means,
        shift=shift,
        scale=scale,
        strength=strength,
    )


def _site_effect(z: Array, varies: NDArray[np.bool_], site: str) -> tuple[Array, Array]:
    """Estimate gamma* (w,) and delta* (w,) of one site from its standardised features z (n, w).

    gamma* = (n tau^2 gamma^ + delta*^2 gamma-) / (n tau^2 + delta*^2)
    delta*^2 = (theta + sum_j (z_j - gamma*)^2 / 2) / (n / 2 + lambda - 1)
    in turns; gamma-, tau^2, lambda, theta are of the priors, by moments over the features (Johnson 2007, section 3.2).
    """
    n, some = len(z), z[:, varies]
    if n < 2 or some.shape[1] < 2 or not np.ptp(some, axis=0).any():
        raise ValueError(f"site {site} needs two different cases, and two features that vary; it has {n} cases")
    raw, variance = some.mean(axis=0), some.var(axis=0, ddof=1)
    m, tau2 = variance.mean(), max(raw.var(ddof=1), 1e-12)
    ratio, gamma, square = m**2 / max(variance.var(ddof=1), 1e-12 * m**2), raw, variance
    for _ in range(200):  # a handful bring it to rest
        gamma = (n * tau2 * raw + square * raw.mean()) / (n * tau2 + square)
        squares = (n - 1) * variance + n * (raw - gamma) ** 2  # the sum in the formula
        square = (m + m * ratio + squares / 2) / (n / 2 + 1 + ratio)
    shift, scale = np.zeros(len(varies)), np.ones(len(varies))
    shift[varies], scale[varies] = gamma, np.sqrt(square)
    return shift, scale
