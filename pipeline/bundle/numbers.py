"""The number of a regression: its unit, its interval, and the widest interval that is an answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.regression.intervals import Intervals

Floats = NDArray[np.float64]

LIMITS = ("lower", "upper")  # columns of the interval of a number


@dataclass(frozen=True)
class NumberLimits:
    """The operating limits of a number.

    Attributes
    ----------
    unit : str
        "1" for a number without a unit.
    intervals : Intervals
        Prediction intervals of released values.
    middle : float
        Median of the development cases; a value far from it is unusual.
    widest : float or None
        The model abstains if the interval is wider; None if it never does.
    """

    unit: str
    intervals: Intervals
    middle: float
    widest: float | None

    @property
    def names(self) -> list[str]:
        """Name the columns of `columns`."""
        return list(LIMITS)

    def columns(self, value: float) -> dict[str, float | None]:
        """Give the limits of a value; None if development patients were too few for a promise."""
        return dict(zip(LIMITS, self.interval(value) or (None, None), strict=True))

    def interval(self, value: float) -> tuple[float, float] | None:
        """Compute the limits of a value; None if development patients were too few for a promise."""
        if self.intervals.quantile is None:
            return None
        lower, upper = self.intervals.of(np.array([value]))
        return float(lower[0]), float(upper[0])

    def in_words(self, value: float) -> str:
        """Write the interval of a value with its unit; "" without one."""
        found = self.interval(value)
        return f"{found[0]:.4g} to {found[1]:.4g}{self.of_unit}" if found else ""

    def too_wide(self, value: float) -> list[str]:
        """Say that the interval is too wide for an answer; nothing if it is not."""
        found = self.interval(value)
        if found is None or self.widest is None or found[1] - found[0] <= self.widest:
            return []
        return [f"the interval is {found[1] - found[0]:.4g}{self.of_unit} wide, limit {self.widest:.4g}"]

    @property
    def of_unit(self) -> str:
        """The unit after a blank; "" for a number without one."""
        return "" if self.unit == "1" else f" {self.unit}"

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        known = {"unit": self.unit, "middle": self.middle, "widest": self.widest}
        return known | {"intervals": self.intervals.as_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "NumberLimits":
        """Read the values that `as_json` wrote; raise KeyError, TypeError or ValueError if they are something else."""
        widest = values["widest"]
        return cls(
            unit=str(values["unit"]),
            intervals=Intervals.from_json(values["intervals"]),
            middle=float(values["middle"]),
            widest=None if widest is None else float(widest),
        )


def unusual(logits: Floats, middle: float) -> Floats:
    """Turn outputs (n, 1) into (n, 1) that are the lower, the farther an output is from the middle.

    Their energy (`metrics.ood.energy`) is the distance from the middle.
    """
    return np.asarray(-np.abs(logits - middle))


def limits_of_numbers(
    values: Floats, intervals: Intervals, *, unit: str, middle: float, answered: float
) -> NumberLimits:
    """Set the limits on development cases.

    Parameters
    ----------
    values : (n,)
        Released values of cases that the model was not trained on.
    intervals : Intervals
    unit : str
    middle : float
        See `NumberLimits`.
    answered : float
        Share of these cases that are answered, above 0 up to 1; where all intervals are equally wide, all are.
    """
    lower, upper = intervals.of(values)
    width = upper - lower
    widest = None if not np.isfinite(width).all() else float(np.quantile(width, answered, method="higher")) * (1 + 1e-9)
    return NumberLimits(unit, intervals, middle, widest)
