"""When a chart sounds the alarm, and since when."""

import numpy as np

from pipeline.assessing.monitoring.charts import Chart, limit_for


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
