"""Monitor models without classes: of a number (regression), and of the time until an event (survival)."""

import numpy as np
import pandas as pd
import pytest

from pipeline.bundle.monitoring_reference import errors_of, reference_of_numbers, reference_of_times
from pipeline.commands.monitor import numbers, times
from pipeline.commands.monitor.evidence_chart import Chart
from pipeline.commands.monitor.scans import read_monitored_numbers, read_monitored_times
from pipeline.errors import UserError

REACH = 2.0  # half of an interval


def predicted(seed, n, bias=0.0, spread=1.0, shift=0.0):
    """Predicted and true numbers of n patients."""
    rng = np.random.default_rng(seed)
    value = rng.normal(50 + shift, 10, size=n)
    return value, value - bias + spread * rng.normal(size=n)


def reference(n=150):
    value, true = predicted(0, n)
    known = pd.DataFrame({"patient": np.arange(n), "ood_score": np.random.default_rng(1).normal(size=n)})
    return reference_of_numbers(known.assign(value=value), true, (value - REACH, value + REACH), n + 3, 3)


def in_use(folder, seed=1, n=200, **changes):
    value, true = predicted(seed, n, **changes)
    names = [f"scan-{number}" for number in range(n)]
    table = pd.DataFrame({"scan": names, "value": value, "lower": value - REACH, "upper": value + REACH})
    table.assign(ood_score=np.random.default_rng(9).normal(size=n)).to_csv(folder / "results.csv", index=False)
    pd.DataFrame({"scan": names, "label": true}).to_csv(folder / "labels.csv", index=False)
    return read_monitored_numbers(folder / "results.csv", str(folder / "labels.csv"))


def alarms(charts):
    return [chart.name for chart, _ in charts if chart.alarm]


def test_numbers_like_those_of_development_raise_no_alarm(tmp_path):
    charts = numbers.charts_of(in_use(tmp_path), reference())
    assert [chart.name for chart, _ in charts] == [
        *("value", "out-of-distribution score", "unreadable scans"),
        *("error", "size of the error"),
    ]
    assert alarms(charts) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"shift": 15.0}, "value"), ({"bias": 1.5}, "error"), ({"spread": 3.0}, "size of the error")],
)
def test_other_patients_a_bias_and_larger_errors_raise_their_alarm(tmp_path, changes, expected):
    assert expected in alarms(numbers.charts_of(in_use(tmp_path, **changes), reference()))


def test_windows_of_numbers_have_error_bias_and_coverage(tmp_path):
    table = numbers.windows_of(in_use(tmp_path, bias=1.0), 100)
    assert table[["from", "to", "n"]].to_numpy().tolist() == [[1, 100, 100], [101, 200, 100]]
    value, true = predicted(1, 200, bias=1.0)
    assert table["bias"][0] == pytest.approx((value - true)[:100].mean(), abs=1e-6)
    assert table["coverage"][1] == pytest.approx(np.mean(np.abs(value - true)[100:] <= REACH), abs=1e-6)
    assert (table["mae_lower"] < table["mae"]).all() and (table["mae"] < table["mae_upper"]).all()
    assert numbers.windows_of(in_use(tmp_path, n=9), 100)["mae"].isna().all()


def test_without_intervals_the_size_of_an_error_is_the_error_itself():
    errors, sizes = errors_of(np.array([1.0, 5.0]), np.array([3.0, 4.0]), *np.full((2, 2), np.nan))
    assert errors.tolist() == [2, -1] and sizes.tolist() == [2, 1]
    halves = errors_of(np.array([1.0]), np.array([3.0]), np.array([-1.0]), np.array([7.0]))
    assert halves[1].tolist() == [0.5]


@pytest.mark.parametrize(("label", "said"), [("large", "no finite number"), ("inf", "no finite number")])
def test_a_true_number_that_is_none_is_refused_with_its_scan(tmp_path, label, said):
    in_use(tmp_path, n=20)
    (tmp_path / "labels.csv").write_text(f"scan,label\nscan-3,{label}\n")
    with pytest.raises(UserError, match=f"labels.csv: scan-3: .*{said}"):
        read_monitored_numbers(tmp_path / "results.csv", str(tmp_path / "labels.csv"))


def observed(seed, n, ratio=1.0):
    """Log hazards of n patients, and their times of exponential events, censored at 2 at the latest."""
    rng = np.random.default_rng(seed)
    log_hazard = rng.normal(size=n)
    true, end = rng.exponential(np.exp(-log_hazard) / ratio), rng.uniform(0.1, 2, size=n)
    return log_hazard, np.minimum(true, end), true <= end


def hazards_in_use(folder, n=200, **changes):
    log_hazard, time, event = observed(1, n, **changes)
    names = [f"scan-{number}" for number in range(n)]
    pd.DataFrame({"scan": names, "log_hazard": log_hazard}).to_csv(folder / "results.csv", index=False)
    labels = pd.DataFrame({"scan": names, "time": time, "event": event.astype(int)})
    labels.to_csv(folder / "labels.csv", index=False)
    return read_monitored_times(folder / "results.csv", str(folder / "labels.csv"))


def reference_of_hazards(n=400):
    log_hazard, time, event = observed(0, n)
    known = pd.DataFrame({"patient": np.arange(n), "ood_score": 0.0, "log_hazard": log_hazard})
    return reference_of_times(known, time, event, n, 0)


@pytest.mark.parametrize("n", [25, 400])
def test_the_reference_of_times_tells_no_time_of_a_patient(n):
    grid = np.array(reference_of_hazards(n)["hazard"]["times"])
    np.testing.assert_allclose(np.diff(grid), grid[0])
    assert float(f"{grid[-1]:.2g}") == grid[-1]
    _, time, event = observed(0, n)
    assert not set(grid.round(6)) & set(time[event].round(6))


def test_the_reference_of_times_holds_the_true_hazard():
    known = reference_of_hazards()["hazard"]
    np.testing.assert_allclose(known["values"], known["times"], atol=0.15)


def test_events_as_predicted_raise_no_alarm_and_twice_as_many_do(tmp_path):
    charts = times.charts_of(hazards_in_use(tmp_path), reference_of_hazards())
    assert alarms(charts) == []
    charts = times.charts_of(hazards_in_use(tmp_path, ratio=2.5), reference_of_hazards())
    assert alarms(charts) == ["events"]


def test_false_alarms_of_events_are_as_rare_as_promised():
    """200 models in use whose hazards are true: at evidence 20, an alarm has a probability of at most 5 %."""
    raised = 0
    for seed in range(200):
        log_hazard, time, event = observed(seed, 150)
        log = times.events_wealth(event.astype(float), time * np.exp(log_hazard))
        raised += log.max() >= np.log(20)
    assert raised <= 16  # the 97.5 % quantile of 200 draws with a probability of 5 %


def test_looking_again_raises_no_more_false_alarms_of_events():
    """200 models whose hazards are true, each looked at 20 times while patients enter and are followed."""
    raised = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        entry, hazard = rng.uniform(0, 1, 100), np.exp(rng.normal(size=100))
        true, highest = rng.exponential(1 / hazard), 0.0
        for look in np.linspace(0.1, 2, 20):
            seen = entry < look
            followed = np.minimum(true, look - entry)[seen]
            event = (true <= look - entry)[seen]
            if seen.any():
                highest = max(highest, times.events_wealth(event.astype(float), followed * hazard[seen])[-1])
        raised += highest >= np.log(20)
    assert raised <= 16


def test_only_the_last_evidence_of_events_raises_an_alarm():
    risen, fallen = np.array([0.0, 2.0, 9.0]), np.array([0.0, 9.0, 2.0])
    assert Chart("events", risen, 80, of_now=True).alarm == 3
    assert Chart("events", fallen, 80, of_now=True).alarm is None
    assert Chart("events", fallen, 80).alarm == 2


def test_windows_of_events_compare_observed_with_expected(tmp_path):
    table = times.windows_of(hazards_in_use(tmp_path, ratio=2.0), 100, reference_of_hazards())
    assert (table["observed_expected"] > 1.3).all() and (table["c"] > 0.5).all()
    assert (table["c_lower"] < table["c"]).all()


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("scan-3,-1,1", "'time': it is not above 0"),
        ("scan-3,2,", "'event': it is missing"),
        ("scan-3,2,2", "neither 0"),
    ],
)
def test_a_time_that_cannot_be_used_is_refused_with_its_scan(tmp_path, row, said):
    hazards_in_use(tmp_path, n=20)
    (tmp_path / "labels.csv").write_text(f"scan,time,event\n{row}\n")
    with pytest.raises(UserError, match=f"labels.csv: scan-3: column .*{said}"):
        read_monitored_times(tmp_path / "results.csv", str(tmp_path / "labels.csv"))
