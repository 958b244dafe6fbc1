"""Strata of a regression or of survival: quantiles of the patients' numbers, or of times with and without event."""

import numpy as np
import pandas as pd

NUMBER = "number"  # column of the numbers of a regression, NaN where there is none
EVENT = "event"  # column of survival, whose number is the time: whether it is that of the event
QUANTILES = 5


def quantiles_of(cases: pd.DataFrame, parts: int) -> pd.Series:
    """Name the quantile of each case's patient, by the mean of the patient's numbers; "" without a number.

    Quantiles hold equally many patients, so that each fold sees low and high numbers. There are at most `QUANTILES`,
    and so few that each holds a patient for every part.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient` and `number`, and, for survival, `event`: quantiles of patients with the event and of others.
    parts : int
    """
    if EVENT in cases:
        with_event = cases.groupby("patient")[EVENT].transform("any")
        halves = {name: cases[with_event == kind] for name, kind in (("event", True), ("censored", False))}
        named = [name + ", " + quantiles_of(some.drop(columns=EVENT), parts) for name, some in halves.items()]
        return pd.concat(named).reindex(cases.index).where(cases[NUMBER].notna(), "")
    mean = cases.groupby("patient")[NUMBER].mean().dropna()
    count = int(np.clip(len(mean) // max(parts, 1), 1, QUANTILES))
    rank = mean.rank(method="first").astype(int) - 1  # patients are in the order of their pseudonyms
    named = ("quantile " + (rank * count // max(len(mean), 1) + 1).astype(str)) + f" of {count}"
    return cases["patient"].map(named).where(cases[NUMBER].notna(), "").fillna("")
