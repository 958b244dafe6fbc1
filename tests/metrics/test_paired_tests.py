"""DeLong against a count over all pairs, against what many samples show, and against the bootstrap."""

from functools import partial

import numpy as np
import pytest

from pipeline.metrics import discrimination, paired_tests
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.paired_tests import auc_covariance, delong, paired_difference


def drawn(n=80, seed=0):
    rng = np.random.default_rng(seed)
    events = rng.random(n) < 0.4
    return (rng.normal(size=n) + events).round(1), (rng.normal(size=n) + events / 2).round(1), events


def of_patients(n=60, images=3, seed=0):
    """Images of patients whose scores go together; one in five labels differs from the patient's others."""
    rng = np.random.default_rng(seed)
    events = np.repeat(rng.random(n) < 0.5, images) ^ (rng.random(n * images) < 0.2)
    scores = np.repeat(rng.normal(size=n), images) + 0.6 * rng.normal(size=n * images) + events
    return scores, events, np.repeat(np.arange(n), images).astype(str)


def by_all_pairs(scores, events):
    """DeLong, DeLong, Clarke-Pearson 1988, equations 2 to 6, as they stand."""
    pairs = [s[events][:, None] - s[~events][None] for s in scores]
    kernel = np.stack([(pair > 0) + (pair == 0) / 2 for pair in pairs])
    of_events, of_others = kernel.mean(axis=2), kernel.mean(axis=1)
    return kernel.mean(axis=(1, 2)), np.cov(of_events) / events.sum() + np.cov(of_others) / (~events).sum()


def area_and_error(scores, events, clusters=None):
    """One AUC and its standard error."""
    (area,), covariance = auc_covariance(scores[None], events, clusters)
    return area, np.sqrt(covariance[0, 0])


def test_areas_and_covariance_equal_a_count_over_all_pairs_with_ties():
    a, b, events = drawn()
    scores = np.stack([a, b])
    areas, covariance = auc_covariance(scores, events)
    expected = by_all_pairs(scores, events)
    np.testing.assert_allclose(areas, expected[0], rtol=1e-13)
    np.testing.assert_allclose(covariance, expected[1], rtol=1e-12)
    assert areas[0] == pytest.approx(discrimination.roc_auc(a, events, np.ones((1, 80)))[0])


def test_a_comparison_is_the_difference_over_its_standard_error():
    a, b, events = drawn()
    (area_a, area_b), covariance = by_all_pairs(np.stack([a, b]), events)
    found = delong(a, b, events)
    assert found.difference == pytest.approx(area_a - area_b)
    assert found.se == pytest.approx(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    assert found.z == pytest.approx(found.difference / found.se)
    assert delong(b, a, events).z == pytest.approx(-found.z)
    assert delong(b, a, events).p == pytest.approx(found.p)


def test_identical_curves_differ_by_nothing():
    a, _, events = drawn()
    for other in (a, np.exp(a), 3 * a - 7):
        found = delong(a, other, events)
        assert (found.z, found.p) == (0, 1)


def test_delong_is_invariant_to_monotone_scores_and_to_the_order_of_cases():
    a, b, events = drawn()
    order = np.random.default_rng(1).permutation(80)
    patients = np.arange(80).astype(str)
    expected = pytest.approx(delong(a, b, events))
    assert delong(np.exp(a), b**3, events) == expected
    assert delong(a[order], b[order], events[order], patients[order]) == expected


def test_the_test_of_no_difference_errs_as_often_as_it_says():
    rng = np.random.default_rng(2)
    values = []
    for _ in range(1000):
        events = np.arange(80) < 30
        truth = rng.normal(size=80) + events
        values.append(delong(truth + rng.normal(size=80), truth + rng.normal(size=80), events).p)
    assert np.mean(np.array(values) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_clusters_of_one_case_are_delongs():
    a, b, events = drawn()
    assert delong(a, b, events, np.arange(80).astype(str)) == delong(a, b, events)


def test_clustered_standard_error_matches_simulation_unlike_that_by_image():
    areas, clustered, naive = [], [], []
    for seed in range(300):
        scores, events, patients = of_patients(seed=seed)
        area, se = area_and_error(scores, events, patients)
        areas.append(area)
        clustered.append(se)
        naive.append(area_and_error(scores, events)[1])
    assert np.mean(clustered) == pytest.approx(np.std(areas), rel=0.1)
    assert np.mean(naive) < 0.87 * np.std(areas)


def test_the_cluster_bootstrap_agrees_with_the_standard_error_of_clusters():
    scores, events, patients = of_patients(seed=3)
    drawn_areas = discrimination.roc_auc(scores, events, cluster_weights(patients, 2000, 0))[1:]
    assert area_and_error(scores, events, patients)[1] == pytest.approx(drawn_areas.std(), rel=0.07)


def test_duplicated_images_do_not_shrink_the_clustered_standard_error():
    scores, events, patients = of_patients()
    twice = [np.tile(one, 2) for one in (scores, events, patients)]
    assert area_and_error(*twice) == pytest.approx(area_and_error(scores, events, patients))
    assert area_and_error(*twice[:2])[1] < 0.75 * area_and_error(scores, events)[1]


def test_what_does_not_exist_is_not_a_number():
    a, b, _ = drawn()
    assert np.isnan(delong(a, b, np.ones(80, dtype=bool))).all()
    one_event = np.arange(80) == 0
    found = delong(a, b, one_event)
    assert np.isfinite(found.difference)
    assert np.isnan([found.se, found.z, found.p]).all()
    assert np.isnan(area_and_error(a, ~np.zeros(80, dtype=bool))).all()


def test_the_least_detectable_difference_is_found_with_its_power():
    least = paired_tests.minimum_detectable_difference(0.02)
    assert least == pytest.approx(0.02 * (1.959964 + 0.841621), abs=1e-6)
    z = np.random.default_rng(4).normal(least, 0.02, 20000) / 0.02
    assert np.mean(np.abs(z) > 1.959964) == pytest.approx(0.8, abs=0.01)
    assert paired_tests.minimum_detectable_difference(0.02, 0.9, 0.01) > least


def test_a_paired_difference_uses_the_same_draws_for_both():
    a, b, events = drawn(300)
    weights = cluster_weights(np.arange(300).astype(str), 2000, 0)
    first, second = (partial(discrimination.roc_auc, scores, events) for scores in (a, b))
    found, exact = paired_difference(first, second, weights, 0.95), delong(a, b, events)
    assert found.value == pytest.approx(exact.difference)
    assert found.se == pytest.approx(exact.se, rel=0.07)
    assert found.lower < found.value < found.upper
    assert found.minimum_detectable == pytest.approx(paired_tests.minimum_detectable_difference(found.se))
    nothing = paired_difference(first, first, weights, 0.95)
    assert (nothing.value, nothing.lower, nothing.upper, nothing.se) == (0, 0, 0, 0)


def test_a_paired_difference_that_does_not_exist_is_empty():
    a, b, _ = drawn()
    weights = cluster_weights(np.arange(80).astype(str), 50, 0)
    metrics = [partial(discrimination.roc_auc, scores, np.ones(80, dtype=bool)) for scores in (a, b)]
    assert set(paired_difference(*metrics, weights, 0.95).as_json().values()) == {None}
