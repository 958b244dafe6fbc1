"""The risks of a survival model: until when, and the group of a patient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.metrics.survival.evaluation import risk_column
from pipeline.metrics.survival.recalibration import GROUPS, Risks


@dataclass(frozen=True)
class TimeLimits:
    """What a bundle knows of log hazards; there is no limit of confidence, because each risk says how sure it is.

    Attributes
    ----------
    unit : str
        Of time.
    risks : Risks
    middle : float
        Mean output of the training cases; one far from it is unusual.
    """

    unit: str
    risks: Risks
    middle: float = 0.0

    @property
    def names(self) -> list[str]:
        """Name the columns of `columns`."""
        return [*map(risk_column, self.risks.times), "group"]

    def columns(self, log_hazard: float) -> dict[str, Any]:
        """Compute the risk until each time, from 0 to 1, and the group: low, intermediate or high."""
        value = np.array([log_hazard])
        shares = self.risks.of(value)[0].tolist()
        return dict(zip(self.names, [*shares, GROUPS[self.risks.groups(value)[0]]], strict=True))

    def interval(self, _: float) -> None:
        """Give no interval: see docs/decisions/0030."""
        return

    def in_words(self, log_hazard: float) -> str:
        """Write the risks and the group."""
        *shares, group = self.columns(log_hazard).values()
        told = [f"{share:.0%} until {time:g}" for share, time in zip(shares, self.risks.times, strict=True)]
        return f"risk {', '.join(told)} {self.unit}; {group}"

    def too_wide(self, _: float) -> list[str]:
        """Name no reason for low confidence."""
        return []

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {"unit": self.unit, "middle": self.middle, "risks": self.risks.as_json()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "TimeLimits":
        """Read the values that `as_json` wrote; raise KeyError, TypeError or ValueError if they are something else."""
        return cls(str(values["unit"]), Risks.from_json(values["risks"]), float(values["middle"]))
