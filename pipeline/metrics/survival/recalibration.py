"""From the output of a network to the log hazard, the risk at chosen times, and the group of a patient."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.calibrators.calibrator import Calibrator, Linear
from pipeline.metrics.evaluation import logits_of
from pipeline.metrics.fusion import Fusion
from pipeline.metrics.output_fusion import values_of
from pipeline.metrics.survival.cox import baseline_hazard, fit_cox
from pipeline.metrics.survival.curves import Curve, kaplan_meier

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]
Names = NDArray[np.str_]

GROUPS = ("low", "intermediate", "high")
PENALTY = 0.1  # of a slope whose likelihood has no maximum: outputs of few patients may rank every event right


@dataclass(frozen=True)
class Risks:
    """Absolute risks of a proportional hazards model: 1 - S0(t)^exp(log hazard).

    Attributes
    ----------
    times : tuple of float
        Ascending, in the unit of time.
    baseline : tuple of float
        S0 at these times: the probability of no event until then, of a patient whose log hazard is 0.
    cuts : tuple of float
        Two log hazards between the three `GROUPS`: tertiles of the patients on whom they were set.
    """

    times: tuple[float, ...]
    baseline: tuple[float, ...]
    cuts: tuple[float, float]

    def of(self, log_hazard: Floats) -> Floats:
        """Compute the risk (n, h) of the event until each time, between 0 and 1, of log hazards (n,)."""
        return 1 - np.array(self.baseline) ** np.exp(log_hazard)[:, None]

    def groups(self, log_hazard: Floats) -> NDArray[np.int64]:
        """Find the number of the group (n,) of log hazards (n,)."""
        low, high = self.cuts
        above = log_hazard >= high if high > low else log_hazard > high  # all intermediate where all are alike
        return (log_hazard >= low).astype(np.int64) + above

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Risks":
        """Read the values that `as_json` wrote; raise KeyError, TypeError or ValueError if they are something else."""
        times, baseline, cuts = (tuple(map(float, values[name])) for name in ("times", "baseline", "cuts"))
        if len(times) != len(baseline) or not times or len(cuts) != 2 or not np.isfinite([*times, *cuts]).all():
            raise ValueError("risks need as many probabilities as times, and two finite cuts")
        if not all(0 <= share <= 1 for share in baseline) or list(times) != sorted(times) or cuts[0] > cuts[1]:
            raise ValueError("risks need ascending times and cuts, and probabilities between 0 and 1")
        return cls(times, baseline, (cuts[0], cuts[1]))


@dataclass(frozen=True)
class Recalibration:
    """What is fitted on cases that the network was not trained on.

    Attributes
    ----------
    line : Linear
        From outputs to log hazards relative to the average patient.
    hazard : Curve
        Cumulative hazard of a patient whose log hazard is 0.
    everyone : Curve
        Kaplan-Meier curve of the same patients, the prediction without a model.
    risks : Risks
    fusion : Fusion or None
        With columns, what gives the log hazards.
    parts : mapping
        With columns, the recalibrations of the columns alone and of the image alone.
    """

    line: Linear
    hazard: Curve
    everyone: Curve
    risks: Risks
    fusion: Fusion | None = None
    parts: Mapping[str, "Recalibration"] = field(default_factory=dict)

    @property
    def digested(self) -> Calibrator:
        """What the column `calibrator` of predictions names."""
        return self.fusion or self.line

    def values(self, cases: pd.DataFrame) -> Floats:
        """Predict the log hazard (n,) of each case."""
        return values_of(self.fusion, cases) if self.fusion else self.line.apply(logits_of(cases)[:, 0])

    def survival(self, log_hazard: Floats, when: Floats) -> Floats:
        """Predict the probability (n, h) of no event until each time (h,)."""
        return np.asarray(np.exp(-self.hazard.at(when) * np.exp(log_hazard)[:, None]))

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values; `calibrator_from`, `Risks.from_json` and `fusion_from` read them."""
        known = self.line.as_json() | {"risks": self.risks.as_json()}
        return known | ({"fusion": self.fusion.as_json()} if self.fusion else {})


def fit_recalibration(
    outputs: Floats, times: Floats, events: Marks, patients: Names, *, at: Floats, recalibrate: bool = True
) -> Recalibration:
    """Fit slope, baseline hazard and groups on cases (n,) that the network was not trained on.

    The slope is that of a Cox model with the output as its only variable (van Houwelingen 2000, "Validation,
    calibration, revision and combination of prognostic survival models", section 3), and never negative; the baseline
    is Breslow's. A patient's images have the weight of one patient together.

    Parameters
    ----------
    outputs, times, events : (n,)
        At least one event.
    patients : (n,)
    at : (h,)
        Times for which risks are asked.
    recalibrate : bool
        Whether the slope is fitted; otherwise it is 1.
    """
    names, of_case, counts = np.unique(patients, return_inverse=True, return_counts=True)
    weights = 1 / counts[of_case]
    slope = max(_slope(outputs, times, events, weights), 0.0) if recalibrate else 1.0
    line = Linear(slope, -slope * float(weights @ outputs) / len(names))
    values = line.apply(outputs)
    hazard = baseline_hazard(values, times, events, weights)
    of_patients = pd.Series(values).groupby(of_case).mean().to_numpy()
    low, high = np.quantile(of_patients, [1 / 3, 2 / 3]).tolist()
    risks = Risks(tuple(at.tolist()), tuple(np.exp(-hazard.at(at)).tolist()), (low, high))
    return Recalibration(line, hazard, kaplan_meier(times, events, weights), risks)


def _slope(outputs: Floats, times: Floats, events: Marks, weights: Floats) -> float:
    if np.ptp(outputs) <= 1e-12 * max(float(np.abs(outputs).max()), 1e-300):
        return 1.0
    try:
        return float(fit_cox(outputs[:, None], times, events, weights=weights)[0])
    except ValueError:
        return float(fit_cox(outputs[:, None], times, events, PENALTY, weights=weights)[0])


def quartiles_of_events(times: Floats, events: Marks, patients: Names) -> tuple[float, ...]:
    """Compute the quartiles of the times of events, one for each patient, rounded to two digits."""
    known = pd.DataFrame({"patient": patients, "time": times})[events].groupby("patient")["time"].first()
    found = np.quantile(known.to_numpy(), [0.25, 0.5, 0.75])
    return tuple(dict.fromkeys(float(f"{value:.2g}") for value in found))


def residuals(hazard: Floats, events: Marks) -> Floats:
    """Compute deviance residuals (n,) from cumulative hazards at the observed times (n,).

    sign(M) sqrt(-2 (M + d ln(d - M))), where M = d - H is the martingale residual and d marks events: above 0 the event
    came earlier than predicted, below 0 later or not at all (Therneau, Grambsch, Fleming 1990, "Martingale-based
    residuals for survival models", section 3).
    """
    known = np.maximum(hazard, 1e-6)
    martingale: Floats = events - known
    inside = np.where(events, martingale + np.log(known), martingale)
    return np.asarray(np.sign(martingale) * np.sqrt(np.maximum(-2 * inside, 0)))
