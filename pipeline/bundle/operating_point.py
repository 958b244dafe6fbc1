"""The operating point of a released model: how probabilities become a decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.imaging.labels import NO_FINDING

Floats = NDArray[np.float64]
Unit = Literal["scan", "patient"]
MOST_PROBABLE = "the most probable class"


@dataclass(frozen=True)
class OperatingPoint:
    """The rule of a decision, and its thresholds.

    Attributes
    ----------
    rule : str
        E.g. "sensitivity at specificity 0.90", or `MOST_PROBABLE`.
    thresholds : mapping
        By unit, by class: the probability from which the class is decided. Of two classes the last one, of a
        multilabel task each label; none if the decision is the most probable class.
    evaluated : mapping
        By class, by scope: `n`, and `sensitivity` and `specificity` with intervals, of decisions by scan on patients
        on whom the threshold was not chosen.
    multilabel : bool
        Whether each label is decided by itself.
    """

    rule: str
    thresholds: Mapping[str, Mapping[str, float]]
    multilabel: bool = False
    evaluated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def decide(self, probabilities: Floats, classes: Sequence[str], unit: Unit = "scan") -> str:
        """Decide from the released probabilities (K,) of a scan, or of a patient; "" without a threshold for them.

        >>> point = OperatingPoint("sensitivity at specificity 0.90", {"scan": {"lesion": 0.4}})
        >>> point.decide(np.array([0.55, 0.45]), ["control", "lesion"])
        'lesion'
        """
        if self.rule == MOST_PROBABLE:
            return classes[int(probabilities.argmax())]
        known = self.thresholds.get(unit, {})
        if not known:
            return ""
        if not self.multilabel:
            return classes[int(probabilities[1] >= known[classes[1]])]
        over = [name for name, value in zip(classes, probabilities, strict=True) if value >= known.get(name, np.inf)]
        undecided = [f"{name}: undecided" for name in classes if name not in known]
        return "; ".join([*(over or [NO_FINDING]), *undecided])

    @classmethod
    def from_json(cls, values: Mapping[str, Any], multilabel: bool) -> "OperatingPoint":
        """Read the operating point of a bundle's metadata, see `stages.release.operating_point`."""
        thresholds: dict[str, dict[str, float]] = {}
        for one in values["points"]:
            thresholds.setdefault(one["unit"], {})[one["class"]] = float(one["threshold"])
        evaluated = {one["class"]: dict(one.get("evaluated", {})) for one in values["points"] if one["unit"] == "scan"}
        return cls(str(values["rule"]), thresholds, multilabel, evaluated=evaluated)
