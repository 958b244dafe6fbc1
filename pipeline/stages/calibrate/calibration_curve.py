"""Smooth calibration curves, and the row of all calibration metrics of a question."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from pipeline.metrics.bands import band
from pipeline.metrics.bootstrap import Estimate, distance_estimate, estimate, estimate_of, in_blocks
from pipeline.metrics.calibration import (
    Corp,
    Marks,
    Metric,
    Names,
    bin_of,
    calibration_error,
    corp,
    if_perfect,
    logistic_line,
    logit,
    miscalibration,
    observed_expected,
    squared_error,
    squared_error_debiased,
)
from pipeline.metrics.discrimination import Floats, ratio
from pipeline.metrics.likelihood import intercept_estimate, slope_estimate
from pipeline.metrics.summary import in_columns, limits_of

EDGE = 1e-6  # predictions are clipped to [EDGE, 1 - EDGE]
FEWEST = 8.0  # effective cases at a point; with fewer, the intervals of the curve undercover
POINTS = 50
NULL_DRAWS = 1000
CURVE = ["prediction", *limits_of("observed")]


def smooth_curve(prediction: Floats, events: Marks, weights: Floats, grid: Floats, *, fewest: float = FEWEST) -> Floats:
    """Estimate the event rate at given predictions: "moderate calibration" of Van Calster et al. 2016.

    The curve is the logistic recalibration line, corrected by a local linear regression of its residuals on logit p
    with a Gaussian kernel (Glad 1998, "Parametrically guided non-parametric regression"). If the true curve is such a
    line, as for perfect predictions or those of a wrong temperature, smoothing adds no bias. If no finite line exists,
    the identity is used instead.

    Parameters
    ----------
    prediction : (n,)
    events : (n,) or (R, n) bool
    weights : (R, n), at least 0
    grid : (G,)
        Predictions at which to estimate, between 0 and 1.
    fewest : float
        Effective number of cases that a point requires. A case is weighted by its kernel, 1 at the point, and by its
        information, 4 p (1 - p) of its prediction: thirty predictions of 0.001 are not informative. The events do not
        enter, because the curve would otherwise be shown where they happen to be frequent.

    Returns
    -------
    (R, G)
        Between 0 and 1; NaN at points with fewer cases.
    """
    x, at = logit(np.clip(prediction, EDGE, 1 - EDGE)), logit(np.clip(grid, EDGE, 1 - EDGE))
    line = logistic_line(expit(x), events, weights)
    line = np.where(np.isfinite(line), line, [0.0, 1.0])
    rest = weights * (events - _along(line, x))
    distance = x[:, None] - at
    kernel = np.exp(-((distance / bandwidth(x)) ** 2) / 2)
    near = weights @ kernel
    left, lever = ratio(rest @ kernel, near), ratio(weights @ (kernel * distance), near)
    spread = ratio(weights @ (kernel * distance**2), near) - lever**2
    tilt = ratio(ratio(rest @ (kernel * distance), near) - lever * left, spread + EDGE)
    informative = weights @ (kernel * (4 * expit(x) * expit(-x))[:, None])
    return np.where(informative >= fewest, np.clip(_along(line, at) + left - tilt * lever, 0, 1), np.nan)


def _along(line: Floats, x: Floats) -> Floats:
    """Evaluate lines (R, 2) on the logit scale at x (n,), as probabilities (R, n)."""
    return np.asarray(expit(line[:, :1] + line[:, 1:] * x))


def bandwidth(x: Floats) -> float:
    """Compute the kernel's standard deviation: 1.06 min(sd, IQR / 1.349) m^(-1/5), m the number of distinct values.

    (Silverman 1986, "Density estimation", section 3.4.2.) Repeated values add no information, so they do not narrow it.
    """
    lower, upper = np.quantile(x, [0.25, 0.75], method="inverted_cdf")
    spreads = [spread for spread in (np.std(x), (upper - lower) / 1.349) if spread > 0]
    return float(1.06 * min(spreads, default=1.0) * len(np.unique(x)) ** -0.2)


def grid_of(prediction: Floats) -> Floats:
    """Build a grid (G,) over the range of predictions, half of it evenly spaced in p, half in logit p; ascending."""
    lower, upper = np.clip([prediction.min(), prediction.max()], EDGE, 1 - EDGE)
    first, last = logit(np.array([lower, upper]))
    even_in_logit = np.clip(expit(np.linspace(first, last, POINTS)[1:-1]), lower, upper)
    return np.unique(np.concatenate([np.linspace(lower, upper, POINTS), even_in_logit]))


def smooth_error(prediction: Floats, events: Marks, weights: Floats) -> Floats:
    """Compute the "integrated calibration index", the mean |curve - p| over cases (Austin and Steyerberg 2019).

    The curve is `smooth_curve` at `grid_of`, linear between the points, also where cases are few. It is above 0 for
    perfect predictions too: compare with `calibration.if_perfect`.

    Returns
    -------
    (R,)
        NaN if all weights are zero.
    """
    grid = grid_of(prediction)
    gaps = np.abs(smooth_curve(prediction, events, weights, grid, fewest=0) - grid)
    near = weights @ np.stack([np.interp(prediction, grid, point) for point in np.eye(len(grid))], axis=1)
    known = np.isfinite(gaps)
    return ratio(np.where(known, near * gaps, 0).sum(axis=1), (near * known).sum(axis=1))


def curve_table(prediction: Floats, events: Marks, weights: Floats, confidence: float) -> pd.DataFrame:
    """Tabulate `smooth_curve` at the points of `grid_of` where it is known, with pointwise percentile intervals.

    Columns `CURVE`. The level of the intervals does not hold for the whole curve.
    """
    grid = grid_of(prediction)
    grid = grid[np.isfinite(smooth_curve(prediction, events, weights[:1], grid)[0])]
    curve = partial(smooth_curve, prediction, events, grid=grid, fewest=0)  # 0: keep replicates with few cases
    return pd.DataFrame({"prediction": grid, **band("observed", in_blocks(curve, weights), confidence)}, columns=CURVE)


def distribution(prediction: Floats, events: Marks, bins: int) -> pd.DataFrame:
    """Count events and non-events per bin of equal width, in columns `lower, upper, events, others`."""
    edges, number = np.linspace(0, 1, bins + 1), bin_of(prediction, bins)
    counts = [np.bincount(number[chosen], minlength=bins) for chosen in (events, ~events)]
    return pd.DataFrame({"lower": edges[:-1], "upper": edges[1:], "events": counts[0], "others": counts[1]})


def distances_of(bins: int) -> dict[str, Metric]:
    """List the distances from perfect calibration, each of which sampling error biases upwards."""
    return {
        "ece_width": partial(calibration_error, bins=bins),
        "ece_mass": partial(calibration_error, bins=bins, mass=True),
        "squared_error_debiased": partial(squared_error_debiased, bins=bins),
        "mcb": miscalibration,
        "ici": smooth_error,
    }


def calibration_row(
    prediction: Floats,
    events: Marks,
    patients: Names,
    weights: Floats,
    *,
    confidence: float,
    bins: int,
    seed: int,
) -> dict[str, Any]:
    """Compute all calibration metrics of a yes/no prediction, in the columns of one row.

    Parameters
    ----------
    prediction : (n,)
    events : (n,) bool
    patients : (n,)
    weights : (1 + R, n)
        See `bootstrap.cluster_weights`.
    confidence : float
        Level of the intervals, e.g. 0.95.
    bins : int
        Number of bins of `ece_width`, `ece_mass` and `squared_error_debiased` (of equal width).
    seed : int
        Seed of the draws under perfect calibration.

    Returns
    -------
    dict
        `n`, `events`, `bins`, and in the three columns of `summary.limits_of` each: `observed_expected`,
        `calibration_intercept`, `calibration_slope`, the distances of `distances_of`, `dsc` and `unc`; and for each
        distance `<name>_null`, its mean, 5th and 95th percentile under perfect calibration.
    """
    ratio_of_events = estimate(partial(observed_expected, prediction, events), weights, float(confidence))
    parts = Corp(*in_blocks(lambda some: np.stack(corp(prediction, events, some), axis=1), weights).T)
    found = {
        "observed_expected": ratio_of_events,
        "calibration_intercept": intercept_estimate(prediction, events, patients, float(confidence)),
        "calibration_slope": slope_estimate(prediction, events, patients, confidence),
        **_distances(prediction, events, weights, confidence=confidence, bins=bins),
        "dsc": distance_estimate(estimate_of(parts.discrimination, confidence), float(confidence)),
        "unc": estimate_of(parts.uncertainty, confidence),
        **{f"{name}_null": _null(metric, prediction, patients, seed) for name, metric in distances_of(bins).items()},
    }
    counts = {"n": len(prediction), "events": int(events.sum()), "bins": bins}
    return counts | in_columns({name: asdict(one) for name, one in found.items()})


def _distances(
    prediction: Floats, events: Marks, weights: Floats, *, confidence: float, bins: int
) -> Mapping[str, Estimate]:
    plug_in = {"squared_error_debiased": float(squared_error(prediction, events, weights[:1], bins)[0])}
    return {
        name: distance_estimate(
            estimate(partial(metric, prediction, events), weights, confidence), confidence, plug_in.get(name)
        )
        for name, metric in distances_of(bins).items()
    }


def _null(metric: Metric, prediction: Floats, patients: Names, seed: int) -> Estimate:
    """Estimate the mean, 5th and 95th percentile of a metric under perfect calibration."""
    draws = if_perfect(metric, prediction, replicates=NULL_DRAWS, seed=seed, patients=patients)
    lower, upper = np.nanquantile(draws, [0.05, 0.95])
    return Estimate(float(np.nanmean(draws)), float(lower), float(upper))
