"""Draw the time of a simulated patient until an event, from the volume of the lesions, and censor it."""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq

from pipeline.stages.cohort.simulation.recipe import Times


def hazard_of(volume: float, times: Times) -> float:
    """Compute the hazard relative to patients without lesions from the volume of the lesions in ml."""
    return float(times.hazard_ratio ** (volume / 10))


def censoring_rate(volumes: Sequence[float], times: Times) -> float:
    """Find the rate of censoring that censors `times.censored` of patients with these volumes of lesions in ml.

    Event and censoring have one shape, so that a patient of hazard h is censored with the probability c / (c + h).
    """
    hazards = np.array([hazard_of(volume, times) for volume in volumes])
    if times.censored == 0:
        return 0.0
    excess = lambda log_rate: float((1 / (1 + hazards / np.exp(log_rate))).mean() - times.censored)  # noqa: E731
    return float(np.exp(brentq(excess, -50, 50)))


def drawn_time(volume: float, rate: float, times: Times, rng: np.random.Generator) -> tuple[float, bool]:
    """Draw the time that is observed, and whether it is that of the event.

    (t / scale)^shape is exponential, with the rate `hazard_of` for the event (Bender, Augustin, Blettner 2005,
    "Generating survival times to simulate Cox proportional hazards models", table II) and `rate` for censoring.
    """
    event, censoring = rng.exponential(size=2) / np.array([hazard_of(volume, times), max(rate, 1e-300)])
    return float(times.scale * min(event, censoring) ** (1 / times.shape)), bool(event <= censoring)
