"""A chart of evidence over time: when it sounded the alarm, and since when there was something to be found."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FALSE_ALARMS = 0.05  # of all charts together, over the whole time that a model is watched


@dataclass(frozen=True)
class Chart:
    """The wealth of those who bet that something changed.

    Attributes
    ----------
    name : str
    log_wealth : (n,)
        Its natural logarithm after each patient.
    limit : float
        The wealth that sounds the alarm.
    parts : mapping of str to (n,)
        Where the wealth is the mean of several, those, by label.
    """

    name: str
    log_wealth: Floats
    limit: float
    parts: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def alarm(self) -> int | None:
        """Count the patients until the alarm; None if there was none."""
        over = np.flatnonzero(self.log_wealth >= np.log(self.limit))
        return int(over[0]) + 1 if len(over) else None

    @property
    def since(self) -> int | None:
        """Count the patients before the change, as it seems: until the wealth was at its least before the alarm."""
        if self.alarm is None:
            return None
        before = np.concatenate([[0.0], self.log_wealth[: self.alarm]])
        return int(len(before) - 1 - before[::-1].argmin())

    @property
    def found(self) -> list[str]:
        """Name the labels whose own wealth alone was enough for the alarm, at any time.

        It then was `limit` times their number, so that the mean reached the limit too: that a label is ever named
        without a reason is part of the false alarms that are allowed to the chart, and costs none of its own.
        """
        return [part.name for part in self.apart if part.alarm]

    @property
    def apart(self) -> list["Chart"]:
        """Give a chart for each label, whose limit is that of all together times their number."""
        return [Chart(name, logs, self.limit * len(self.parts)) for name, logs in self.parts.items()]

    @property
    def foremost(self) -> str:
        """Name the label that held the most when the alarm sounded; "" if there was none, or are no labels."""
        at = self.alarm
        return max(self.parts, key=lambda name: float(self.parts[name][at - 1])) if self.parts and at else ""

    @property
    def most(self) -> float:
        """Give the largest wealth, in multiples of what it began with."""
        return float(np.exp(np.max(self.log_wealth, initial=0.0)))


def limit_for(charts: int) -> float:
    """Say at which wealth a chart sounds the alarm, so that all together hardly ever do without a reason.

    By Ville's inequality and Bonferroni's: the chance that any of them is ever wrong is at most `FALSE_ALARMS`.
    """
    return charts / FALSE_ALARMS
