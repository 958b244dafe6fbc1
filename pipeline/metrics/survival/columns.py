"""Predict times until an event from columns of a table, without the image."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.metrics.baseline import C, encoder_of
from pipeline.metrics.survival.cox import baseline_hazard, fit_cox
from pipeline.metrics.survival.curves import Curve, kaplan_meier

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]


def hazard_from_columns(
    train: pd.DataFrame, times: Floats, events: Marks, evaluated: pd.DataFrame
) -> tuple[Floats, Curve]:
    """Predict log hazards by a penalised Cox model of table columns, encoded as for `prediction_from_columns`.

    Parameters
    ----------
    train, evaluated : pandas.DataFrame
        The same columns of m training cases and of n cases to evaluate; without columns, all log hazards are 0.
    times, events : (m,)

    Returns
    -------
    log_hazard : (n,)
    hazard : Curve
        Cumulative hazard of a patient whose log hazard is 0; without columns from the Kaplan-Meier curve.
    """
    if train.shape[1] == 0:
        curve = kaplan_meier(times, events)
        return np.zeros(len(evaluated)), Curve(curve.times, -np.log(np.maximum(curve.values, 1e-12)), start=0.0)
    encode = encoder_of(train)
    known, asked = encode(train), encode(evaluated)
    mean = known.mean(axis=0)
    weight = fit_cox(known - mean, times, events, 1 / C)
    return (asked - mean) @ weight, baseline_hazard((known - mean) @ weight, times, events)
