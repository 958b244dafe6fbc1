import numpy as np
import pytest

from pipeline.metrics.discrimination import roc_auc
from pipeline.metrics.survival.discrimination import dynamic_auc, harrell_c, uno_c
from tests.metrics.survival.simulated import simulated

RISKS, TIMES = np.array([4.0, 2, 3, 1]), np.array([1.0, 2, 3, 4])
EVERYONE = np.ones(4, dtype=bool)


def test_c_counts_pairs_whose_earlier_event_has_the_higher_hazard():
    one = np.ones((1, 4))
    assert harrell_c(RISKS, TIMES, EVERYONE, one)[0] == pytest.approx(5 / 6)
    only_third = np.array([True, False, True, True])
    assert harrell_c(RISKS, TIMES, only_third, one)[0] == 1
    assert harrell_c(np.zeros(4), TIMES, EVERYONE, one)[0] == 0.5
    assert np.isnan(harrell_c(RISKS, TIMES, ~EVERYONE, one)[0])


def test_weights_count_patients_as_often_as_they_were_drawn():
    _, log_hazard, times, events = simulated(n=60)
    drawn = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=3)
    for metric in (harrell_c, lambda *some: uno_c(*some, horizon=1.0), lambda *some: dynamic_auc(*some, horizon=0.5)):
        weighted = metric(log_hazard, times, events, drawn.astype(float))
        for row, counts in enumerate(drawn):
            # A pair of two copies of one patient has equal times and is not comparable.
            copies = [np.repeat(one, counts) for one in (log_hazard, times, events)]
            assert weighted[row] == pytest.approx(metric(*copies, np.ones((1, 60)))[0], abs=1e-9)


def test_without_censoring_unos_c_is_harrells_and_the_auc_that_of_classes():
    _, log_hazard, times, _ = simulated()
    events, one = np.ones(len(times), dtype=bool), np.ones((1, len(times)))
    whole = uno_c(log_hazard, times, events, one, horizon=np.inf)
    assert whole[0] == pytest.approx(harrell_c(log_hazard, times, events, one)[0])
    area = dynamic_auc(log_hazard, times, events, one, horizon=0.7)
    assert area[0] == pytest.approx(roc_auc(log_hazard, times <= 0.7, one)[0])


def test_unos_c_of_censored_times_is_close_to_that_of_the_true_times():
    rng = np.random.default_rng(0)
    log_hazard = rng.normal(size=4000)
    true, end = rng.exponential(np.exp(-log_hazard)), rng.uniform(0.2, 1.5, size=4000)
    times, events, one = np.minimum(true, end), true <= end, np.ones((1, 4000))
    wanted = uno_c(log_hazard, true, np.ones(4000, dtype=bool), one, horizon=1.0)[0]
    assert uno_c(log_hazard, times, events, one, horizon=1.0)[0] == pytest.approx(wanted, abs=0.01)
