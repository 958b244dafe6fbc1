import numpy as np
import pytest

from pipeline.stages.report.outlying_folds import outlying_folds


def metric(value, half=0.1):
    return {"value": value, "lower": value - half, "upper": value + half}


def test_the_fold_that_is_far_from_all_others_is_named_and_they_are_not():
    folds = {"0": metric(0.8), "1": metric(0.82), "2": metric(0.4), "3": metric(0.79), "4": metric(0.81)}
    assert outlying_folds(folds, 0.95) == ["2"]
    assert outlying_folds({**folds, "2": metric(0.4, half=0.6)}, 0.95) == []  # too wide to tell


@pytest.mark.parametrize("folds", [{"0": metric(0.9), "1": metric(0.1)}, {}])
def test_of_fewer_than_three_folds_none_is_the_outlier(folds):
    assert outlying_folds(folds, 0.95) == []


def test_a_metric_without_an_interval_is_neither_named_nor_counted():
    none = {"value": 0.1, "lower": None, "upper": None}
    assert outlying_folds({"0": metric(0.8), "1": metric(0.8), "2": none}, 0.95) == []
    assert outlying_folds({"0": metric(0.8), "1": metric(0.8), "2": none, "3": metric(0.2)}, 0.95) == ["3"]


def test_an_asymmetric_interval_is_read_on_the_side_of_the_others():
    others = {str(k): metric(0.8, 0.01) for k in range(4)}
    assert outlying_folds({**others, "4": {"value": 0.6, "lower": 0.59, "upper": 0.9}}, 0.95) == []
    assert outlying_folds({**others, "4": {"value": 0.6, "lower": 0.3, "upper": 0.61}}, 0.95) == ["4"]


def test_where_all_folds_are_alike_one_is_named_about_as_often_as_promised():
    draws, half = np.random.default_rng(0), 1.959964 * 0.05
    runs = [
        outlying_folds({str(k): metric(v, half) for k, v in enumerate(row)}, 0.95)
        for row in draws.normal(0.8, 0.05, (4000, 5))
    ]
    assert 0.03 < np.mean([bool(run) for run in runs]) < 0.055


def test_intervals_without_width_part_what_differs_and_nothing_else():
    assert outlying_folds({str(k): metric(1.0, 0.0) for k in range(3)}, 0.95) == []
    assert outlying_folds({"0": metric(1.0, 0.0), "1": metric(1.0, 0.0), "2": metric(0.0, 0.0)}, 0.95) == ["2"]
