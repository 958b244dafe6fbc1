"""Prediction intervals of a number: locally weighted split conformal prediction, with patients as units.

The score of a case is |y - value| / e(value), where e is the error that is expected at this value, and the interval of
a new case is value ± q e(value) (Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018, "Distribution-free predictive
inference for regression", section 5.2). Each patient counts once, by the highest score of the images, and q is the
k-th lowest of n patients' scores, k = ceil((n + 1) coverage), as in `metrics.conformal`: all images of a new patient
lie in their intervals with at least this probability.

Line and expected error are fitted on the same patients, so the score of each patient comes from a fit without this
patient (cross-conformal, Vovk 2015). `benchmarks/regression_intervals.py` measures the coverage.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.calibrators.calibrator import Linear
from pipeline.metrics.calibrators.linear import fit_linear
from pipeline.metrics.conformal import fewest, rank_of

Floats = NDArray[np.float64]
Names = NDArray[np.str_]

PARTS = 5  # of the patients, for the scores
FLOOR = 0.25  # least expected error, as a share of the mean error


@dataclass(frozen=True)
class ExpectedError:
    """The absolute error that is expected at a value: start + rise * value within the values seen, at least `floor`.

    Attributes
    ----------
    start, floor : float
        In the unit of the number; the floor is above 0.
    rise : float
    lowest, highest : float
        The range of the values that it was fitted on; it is constant beyond.
    """

    start: float
    rise: float
    floor: float
    lowest: float
    highest: float

    def at(self, values: Floats) -> Floats:
        """Compute the expected error (n,) at values (n,)."""
        return np.maximum(self.start + self.rise * np.clip(values, self.lowest, self.highest), self.floor)


@dataclass(frozen=True)
class Intervals:
    """Prediction intervals: value ± quantile * expected error.

    Attributes
    ----------
    coverage : float
        The promised probability, between 0 and 1.
    error : ExpectedError
    quantile : float or None
        None if the patients are too few for the promise; there are no intervals then.
    patients : int
        Number of patients on whom it was set.
    """

    coverage: float
    error: ExpectedError
    quantile: float | None
    patients: int

    def of(self, values: Floats) -> tuple[Floats, Floats]:
        """Compute the lower and upper limits (n,) of values (n,); NaN without a quantile."""
        reach = self.error.at(values) * (np.nan if self.quantile is None else self.quantile)
        return values - reach, values + reach

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Intervals":
        """Read the values that `as_json` wrote; raise KeyError, TypeError or ValueError if they are something else."""
        error = ExpectedError(**{name: float(number) for name, number in values["error"].items()})
        quantile = None if values["quantile"] is None else float(values["quantile"])
        if not np.isfinite([*asdict(error).values(), quantile or 0.0]).all() or error.floor <= 0:
            raise ValueError("intervals of a number need finite numbers and an expected error above 0")
        return cls(float(values["coverage"]), error, quantile, int(values["patients"]))


def fit_values(
    outputs: Floats, true: Floats, patients: Names, coverage: float, *, recalibrate: bool = True
) -> tuple[Linear, Intervals]:
    """Fit recalibration and intervals on cases (n,) that the network was not trained on.

    Parameters
    ----------
    outputs, true : (n,)
        Outputs of the network and true numbers, in their unit.
    patients : (n,)
        The unit: a patient's images have the weight of one patient together.
    coverage : float
        Above 0, below 1.
    recalibrate : bool
        Whether slope and intercept are fitted; otherwise the outputs stay.

    Returns
    -------
    Linear, Intervals
        From all cases; the quantile from scores of fits without the patient.
    """
    names, of_case, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights, scores = 1 / counts[of_case], np.zeros(len(outputs))
    parts = min(PARTS, len(names))
    for part in range(parts if parts > 1 else 0):
        held = of_case % parts == part
        line, error = _fitted(outputs[~held], true[~held], weights[~held], recalibrate)
        values = line.apply(outputs[held])
        scores[held] = np.abs(true[held] - values) / error.at(values)
    line, error = _fitted(outputs, true, weights, recalibrate)
    worst = np.sort(pd.Series(scores).groupby(of_case).max().to_numpy())
    alpha = round(1 - coverage, 12)
    enough = len(names) >= max(fewest(alpha), 2)
    quantile = float(worst[rank_of(len(names), alpha) - 1]) if enough else None
    return line, Intervals(coverage, error, quantile, len(names))


def _fitted(outputs: Floats, true: Floats, weights: Floats, recalibrate: bool) -> tuple[Linear, ExpectedError]:
    line = fit_linear(outputs, true, weights) if recalibrate else Linear()
    values = line.apply(outputs)
    return line, fit_error(values, np.abs(true - values), weights)


def fit_error(values: Floats, errors: Floats, weights: Floats) -> ExpectedError:
    """Fit the expected error by a weighted least-squares line of absolute errors (n,) on values (n,)."""
    share = weights / weights.sum()
    middle, mean = float(share @ values), float(share @ errors)
    spread = float(share @ np.square(values - middle))
    rise = float(share @ ((values - middle) * errors)) / spread if spread > 1e-12 * max(middle**2, 1e-300) else 0.0
    floor = max(FLOOR * mean, 1e-9 * max(1.0, abs(middle)))
    seen = {"lowest": float(values.min()), "highest": float(values.max())}
    return ExpectedError(mean - rise * middle, rise, floor, **seen)
