import json

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from pipeline.metrics import ood
from pipeline.metrics.ood import (
    SCORES,
    ClassGaussians,
    OODDetector,
    energy,
    false_alarms,
    fit_gaussians,
    fit_ood_detector,
    scores_of,
    share_beyond,
)

CENTRES = {"ill": 3.0, "well": -1.0}


def drawn(n=120, p=5, seed=0):
    """Features of two classes, at two sites that differ in the last of them."""
    rng = np.random.default_rng(seed)
    classes = np.array(["ill", "well"])[rng.integers(0, 2, n)]
    sites = np.array(["north", "south"])[rng.integers(0, 2, n)]
    features = rng.normal(size=(n, p)) * np.linspace(0.5, 2, p)
    features[:, 0] += np.vectorize(CENTRES.get)(classes)
    features[:, -1] += np.where(sites == "north", 2.5, -2.5)
    return features, classes, sites


def test_the_distance_is_that_of_scipy_with_the_covariance_of_scikit_learn():
    features, classes, _ = drawn()
    gaussian = fit_gaussians(features, classes)
    means = {name: features[classes == name].mean(axis=0) for name in CENTRES}
    residuals = features - np.stack([means[name] for name in classes])
    scales = residuals.std(axis=0)
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(residuals / scales).covariance_)
    new = np.random.default_rng(1).normal(size=(20, 5)) * 4
    expected = [min(mahalanobis(row / scales, mean / scales, precision) for mean in means.values()) for row in new]
    np.testing.assert_allclose(gaussian.distances(new).min(axis=1), expected, rtol=1e-4)


def test_more_features_than_cases_are_measured_as_by_the_whole_covariance(monkeypatch):
    features, classes, _ = drawn(n=20, p=60)
    monkeypatch.setattr(ood, "MOST_AXES", 60)
    gaussian = fit_gaussians(features, classes)
    assert len(gaussian.axes) <= 18  # 20 cases less two means
    means = np.stack([features[classes == name].mean(axis=0) for name in classes])
    scales = (features - means).std(axis=0)
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit((features - means) / scales).covariance_)
    centres = [features[classes == name].mean(axis=0) / scales for name in CENTRES]
    expected = [min(mahalanobis(row, centre, precision) for centre in centres) for row in features * 2 / scales]
    np.testing.assert_allclose(gaussian.distances(features * 2).min(axis=1), expected, rtol=1e-4)


def test_cut_axes_keep_the_whole_variance():
    features, classes, _ = drawn(n=200, p=80)
    gaussian = fit_gaussians(features, classes)
    means = np.stack([features[classes == name].mean(axis=0) for name in classes])
    assert len(gaussian.axes) == ood.MOST_AXES
    total = gaussian.variances.sum() + gaussian.rest * (80 - ood.MOST_AXES)
    residuals = (features - means) / (features - means).std(axis=0)
    assert total == pytest.approx((residuals**2).sum(axis=1).mean(), rel=1e-4)


def test_distances_ignore_the_units_of_features_and_constant_features():
    features, classes, _ = drawn()
    units = np.array([2, 3, 1, 0.5, 100])
    expected = fit_gaussians(features, classes).distances(features)
    np.testing.assert_allclose(
        fit_gaussians(features * units, classes).distances(features * units), expected, rtol=1e-4
    )
    still = np.zeros_like(features)
    assert np.isfinite(fit_gaussians(still, classes).distances(still + 1)).all()


def test_a_scan_is_nearest_to_the_site_that_its_features_come_from():
    features, _, sites = drawn()
    gaussian = fit_gaussians(features, sites)
    nearest = np.array(list(gaussian.means))[gaussian.distances(features).argmin(axis=1)]
    assert (nearest == sites).mean() > 0.85


def test_the_json_holds_no_feature_of_a_case_and_gives_the_same_distances():
    features, classes, _ = drawn(n=40)
    gaussian = fit_gaussians(features, classes)
    text = json.dumps(gaussian.as_json())
    again = ClassGaussians.from_json(json.loads(text))
    np.testing.assert_array_equal(again.distances(features), gaussian.distances(features))
    assert not any(f"{value:.5g}" in text for row in features for value in row if abs(value) > 0.01)


def test_energy_is_high_without_a_large_logit_and_sums_over_labels():
    quiet, loud = np.array([[0.0, 0.0]]), np.array([[8.0, -8.0]])
    assert energy(quiet)[0] == pytest.approx(-np.log(2)) and energy(loud)[0] == pytest.approx(-8, abs=1e-6)
    assert energy(quiet, several=True)[0] == pytest.approx(-2 * np.log(2))


def scores(n=400, seed=0):
    """Energies, and two distances with long tails; two images of each patient."""
    rng = np.random.default_rng(seed)
    drawn = scores_of(rng.normal(-2, 1, n), rng.lognormal(3, 0.2, n), rng.lognormal(2, 0.5, n))
    return drawn, np.array([f"p{number // 2}" for number in range(n)])


def test_of_new_patients_like_these_about_the_promised_share_is_flagged():
    detector = fit_ood_detector(*scores(), rate=0.1)
    new, patients = scores(20_000, seed=1)
    flagged = detector.is_ood(detector.ood_score(new))
    rate = len(set(patients[flagged])) / len(set(patients))
    assert detector.patients == 200 and 0.06 < rate < 0.14


def test_false_alarms_are_counted_in_patients_the_detector_was_not_set_on():
    flagged, evaluated = false_alarms(*scores(), rate=0.1)
    assert evaluated == 200 and 5 <= flagged <= 40
    assert false_alarms(*scores(20), rate=0.1) == (0, 0)  # ten patients: eight are too few to set a threshold


@pytest.mark.parametrize("column", range(len(SCORES)))
def test_one_score_alone_flags_and_a_large_logit_does_not_offset_it(column):
    detector = fit_ood_detector(*scores(), rate=0.05)
    odd = np.array([detector.medians])
    assert not detector.is_ood(detector.ood_score(odd))[0]
    odd -= 30 * np.array(detector.scales)
    odd[0, column] = detector.medians[column] + 20 * detector.scales[column]
    assert detector.is_ood(detector.ood_score(odd))[0]


def test_each_score_flags_as_often_as_the_others_whatever_its_tail():
    detector = fit_ood_detector(*scores(2000), rate=0.05)
    new, _ = scores(20_000, seed=1)
    alone = [(new[:, k] - detector.medians[k]) / detector.scales[k] > 1 for k in range(len(SCORES))]
    np.testing.assert_allclose(np.mean(alone, axis=1), 0.05, atol=0.01)


def test_the_threshold_is_the_score_of_the_rank_that_the_rate_asks_for():
    energies = np.random.default_rng(0).permutation(39).astype(float)
    detector = fit_ood_detector(scores_of(energies, np.ones(39), np.ones(39)), energies.astype(str), rate=0.05)
    assert detector.threshold == detector.ood_score(np.array([[37.0, 0.0, 0.0]]))[0]  # the 38th of 39: (39 + 1) 0.95


def test_too_few_patients_set_no_threshold_and_nothing_is_flagged():
    detector = fit_ood_detector(*scores(36), rate=0.05)
    assert detector.patients == 18 and detector.threshold is None
    assert not detector.is_ood(np.array([1e9]))[0]
    assert fit_ood_detector(*scores(38), rate=0.05).threshold is not None


def test_a_detector_survives_json_and_equal_scores_do_no_harm():
    detector = fit_ood_detector(*scores(), rate=0.05)
    assert OODDetector.from_json(json.loads(json.dumps(detector.as_json()))) == detector
    nowhere = scores_of(np.zeros(40), np.ones(40), np.zeros(40))
    same = fit_ood_detector(nowhere, np.arange(40).astype(str), 0.05)
    assert (same.ood_score(nowhere) == 0).all()


def test_the_share_beyond_a_score_falls_from_one_to_zero():
    usual = fit_ood_detector(*scores(), rate=0.05).quantiles
    assert share_beyond(usual[0] - 1, usual) == 1 and share_beyond(usual[-1] + 1, usual) == 0
    assert share_beyond(usual[10], usual) == pytest.approx(0.5)


def test_gaussians_at_a_site_have_its_mean_and_at_least_their_own_spread():
    rng = np.random.default_rng(0)
    known = fit_gaussians(rng.normal(size=(200, 3)), np.array(["a", "b"] * 100))
    site = rng.normal([5, 0, 0], [1, 4, 0.1], size=(4000, 3))
    whole, half, none = (known.at_site(site, weight) for weight in (1.0, 0.5, 0.0))
    centre = np.mean(list(known.means.values()), axis=0)
    np.testing.assert_allclose(np.mean(list(whole.means.values()), axis=0), site.mean(axis=0))
    np.testing.assert_allclose(np.mean(list(half.means.values()), axis=0), (site.mean(axis=0) + centre) / 2)
    np.testing.assert_allclose(whole.means["a"] - whole.means["b"], known.means["a"] - known.means["b"])
    np.testing.assert_allclose(whole.scales, np.maximum(known.scales, site.std(axis=0)))
    np.testing.assert_array_equal(none.scales, known.scales)
    assert whole.distances(site).min(axis=1).mean() < known.distances(site).min(axis=1).mean() / 2


def test_a_detector_at_a_site_is_raised_to_its_scores_and_never_lowered():
    detector = OODDetector((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 2.0, 0.05, 20, ())
    scores = np.array([[4.0, -9.0, 0.0], [6.0, -9.0, 10.0], [5.0, -9.0, -10.0]])
    whole, half = detector.at_site(scores, 1.0), detector.at_site(scores, 0.5)
    assert whole.medians == (5.0, 0.0, 0.0) and half.medians == (2.5, 0.0, 0.0)
    spread = 1.645 * scores.std(axis=0)
    np.testing.assert_allclose(whole.scales, np.maximum(spread, 1.0))
    np.testing.assert_allclose(half.scales, (1.0 + np.maximum(spread, 1.0)) / 2)
    assert whole.threshold == 2.0
