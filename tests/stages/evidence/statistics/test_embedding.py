import numpy as np
import pytest

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.evidence.statistics import embedding
from pipeline.stages.evidence.statistics.embedding import domain_distances, principal_plane


def two_sites(shift, patients=60, images=1, width=8, seed=0):
    """Features of two sites whose means lie `shift` standard deviations apart in every one of them."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), images)
    sites = np.where(patient % 2, "north", "south")
    own = rng.normal(size=(patients, width))[patient] + shift * (patient % 2)[:, None]
    return own + 0.01 * rng.normal(size=own.shape), np.char.add("p", patient.astype(str)), sites


def distances(features, patients, sites, replicates=200):
    found = domain_distances(features, patients, sites, Bootstrap(replicates, 0.95, 0))
    return found.set_index(["measure", "site", "arm"])


def test_the_plane_holds_the_widest_directions_and_its_signs_are_fixed():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(200, 2))
    features = np.column_stack([hidden[:, 0]] * 5 + [hidden[:, 1]] * 3) + 0.05 * rng.normal(size=(200, 8))
    places, explained = principal_plane(features)
    assert explained == pytest.approx([5 / 8, 3 / 8], abs=0.02)
    assert np.corrcoef(places[:, 0], hidden[:, 0])[0, 1] > 0.99  # not -0.99: the loadings are positive
    assert np.corrcoef(places[:, 1], hidden[:, 1])[0, 1] > 0.99
    scaled, _ = principal_plane(features * np.array([1e3, 1, 1, 1, 1, 1, 1, 1e-3]))
    np.testing.assert_allclose(scaled, places, atol=1e-9)


def test_a_feature_that_is_always_the_same_counts_for_nothing():
    features = np.random.default_rng(0).normal(size=(20, 4))
    places, _ = principal_plane(np.column_stack([features, np.full(20, 7.0)]))
    np.testing.assert_allclose(places, principal_plane(features)[0], atol=1e-9)


def test_sites_that_do_not_differ_lie_at_a_distance_of_zero_on_average():
    found = [distances({"a": two_sites(0.0, seed=seed)[0]}, *two_sites(0.0)[1:], 9)["value"] for seed in range(30)]
    values = {measure: [one[measure, "north", "a"] for one in found] for measure in ("mmd", "a_distance")}
    for several in values.values():
        assert np.mean(several) == pytest.approx(0, abs=3 * np.std(several) / np.sqrt(30))


def test_discrepancy_is_the_squared_standardised_difference_of_means():
    features, *who = two_sites(2.0, patients=4000)
    found = distances({"a": features}, *who, 9)["value"]
    assert found["mmd", "north", "a"] == pytest.approx(2.0**2 / (1 + 2.0**2 / 4), abs=0.06)
    features, *who = two_sites(9.0)
    assert distances({"a": features}, *who, 9)["value"]["a_distance", "north", "a"] == 2


def of_all_pairs(features, here, patients, weights):
    """The discrepancy as it is defined: means of the kernel over all pairs of cases of different patients."""
    kernel, others = features @ features.T / features.shape[1], patients[:, None] != patients

    def mean(rows, columns):
        pairs = (weights[:, None] * weights * others)[np.ix_(rows, columns)]
        return (pairs * kernel[np.ix_(rows, columns)]).sum() / pairs.sum()

    return mean(here, here) + mean(~here, ~here) - 2 * mean(here, ~here)


def test_sums_of_patients_give_the_discrepancy_of_all_pairs_of_cases():
    rng = np.random.default_rng(3)
    patients = np.char.add("p", rng.integers(0, 40, 150).astype(str))  # with 1 to 9 cases, most of them at both sites
    features, here = rng.normal(size=(150, 20)) + 0.3, rng.random(150) < 0.4
    weights = Bootstrap(60, 0.95, 1).weights(patients)
    found = embedding._mmd(features, here, patients)(weights)
    expected = [of_all_pairs(features, here, patients, one) for one in weights]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_more_images_of_the_same_patients_change_no_distance_or_interval():
    one, two = (distances({"a": features}, *who) for features, *who in (two_sites(0.7), two_sites(0.7, images=4)))
    for name in ("value", "lower", "upper"):
        assert one.loc[("mmd", "north", "a"), name] == pytest.approx(two.loc[("mmd", "north", "a"), name], abs=0.05)


def test_change_is_paired_and_negative_where_sites_came_closer():
    before, *who = two_sites(1.5)
    after = before - 1.2 * (who[1] == "north")[:, None]
    found = distances({"imagenet": before, "adapted": after}, *who)
    for measure in ("mmd", "a_distance"):
        change = found.loc[measure, "north", "change"]
        gap = found.loc[(measure, "north", "adapted"), "value"] - found.loc[(measure, "north", "imagenet"), "value"]
        assert change["value"] == pytest.approx(gap) and change["upper"] < 0
    same = distances({"imagenet": before, "adapted": before}, *who)
    assert (same.xs("change", level="arm")[["value", "lower", "upper"]] == 0).all(axis=None)


def test_a_site_of_four_patients_has_no_distance():
    features, patients, sites = two_sites(1.0, patients=40)
    sites = np.where(np.isin(patients, ["p0", "p2", "p4", "p6"]), "tiny", sites)
    assert set(domain_distances({"a": features}, patients, sites, Bootstrap(10, 0.95, 0))["site"]) == {"north", "south"}


def test_a_draw_of_one_patient_of_a_site_gives_no_discrepancy():
    features, patients, sites = two_sites(1.0, patients=10)
    weights = np.zeros((2, len(patients)))
    weights[0, :2], weights[1] = 3, 1
    found = embedding._mmd(features, sites == "north", patients)(weights)
    assert np.isnan(found[0]) and np.isfinite(found[1])
