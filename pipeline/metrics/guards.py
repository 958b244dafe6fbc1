"""Guards against missing or repeated cases, and against evaluating a calibrator on patients it was fitted on."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import pandas as pd


class MissingCases(ValueError):
    """Assigned cases are not evaluated, or cases are evaluated twice or without having been assigned."""


class LeakageError(ValueError):
    """A case is evaluated by a calibrator that was fitted on its patient."""


def refuse_missing_cases(expected: Iterable[str], found: Iterable[str]) -> None:
    """Check that every assigned case is evaluated exactly once.

    Raises
    ------
    MissingCases
        With the number of missing, unexpected or repeated cases and the first of them.
    """
    assigned, evaluated = Counter(expected), Counter(found)
    for what, cases in {
        "missing": assigned - evaluated,
        "evaluated twice or never assigned": evaluated - assigned,
    }.items():
        if cases:
            raise MissingCases(f"{sum(cases.values())} cases are {what}, e.g. {min(cases)}")


def refuse_leakage(
    cases: pd.DataFrame, fitted_on: Mapping[str, Collection[str]], acknowledged: Collection[str] = ()
) -> None:
    """Check that no case is evaluated by a calibrator that was fitted on an image of its patient.

    Parameters
    ----------
    cases : pandas.DataFrame
        Columns `case`, `patient`, and `fold`, which selects the calibrator.
    fitted_on : mapping
        Fold to the patients that its calibrator was fitted on.
    acknowledged : collection of str
        Cases and patients that are allowed on both sides; the report marks every metric with them.

    Raises
    ------
    LeakageError
        With the first such case.
    """
    for case, patient, fold in cases[["case", "patient", "fold"]].itertuples(index=False):
        if patient in fitted_on[fold] and not {case, patient} & set(acknowledged):
            raise LeakageError(
                f"case {case} of fold {fold} is evaluated by a calibrator that was fitted on its patient {patient}"
            )
