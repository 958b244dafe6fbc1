"""A chart of evidence over time: whether it raises an alarm, when, and when the change probably began."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FALSE_ALARMS = 0.05  # probability of any false alarm in any chart, over the whole time in use


@dataclass(frozen=True)
class Chart:
    """The wealth of a test martingale whose null hypothesis is that nothing has changed.

    Attributes
    ----------
    name : str
    log_wealth : (n,)
        Natural logarithm of the wealth after each patient; it starts at 0.
    limit : float
        Wealth at which the chart raises an alarm.
    by_label : mapping of str to (n,)
        If the wealth is the mean over several labels, the logarithm of the wealth of each.
    of_now : bool
        Whether only the last value counts, because earlier ones change when more becomes known of a patient.
    """

    name: str
    log_wealth: Floats
    limit: float
    by_label: Mapping[str, Floats] = field(default_factory=dict)
    of_now: bool = False

    @property
    def alarm(self) -> int | None:
        """Count the patients up to the alarm; None without an alarm."""
        over = np.flatnonzero(self.log_wealth >= np.log(self.limit))
        if self.of_now:
            over = over[over == len(self.log_wealth) - 1]
        return int(over[0]) + 1 if len(over) else None

    @property
    def before_change(self) -> int | None:
        """Estimate the number of patients before the change: up to the last minimum of the wealth before the alarm."""
        if self.alarm is None:
            return None
        before = np.concatenate([[0.0], self.log_wealth[: self.alarm]])
        return int(len(before) - 1 - before[::-1].argmin())

    @property
    def significant_labels(self) -> list[str]:
        """List the labels whose wealth alone is sufficient for an alarm at any time.

        Such a label reached `limit` times the number of labels, so that the mean reached the limit, too. Naming a
        label falsely is therefore part of the false alarms allowed to the chart.
        """
        return [chart.name for chart in self.label_charts if chart.alarm]

    @property
    def label_charts(self) -> list["Chart"]:
        """Give a chart for each label, with the limit of this chart times the number of labels."""
        return [Chart(name, logs, self.limit * len(self.by_label)) for name, logs in self.by_label.items()]

    @property
    def leading_label(self) -> str:
        """Name the label with the largest wealth at the alarm; "" without an alarm or labels."""
        at = self.alarm
        return max(self.by_label, key=lambda name: float(self.by_label[name][at - 1])) if self.by_label and at else ""

    @property
    def largest(self) -> float:
        """Compute the largest wealth so far, at least 1 (the start)."""
        counted = self.log_wealth[-1:] if self.of_now else self.log_wealth
        return float(np.exp(np.max(counted, initial=0.0)))


def limit_for(charts: int) -> float:
    """Compute the wealth at which each of several charts raises an alarm.

    By the inequalities of Ville and Bonferroni, the probability that any chart ever raises a false alarm is at most
    `FALSE_ALARMS`.
    """
    return charts / FALSE_ALARMS
