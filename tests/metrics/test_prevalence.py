"""Prevalences of a new site from unlabelled predictions."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from pipeline.metrics.prevalence import estimate_prevalences, fitted_shares

EVEN = np.array([0.5, 0.5])


def predictions(n, prevalence, rng, moved=0.0):
    """Calibrated predictions where half of the patients are ill, at a site with another prevalence."""
    ill = rng.random(n) < prevalence
    probability = expit(2 * rng.normal(2.0 * ill - 1.0 + moved, 1.0))
    return ill.astype(int), np.stack([1 - probability, probability], axis=1)


def development(rng, n=400):
    labels, found = predictions(n, 0.5, rng)
    return [found[labels == number].T for number in (0, 1)]


def estimated(n, prevalence, seed, moved=0.0):
    rng = np.random.default_rng(seed)
    reference = development(rng)
    return estimate_prevalences(
        predictions(n, prevalence, rng, moved)[1], np.arange(n).astype(str), EVEN, reference, of_images=EVEN, seed=seed
    )


def test_shares_maximise_the_likelihood_of_the_images():
    likelihoods = predictions(60, 0.3, np.random.default_rng(0))[1] / EVEN
    found = fitted_shares(likelihoods, np.ones((1, 60)), EVEN)[0]
    grid = np.linspace(0, 1, 2001)
    of_grid = [np.log(likelihoods @ [1 - share, share]).sum() for share in grid]
    assert found[1] == pytest.approx(grid[int(np.argmax(of_grid))], abs=1e-3) and found.sum() == pytest.approx(1)


def test_intervals_hold_the_prevalence_of_the_site():
    found = [estimated(80, 0.2, seed) for seed in range(30)]
    held = np.mean([one.lower[1] <= 0.2 <= one.upper[1] for one in found])
    assert 0.85 <= held <= 1.0
    assert np.mean([one.shares[1] for one in found]) == pytest.approx(0.2, abs=0.03)


def test_the_prevalence_of_development_is_seldom_called_another_one():
    found = [estimated(80, 0.5, seed) for seed in range(40)]
    assert np.mean([one.differ for one in found]) <= 0.15
    assert np.mean([one.fits for one in found]) >= 0.95
    assert np.mean([estimated(80, 0.2, seed).differ for seed in range(20)]) >= 0.9


def test_predictions_of_no_mixture_of_the_classes_do_not_fit():
    assert np.mean([estimated(200, 0.5, seed, moved=2.0).fits for seed in range(20)]) <= 0.1


def test_scans_of_a_patient_count_as_one():
    rng = np.random.default_rng(0)
    reference, (_, once) = development(rng), predictions(40, 0.3, rng)
    patients, twice = np.arange(40).astype(str), np.repeat(np.arange(40), 3)
    one, three = (
        estimate_prevalences(once, patients, EVEN, reference, of_images=EVEN),
        estimate_prevalences(once[twice], patients[twice], EVEN, reference, of_images=EVEN),
    )
    assert three.shares == pytest.approx(one.shares, abs=1e-5) and three.change == pytest.approx(one.change, abs=1e-6)


def test_a_correction_goes_only_as_far_as_the_interval_asks_for():
    found = estimated(80, 0.2, seed=0)
    assert found.nearest_to(EVEN)[1] == pytest.approx(found.upper[1], abs=1e-6) and found.upper[1] < 0.5
    same = estimated(80, 0.5, seed=0)
    assert same.nearest_to(EVEN) == pytest.approx(EVEN)


def test_three_classes_have_three_prevalences():
    rng = np.random.default_rng(0)
    prior, there = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    means = 2.5 * np.eye(3)

    def drawn(n, shares):
        labels = rng.choice(3, n, p=shares)
        images = rng.normal(means[labels], 1.0)
        return labels, softmax(np.log(prior) - 0.5 * ((images[:, None] - means) ** 2).sum(axis=2), axis=1)

    labels, known = drawn(600, prior)
    _, found = drawn(300, there)
    reference = [known[labels == number].T for number in range(3)]
    one = estimate_prevalences(found, np.arange(300).astype(str), prior, reference, of_images=prior)
    assert one.shares == pytest.approx(there, abs=0.1) and one.differ and one.fits


def test_more_images_of_one_class_do_not_change_its_prevalence():
    """Predictions that are calibrated on images, of which ill patients have three and others one."""
    rng = np.random.default_rng(0)
    of_images = np.array([0.25, 0.75])

    def images(prevalence, n=400):
        ill, found = predictions(n, prevalence, rng)
        times = np.where(ill == 1, 3, 1)
        more = found * of_images / EVEN
        return np.repeat(ill, times), np.repeat(more / more.sum(axis=1, keepdims=True), times, axis=0), times

    labels, known, _ = images(0.5)
    reference = [known[labels == number].T for number in range(2)]
    _, found, times = images(0.3)
    patients = np.repeat(np.arange(400), times).astype(str)
    one = estimate_prevalences(found, patients, EVEN, reference, of_images=of_images)
    assert one.shares[1] == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize("ill", [0.0, 1.0])
def test_a_site_of_one_class_has_an_estimate_at_the_border(ill):
    for seed in range(3):
        found = estimated(60, ill, seed)
        assert found.shares[1] == pytest.approx(ill, abs=0.06) and found.differ
