"""Nobody is evaluated by what was fitted on them, and nobody is lost on the way: checked row by row, not believed."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import pandas as pd


class Lost(ValueError):
    """Cases that should be evaluated and are not, or are evaluated twice."""


class Seen(ValueError):
    """A case that is evaluated by a calibrator that was fitted on its patient."""


def refuse_lost(expected: Iterable[str], found: Iterable[str]) -> None:
    """Make sure that every case that was assigned is evaluated once.

    Raises
    ------
    Lost
        With the first of the missing, the unexpected or the repeated cases, and how many there are.
    """
    assigned, evaluated = Counter(expected), Counter(found)
    for what, cases in {
        "missing": assigned - evaluated,
        "evaluated twice or never assigned": evaluated - assigned,
    }.items():
        if cases:
            raise Lost(f"{sum(cases.values())} cases are {what}, e.g. {min(cases)}")


def refuse_seen(
    cases: pd.DataFrame, fitted_on: Mapping[str, Collection[str]], acknowledged: Collection[str] = ()
) -> None:
    """Make sure that no case is evaluated by a calibrator that was fitted on an image of its patient.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `case`, `patient`, and `fold`, by which the calibrator is found.
    fitted_on : mapping
        Of each fold the patients on whom its calibrator was fitted.
    acknowledged : collection of str
        Cases and patients that may stand on both sides; every metric is stamped with them elsewhere.

    Raises
    ------
    Seen
        With the first such case.
    """
    for case, patient, fold in cases[["case", "patient", "fold"]].itertuples(index=False):
        if patient in fitted_on[fold] and not {case, patient} & set(acknowledged):
            raise Seen(
                f"case {case} of fold {fold} is evaluated by a calibrator that was fitted on its patient {patient}"
            )
