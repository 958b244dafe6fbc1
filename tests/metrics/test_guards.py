import pandas as pd
import pytest

from pipeline.metrics.guards import LeakageError, MissingCases, refuse_leakage, refuse_missing_cases

CASES = pd.DataFrame({"case": ["c1", "c2", "c3"], "patient": ["p1", "p1", "p2"], "fold": ["0", "0", "1"]})


def test_as_many_cases_come_out_as_went_in():
    refuse_missing_cases(["a", "b"], ["b", "a"])
    with pytest.raises(MissingCases, match=r"1 cases are missing, e\.g\. b"):
        refuse_missing_cases(["a", "b"], ["a"])
    with pytest.raises(MissingCases, match=r"2 cases are evaluated twice or never assigned, e\.g\. a"):
        refuse_missing_cases(["a", "b"], ["a", "b", "a", "c"])


def test_nobody_is_evaluated_by_a_calibrator_that_was_fitted_on_them():
    refuse_leakage(CASES, {"0": {"p2"}, "1": {"p1"}})
    with pytest.raises(LeakageError, match="case c3 of fold 1 .* its patient p2"):
        refuse_leakage(CASES, {"0": {"p2"}, "1": {"p1", "p2"}})


def test_another_image_of_the_same_patient_is_enough_to_be_refused():
    with pytest.raises(LeakageError, match="case c1"):
        refuse_leakage(CASES, {"0": {"p1"}, "1": set()})


def test_who_was_acknowledged_may_stand_on_both_sides():
    refuse_leakage(CASES, {"0": {"p2"}, "1": {"p2"}}, acknowledged=["p2"])
