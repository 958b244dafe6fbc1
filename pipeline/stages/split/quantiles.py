"""Strata of a regression: quantiles of the patients' numbers."""

import numpy as np
import pandas as pd

NUMBER = "number"  # column of the numbers of a regression, NaN where there is none
QUANTILES = 5


def quantiles_of(cases: pd.DataFrame, parts: int) -> pd.Series:
    """Name the quantile of each case's patient, by the mean of the patient's numbers; "" without a number.

    Quantiles hold equally many patients, so that each fold sees low and high numbers. There are at most `QUANTILES`,
    and so few that each holds a patient for every part.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `patient` and `number`.
    parts : int
    """
    mean = cases.groupby("patient")[NUMBER].mean().dropna()
    count = int(np.clip(len(mean) // max(parts, 1), 1, QUANTILES))
    rank = mean.rank(method="first").astype(int) - 1  # patients are in the order of their pseudonyms
    named = ("quantile " + (rank * count // max(len(mean), 1) + 1).astype(str)) + f" of {count}"
    return cases["patient"].map(named).where(cases[NUMBER].notna(), "").fillna("")
