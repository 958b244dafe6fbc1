"""Tables of times: what is told of few patients, and what is not told beyond the follow-up."""

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.calibrators.calibrator import Linear
from pipeline.metrics.survival import evaluation
from pipeline.metrics.survival.curves import Curve
from pipeline.metrics.survival.evaluation import mapped, summarise
from pipeline.metrics.survival.recalibration import Recalibration, Risks
from pipeline.stages.calibrate.one_output_tables import subgroups
from pipeline.stages.calibrate.survival import times_for
from pipeline.stages.calibrate.survival_tables import TOLD, follow_up, reliability

AT = (2.0, 6.0)
HAZARD = Curve(np.array([1.0, 5.0]), np.array([0.25, 1.0]), start=0.0)  # .25 until 2, 1 until 6
EVERYONE = Curve(np.array([2.0]), np.array([0.5]))
BY_HAND = Recalibration(Linear(1.0, 0.0), HAZARD, EVERYONE, Risks(AT, (np.exp(-0.25), np.exp(-1)), (0.1, 0.6)))
DRAWS = Bootstrap(50, 0.95, 0)


def evaluated(times, events, hazards=None, **columns):
    """Cases of one fold with a recalibration that changes nothing."""
    count = len(times)
    known = {"case": np.arange(count).astype(str), "patient": np.arange(count).astype(str), "site": "a", "fold": "0"}
    known |= {"time": np.asarray(times, dtype=float), "event": np.asarray(events, dtype=bool)}
    known |= {"logit_0": np.zeros(count) if hazards is None else np.asarray(hazards, dtype=float)}
    return mapped(pd.DataFrame(known | columns), {"0": BY_HAND})


def test_follow_up_is_told_of_sites_with_ten_patients_or_more():
    times = [*range(1, 11), *range(1, 10)]
    events = [True, True, True, *[False] * 7, *[True] * 9]
    rows = follow_up(evaluated(times, events, site=["large"] * 10 + ["small"] * 9))
    whole, large = rows
    assert (whole["site"], whole["patients"], whole["events"]) == ("all", 19, 12)
    assert whole["censored"] == pytest.approx(7 / 19, abs=1e-6)
    assert (large["site"], large["patients"], large["events"], large["censored"]) == ("large", 10, 3, 0.7)
    # Of those under observation after 3 events, 6/7, 5/7, 4/7, 3/7 are left after the times 4, 5, 6 and 7.
    assert large["median_follow_up"] == 7


def test_images_make_no_site_large_and_a_site_called_all_is_no_exception():
    patients = np.repeat(np.arange(6), 2).astype(str)
    images = evaluated(np.repeat(range(1, 7), 2), [True] * 12, patient=patients, site="all")
    (only,) = follow_up(images.of_patients())
    assert only["site"] == "all" and only["patients"] == 6


def test_bins_of_which_nobody_was_observed_for_longer_have_no_row():
    """The four patients of high risk have the event until 6; of the others one is censored before."""
    cases = evaluated(
        [1, 2, 4, 6, 5, 7, 8, 9], [True, True, True, True, False, True, False, False], [np.log(2)] * 4 + [0.0] * 4
    )
    found = reliability(cases, 2)
    assert found[["time", "n"]].to_numpy().tolist() == [[2, 4], [2, 4], [6, 4]]
    low, high = 1 - np.exp(-0.25), 1 - np.exp(-0.5)
    np.testing.assert_allclose(found["prediction"], [low, high, 1 - np.exp(-1)])
    np.testing.assert_allclose(found["observed"], [0, 0.5, 0])


def test_times_that_are_not_asked_for_lie_within_the_follow_up():
    def times_of(times, events):
        known = {"time": times, "event": events, "patient": np.arange(len(times)).astype(str)}
        return times_for(pd.DataFrame(known), ())

    assert times_of([2.0, 4.0, 6.0, 8.0, 20.0], [True] * 4 + [False]) == (3.5, 5.0, 6.5)
    # The last quartile, 1.9625, is 2.0 in two digits, when nobody is under observation any more.
    assert times_of([1.0, 1.5, 1.96, 1.97, 1.98], [True] * 4 + [False]) == (1.4, 1.7)


def test_a_subgroup_computes_only_the_metrics_that_are_told(monkeypatch):
    rng = np.random.default_rng(0)
    hazards = rng.normal(size=60)
    cases = evaluated(rng.exponential(5 / np.exp(hazards)) + 0.1, rng.random(60) < 0.7, hazards, group_sex="F")
    every = summarise(cases, cases.values, DRAWS)

    def never(*_, **__):
        raise AssertionError("it is not told")

    monkeypatch.setattr(evaluation, "calibration_slope", never)
    monkeypatch.setattr(evaluation, "uno_c", never)
    (row,) = subgroups(cases, TOLD, DRAWS)
    assert row["n"] == 60 and not row["too_few"]
    for name in TOLD.of_a_group:
        assert [row[name], row[f"{name}_lower"], row[f"{name}_upper"]] == list(every[name].values())
