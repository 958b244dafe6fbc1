"""Recalibration of log hazards, absolute risks, risk groups, and metrics of evaluated cases."""

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.survival.accuracy import brier
from pipeline.metrics.survival.evaluation import by_time, mapped, recalibration_for, summarise
from pipeline.metrics.survival.recalibration import (
    Risks,
    fit_recalibration,
    quartiles_of_events,
    residuals,
)
from tests.metrics.survival.simulated import simulated

AT = np.array([0.3, 0.8])


def patients_of(count, images=1):
    return np.repeat([f"p{number:04d}" for number in range(count // images)], images)


def cases_of(n=400, seed=0, folds=4, **changes):
    """Outputs that are half of the true log hazard plus 3, as a table of evaluated cases."""
    _, log_hazard, times, events = simulated(n, seed=seed)
    known = {"case": np.arange(n).astype(str), "patient": patients_of(n), "site": "a", "time": times, "event": events}
    known |= {"logit_0": 3 + log_hazard / 2, "fold": (np.arange(n) % folds).astype(str)}
    return pd.DataFrame(known | changes), log_hazard


def test_recalibration_finds_slope_baseline_and_origin_of_the_truth():
    _, log_hazard, times, events = simulated(8000)
    found = fit_recalibration(3 + log_hazard / 2, times, events, patients_of(8000), at=AT)
    assert found.line.slope == pytest.approx(2, abs=0.08)
    values = found.line.apply(3 + log_hazard / 2)
    assert values.mean() == pytest.approx(0, abs=1e-9)
    true = np.exp(-AT * np.exp(log_hazard)[:, None])
    np.testing.assert_allclose(1 - found.risks.of(values), true, atol=0.03)
    np.testing.assert_allclose(found.survival(values, AT), 1 - found.risks.of(values), atol=1e-12)
    counts = np.bincount(found.risks.groups(values)) / 8000
    np.testing.assert_allclose(counts, 1 / 3, atol=0.01)


def test_outputs_that_tell_nothing_or_the_wrong_have_no_negative_slope():
    _, log_hazard, times, events = simulated()
    assert fit_recalibration(-log_hazard, times, events, patients_of(400), at=AT).line.slope == 0

    constant = fit_recalibration(np.full(400, 2.0), times, events, patients_of(400), at=AT)
    np.testing.assert_allclose(constant.line.apply(np.full(400, 2.0)), 0, atol=1e-12)
    kept = fit_recalibration(log_hazard * 5, times, events, patients_of(400), at=AT, recalibrate=False)
    assert kept.line.slope == 1


def test_images_of_a_patient_weigh_as_one_patient():
    _, log_hazard, times, events = simulated(60)
    once = fit_recalibration(log_hazard, times, events, patients_of(60), at=AT)
    rows = np.repeat(np.arange(60), 1 + np.arange(60) % 3)
    some = fit_recalibration(log_hazard[rows], times[rows], events[rows], patients_of(60)[rows], at=AT)
    assert some.line.slope == pytest.approx(once.line.slope, rel=0.02)
    np.testing.assert_allclose(some.risks.baseline, once.risks.baseline, atol=0.005)


def test_outputs_that_rank_every_event_right_have_a_finite_slope():
    times, events = np.arange(1.0, 13.0), np.ones(12, dtype=bool)
    found = fit_recalibration(-times, times, events, patients_of(12), at=np.array([3.0]))
    assert 0 < found.line.slope < 100


def test_risks_are_read_as_they_were_written_and_bad_ones_refused():
    risks = Risks((12.0, 24.0), (0.9, 0.7), (-0.5, 0.5))
    assert Risks.from_json(risks.as_json()) == risks
    np.testing.assert_allclose(risks.of(np.array([0.0, np.log(2)])), [[0.1, 0.3], [0.19, 0.51]])
    assert risks.groups(np.array([-1.0, 0.0, 0.5])).tolist() == [0, 1, 2]
    for change in ({"times": [24, 12]}, {"baseline": [1.2, 0.5]}, {"baseline": [0.9]}, {"cuts": [1, 0]}, {"times": []}):
        with pytest.raises(ValueError, match="risks need"):
            Risks.from_json(risks.as_json() | change)


def test_deviance_residuals_are_those_of_the_definition():
    hazard, events = np.array([0.2, 2.0, 0.2, 2.0]), np.array([True, True, False, False])
    martingale = events - hazard
    inside = np.where(events, martingale + np.log(np.where(events, hazard, 1.0)), martingale)
    np.testing.assert_allclose(residuals(hazard, events), np.sign(martingale) * np.sqrt(-2 * inside))
    found = residuals(hazard, events)
    assert found[0] > 0 > found[1] and found[3] < found[2] < 0
    assert np.isfinite(residuals(np.zeros(2), np.array([True, False]))).all()


def test_quartiles_count_each_patient_once():
    times, events = np.array([1.0, 1.0, 1.0, 2.0, 3.0, 9.0]), np.array([True] * 5 + [False])
    assert quartiles_of_events(times, events, np.array(list("aaabcd"))) == (1.5, 2.0, 2.5)


def test_metrics_are_those_of_recalibrated_risks_beside_kaplan_meier():
    cases, _ = cases_of(folds=1, fold="final")
    other, _ = cases_of(seed=1)
    released = recalibration_for(other, AT, "auto")
    evaluated = mapped(cases, {"final": released})
    found = summarise(evaluated, evaluated.values, Bootstrap(100, 0.95, 0))
    assert found["n"] == found["patients"] == 400 and found["events"] == evaluated.events.sum()
    assert found["c"]["lower"] < found["c"]["value"] < found["c"]["upper"] and found["c"]["value"] > 0.7
    assert found["calibration_slope"]["value"] == pytest.approx(1, abs=0.25)
    assert found["ipa"]["value"] == pytest.approx(
        1 - found["integrated_brier"]["value"] / found["null_brier"]["value"], abs=1e-5
    )
    before = summarise(evaluated, evaluated.outputs, Bootstrap(100, 0.95, 0))
    assert before["c"]["value"] == found["c"]["value"] and before["ipa"]["value"] is None
    rows = by_time(evaluated, Bootstrap(100, 0.95, 0))
    assert [row["time"] for row in rows] == AT.tolist()
    survival = evaluated.survival(AT)
    one = np.ones((1, 400))
    for row, at, time in zip(rows, survival.T, AT, strict=True):
        expected = brier(at, evaluated.times, evaluated.events, one, horizon=float(time))[0]
        assert row["brier"].value == pytest.approx(expected) and row["predicted"] == pytest.approx(1 - at.mean())


def test_a_time_that_nobody_reached_has_no_brier_score():
    """Without patients who are known to have no event, the score would count events alone."""
    cases, _ = cases_of(n=80, folds=1, fold="final")
    short = cases.assign(time=cases["time"].clip(upper=0.5), event=cases["event"] & (cases["time"] <= 0.5))
    evaluated = mapped(short, {"final": recalibration_for(cases, AT, "auto")})
    found = summarise(evaluated, evaluated.values, Bootstrap(100, 0.95, 0))
    assert found["c"]["value"] > 0.6 and found["ipa"]["value"] is None and found["observed_expected"]["value"] is None
    first, last = by_time(evaluated, Bootstrap(100, 0.95, 0))
    assert first["brier"].value > 0 and {last[name].value for name in ("auc", "brier", "ipa")} == {None}


def test_each_fold_has_its_own_recalibration_and_patients_their_mean():
    cases, _ = cases_of(n=120, patient=patients_of(120, 2))
    times = cases.groupby("patient")["time"].transform("first")
    cases = cases.assign(time=times, event=cases.groupby("patient")["event"].transform("first"))
    cases["fold"] = (cases.groupby("patient").ngroup() % 3).astype(str)
    maps = {fold: recalibration_for(cases[cases["fold"] != fold], AT, "auto") for fold in "012"}
    evaluated = mapped(cases, maps)
    for row in (0, 31, 77):
        one = maps[cases["fold"][row]]
        assert evaluated.values[row] == pytest.approx(one.line.apply(np.array([cases["logit_0"][row]]))[0])
        np.testing.assert_allclose(evaluated.survival(AT)[row], one.survival(evaluated.values[row : row + 1], AT)[0])
    joined = evaluated.of_patients()
    assert len(joined.values) == 60 and "case" not in joined.cases
    mean = cases.groupby("patient")["logit_0"].mean().to_numpy()
    np.testing.assert_allclose(joined.outputs, mean)


def test_hazards_that_are_all_alike_make_one_intermediate_group():
    assert Risks((1.0,), (0.5,), (0.0, 0.0)).groups(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 1, 2]
