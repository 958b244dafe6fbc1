"""When a chart sounds the alarm, and since when."""

import numpy as np

from pipeline.commands.monitor.evidence_chart import Chart, limit_for


def test_the_alarm_sounds_at_the_first_patient_over_the_limit():
    chart = Chart("drift", np.log([0.5, 0.2, 5, 50, 10, 80]), limit=40)
    assert chart.alarm == 4
    assert chart.since == 2
    assert round(chart.most) == 80


def test_an_alarm_from_the_first_patient_on_has_none_before_it():
    chart = Chart("drift", np.log([3.0, 30, 300]), limit=100)
    assert (chart.since, chart.alarm) == (0, 3)


def test_a_chart_below_its_limit_has_no_alarm():
    chart = Chart("drift", np.log([0.5, 0.2]), limit=40)
    assert chart.alarm is None and chart.since is None and chart.most == 1


def test_a_chart_of_nobody_has_no_alarm():
    assert Chart("drift", np.array([]), limit=20).alarm is None


def test_more_charts_need_more_evidence_each():
    assert limit_for(1) == 20
    assert limit_for(4) == 80


def test_labels_that_were_enough_by_themselves_are_named_and_so_is_the_one_that_held_the_most():
    parts = {"edema": np.log([1.0, 40, 90]), "mass": np.log([30.0, 50, 1])}
    together = np.log([15.5, 45, 45.5])
    chart = Chart("calibration", together, 40, parts)  # alone it takes 80
    assert chart.alarm == 2 and chart.found == ["edema"] and chart.foremost == "mass"
    assert Chart("calibration", together, 45.4, parts).found == []


def test_a_chart_of_one_thing_names_no_label():
    chart = Chart("drift", np.log([50.0]), 40)
    assert chart.found == [] and chart.foremost == ""
