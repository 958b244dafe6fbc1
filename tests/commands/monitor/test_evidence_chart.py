"""When a chart raises an alarm, and when the change began."""

import numpy as np

from pipeline.commands.monitor.evidence_chart import Chart, limit_for


def test_the_alarm_is_raised_at_the_first_patient_over_the_limit():
    chart = Chart("drift", np.log([0.5, 0.2, 5, 50, 10, 80]), limit=40)
    assert chart.alarm == 4
    assert chart.before_change == 2
    assert round(chart.largest) == 80


def test_an_alarm_from_the_first_patient_on_has_none_before_it():
    chart = Chart("drift", np.log([3.0, 30, 300]), limit=100)
    assert (chart.before_change, chart.alarm) == (0, 3)


def test_a_chart_below_its_limit_has_no_alarm():
    chart = Chart("drift", np.log([0.5, 0.2]), limit=40)
    assert chart.alarm is None and chart.before_change is None and chart.largest == 1


def test_a_chart_of_nobody_has_no_alarm():
    assert Chart("drift", np.array([]), limit=20).alarm is None


def test_more_charts_need_more_evidence_each():
    assert limit_for(1) == 20
    assert limit_for(4) == 80


def test_labels_with_sufficient_evidence_and_the_leading_one_are_named():
    parts = {"edema": np.log([1.0, 40, 90]), "mass": np.log([30.0, 50, 1])}
    together = np.log([15.5, 45, 45.5])
    chart = Chart("calibration", together, 40, parts)  # alone it takes 80
    assert chart.alarm == 2 and chart.significant_labels == ["edema"] and chart.leading_label == "mass"
    assert Chart("calibration", together, 45.4, parts).significant_labels == []


def test_a_chart_of_one_thing_names_no_label():
    chart = Chart("drift", np.log([50.0]), 40)
    assert chart.significant_labels == [] and chart.leading_label == ""
