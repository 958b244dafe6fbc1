"""Summarise few-shot episodes; each draws a few patients per class and evaluates all held-out cases."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from pipeline.metrics.bootstrap import Estimate
from pipeline.stages.evidence.statistics.runs import COMPARISONS, Floats

FEW_SHOT = ["arm", "method", "shots", "value", "lower", "upper", "episodes", "n"]
DIFFERENCES = ["method", "shots", "value", "lower", "upper", "episodes"]


class Shots(NamedTuple):
    """Identify episodes: `shots` labelled patients per class; `method` is prototype, knn or probe."""

    arm: str
    method: str
    shots: int


def few_shot(aucs: Mapping[Shots, Floats], n: int, confidence: float) -> pd.DataFrame:
    """Tabulate the mean AUC over episodes of each arm, method and number of shots; columns `FEW_SHOT`.

    Parameters
    ----------
    aucs : mapping
        To the AUC of each episode (E,), averaged over folds; NaN where an episode has none.
    n : int
        Number of evaluated cases.
    confidence : float
        Of Student's interval over episodes, which the literature reports (Snell, Swersky, Zemel 2017, table 2). It
        covers the draw of the labelled patients, not the evaluated patients, who are the same in every episode.
    """
    rows = [(*shots, *_interval(found, confidence, (0, 1)), n) for shots, found in sorted(aucs.items())]
    return pd.DataFrame(rows, columns=FEW_SHOT)


def few_shot_differences(aucs: Mapping[Shots, Floats], confidence: float) -> pd.DataFrame:
    """Tabulate adapted minus ImageNet, paired by episode, with the interval of `few_shot`; columns `DIFFERENCES`.

    Raises
    ------
    ValueError
        If the arms have different numbers of episodes.
    """
    arm, reference = COMPARISONS["adaptation"]
    kinds = sorted({shots[1:] for shots in aucs if shots.arm == arm} & {s[1:] for s in aucs if s.arm == reference})
    rows = []
    for method, shots in kinds:
        a, b = aucs[Shots(arm, method, shots)], aucs[Shots(reference, method, shots)]
        if len(a) != len(b):
            raise ValueError(f"{method}, {shots} shots: {len(a)} and {len(b)} episodes; draw as many for both arms")
        rows.append((method, shots, *_interval(a - b, confidence, (-1, 1))))
    return pd.DataFrame(rows, columns=DIFFERENCES)


def _interval(values: Floats, confidence: float, within: tuple[float, float]) -> tuple[Any, ...]:
    """Compute the mean, the clipped limits of Student's interval, and the number of episodes with a value."""
    known = values[np.isfinite(values)]
    mean = float(known.mean()) if len(known) else None
    if mean is None or len(known) < 2:
        return (*Estimate(mean, None, None).as_json().values(), len(known))
    se = known.std(ddof=1) / np.sqrt(len(known))
    lower, upper = np.clip(
        mean + se * student.ppf([(1 - confidence) / 2, (1 + confidence) / 2], len(known) - 1), *within
    )
    return (*Estimate(mean, float(lower), float(upper)).as_json().values(), len(known))
