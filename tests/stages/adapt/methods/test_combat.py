import io
from dataclasses import asdict

import numpy as np
import pytest

from pipeline.stages.adapt.methods.combat import Combat, UnseenSite, fit_combat


def cohort(n=120, width=30, seed=0):
    """Three sites with a shift and scale of each feature, and two covariates with effects of their own."""
    rng = np.random.default_rng(seed)
    sites = np.array(["a", "b", "c"])[rng.integers(0, 3, n)]
    covariates = np.column_stack([rng.normal(60, 10, n), rng.integers(0, 2, n)])
    slopes = np.vstack([rng.normal(0, 0.1, width), rng.normal(0, 2, width)])
    shift = {"a": rng.normal(3, 1, width), "b": rng.normal(-2, 1, width), "c": rng.normal(0, 1, width)}
    scale = {"a": 2.0, "b": 0.5, "c": 1.0}
    noise = rng.normal(size=(n, width))
    features = np.array([shift[s] + scale[s] * e for s, e in zip(sites, noise, strict=True)]) + covariates @ slopes + 5
    return features, sites, covariates, slopes


def slow(features, sites, covariates):
    """Harmonise by the published equations, case by case and feature by feature."""
    width = features.shape[1]
    names = sorted(set(sites))
    design = np.array([[float(s == name) for name in names] + list(x) for s, x in zip(sites, covariates, strict=True)])
    beta = np.linalg.inv(design.T @ design) @ design.T @ features
    shares = np.array([np.mean(sites == name) for name in names])
    alpha = shares @ beta[: len(names)]
    sigma2 = ((features - design @ beta) ** 2).mean(axis=0)
    expected = alpha + covariates @ beta[len(names) :]
    z = (features - expected) / np.sqrt(sigma2)
    result = np.empty_like(features)
    for name in names:
        own = np.flatnonzero(sites == name)
        count = len(own)
        gamma_hat = [z[own, f].mean() for f in range(width)]
        delta2_hat = [z[own, f].var(ddof=1) for f in range(width)]
        gamma_bar, tau2 = np.mean(gamma_hat), np.var(gamma_hat, ddof=1)
        v, s2 = np.mean(delta2_hat), np.var(delta2_hat, ddof=1)
        lam, theta = (v**2 + 2 * s2) / s2, (v**3 + v * s2) / s2
        for f in range(width):
            delta2 = delta2_hat[f]
            for _ in range(500):
                gamma = (count * tau2 * gamma_hat[f] + delta2 * gamma_bar) / (count * tau2 + delta2)
                delta2 = (theta + 0.5 * sum((z[j, f] - gamma) ** 2 for j in own)) / (count / 2 + lam - 1)
            for j in own:
                result[j, f] = np.sqrt(sigma2[f]) * (z[j, f] - gamma) / np.sqrt(delta2) + expected[j, f]
    return result


def test_it_is_the_published_equations_written_out():
    features, sites, covariates, _ = cohort(40, 6)
    ours = fit_combat(features, sites, covariates, 1.0).apply(features, sites, covariates)
    np.testing.assert_allclose(ours, slow(features, sites, covariates), rtol=1e-9)
    none = np.zeros((40, 0))
    ours = fit_combat(features, sites, None, 1.0).apply(features, sites)
    np.testing.assert_allclose(ours, slow(features, sites, none), rtol=1e-9)


def test_means_and_variances_of_sites_agree_afterwards():
    features, sites, covariates, slopes = cohort(600)
    after = fit_combat(features, sites, covariates, 1.0).apply(features, sites, covariates) - covariates @ slopes
    before = features - covariates @ slopes
    for statistic in (np.mean, np.std):
        gap = [
            max(np.ptp([statistic(table[sites == s, f]) for s in "abc"]) for f in range(30))
            for table in (before, after)
        ]
        assert gap[0] > 1 and gap[1] < 0.1 * gap[0]


def test_the_effect_of_covariates_stays():
    features, sites, covariates, slopes = cohort(600)
    after = fit_combat(features, sites, covariates, 1.0).apply(features, sites, covariates)
    design = np.column_stack([covariates, np.ones(600)])
    found = np.linalg.lstsq(design, after, rcond=None)[0][:2]
    np.testing.assert_allclose(found[1], slopes[1], atol=0.5)
    assert np.corrcoef(found[0], slopes[0])[0, 1] > 0.98


def test_covariate_unequal_between_sites_is_removed_unless_named():
    """Site b has older cases, and the feature is age."""
    rng = np.random.default_rng(0)
    sites = np.repeat(["a", "b"], 100)
    age = rng.normal(50, 5, 200) + 10 * (sites == "b")
    features = age[:, None] + rng.normal(size=(200, 4))
    named = fit_combat(features, sites, age[:, None], 1.0).apply(features, sites, age[:, None])
    unnamed = fit_combat(features, sites, None, 1.0).apply(features, sites)
    gaps = [table[sites == "b"].mean() - table[sites == "a"].mean() for table in (named, unnamed)]
    assert gaps[0] == pytest.approx(10, abs=1.5) and gaps[1] == pytest.approx(0, abs=0.1)


def test_strength_zero_is_the_features_themselves_and_half_is_half_the_way():
    features, sites, covariates, _ = cohort()
    none, half, full = (
        fit_combat(features, sites, covariates, strength).apply(features, sites, covariates)
        for strength in (0.0, 0.5, 1.0)
    )
    assert none.tobytes() == features.tobytes()
    nowhere = np.full(len(features), "unheard of")
    assert fit_combat(features, sites, None, 0.0).apply(features, nowhere).tobytes() == features.tobytes()
    np.testing.assert_allclose(half, (features + full) / 2)


def test_few_cases_of_a_site_are_shrunk_towards_its_average_feature():
    features, sites, _, _ = cohort(200)
    few = np.r_[np.flatnonzero(sites == "a")[:3], np.flatnonzero(sites != "a")]
    model = fit_combat(features[few], sites[few], None, 1.0)
    z = (features[few][:3] - model.grand_mean) / model.spread
    raw = z.mean(axis=0)
    assert np.var(model.shift[0]) < np.var(raw)
    assert np.all((model.shift[0] - raw.mean()) * (raw - raw.mean()) > 0)
    assert np.var(model.scale[0]) < 0.5 * np.var(z.std(axis=0, ddof=1))


def test_an_unseen_site_is_refused_until_its_own_cases_are_given():
    features, sites, _, _ = cohort(300)
    known = sites != "b"
    model = fit_combat(features[known], sites[known], None, 1.0)
    with pytest.raises(UnseenSite, match="no site b.*unlabelled"):
        model.apply(features, sites)
    after = model.extended(features[~known], "b").apply(features, sites)
    gap = [abs(table[~known].mean(axis=0) - table[known].mean(axis=0)) for table in (features, after)]
    assert gap[0].max() > 3 and gap[1].max() < 0.4
    ratio = after[~known].std(axis=0) / after[sites == "c"].std(axis=0)
    assert np.all((ratio > 0.75) & (ratio < 1.35))


def test_adding_or_estimating_a_site_again_changes_no_other_site():
    features, sites, covariates, _ = cohort()
    model = fit_combat(features, sites, covariates, 1.0)
    again = model.extended(features[sites == "b"], "b", covariates[sites == "b"])
    wider = model.extended(features[:9] + 4, "aa", covariates[:9])
    for field in ("shift", "scale"):
        np.testing.assert_allclose(getattr(again, field), getattr(model, field))
    np.testing.assert_array_equal(wider.apply(features, sites, covariates), model.apply(features, sites, covariates))
    assert wider.sites.tolist() == ["a", "aa", "b", "c"]


def test_names_of_sites_and_the_order_of_cases_mean_nothing():
    features, sites, covariates, _ = cohort()
    order = np.random.default_rng(1).permutation(len(sites))
    renamed = np.array([{"a": "zz", "b": "m", "c": "c"}[site] for site in sites])
    one = fit_combat(features, sites, covariates, 1.0).apply(features, sites, covariates)
    other = fit_combat(features[order], renamed[order], covariates[order], 1.0).apply(features, renamed, covariates)
    np.testing.assert_allclose(one, other)


def test_a_constant_feature_stays_and_does_not_disturb_the_others():
    features, sites, _, _ = cohort()
    constant = np.column_stack([features, np.full(len(features), 3.7)])
    model = fit_combat(constant, sites, None, 1.0)
    constant[:, -1] = np.random.default_rng(0).normal(size=len(features))  # of other cases it may vary
    after = model.apply(constant, sites)
    np.testing.assert_array_equal(after[:, -1], constant[:, -1])
    np.testing.assert_allclose(after[:, :-1], fit_combat(features, sites, None, 1.0).apply(features, sites))


def test_without_covariates_a_case_stands_at_their_means():
    features, sites, covariates, _ = cohort()
    model = fit_combat(features, sites, covariates, 1.0)
    means = np.tile(covariates.mean(axis=0), (len(features), 1))
    np.testing.assert_allclose(model.apply(features, sites), model.apply(features, sites, means))


def test_the_model_survives_a_file():
    features, sites, covariates, _ = cohort()
    model = fit_combat(features, sites, covariates, 0.7)
    file = io.BytesIO()
    np.savez(file, **asdict(model))
    file.seek(0)
    stored = dict(np.load(file))
    read = Combat(**(stored | {"strength": float(stored["strength"])}))
    assert read.apply(features, sites, covariates).tobytes() == model.apply(features, sites, covariates).tobytes()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f, s, c: (f, np.full(len(s), "a"), c), "two sites"),
        (lambda f, s, c: (f, np.append(s[:-1], "d"), c), "site d needs two different cases.*has 1"),
        (lambda f, s, c: (f[:, :1], s, c), "two features"),
        (lambda f, s, c: (f, s, (s == "a")[:, None] * 1.0), "explained by the sites"),
        (lambda f, s, c: (np.where((s == "a")[:, None], 1.0, f), s, None), "site a needs two different"),
    ],
)
def test_what_cannot_be_estimated_is_refused_with_the_reason(change, reason):
    features, sites, covariates, _ = cohort()
    with pytest.raises(ValueError, match=reason):
        fit_combat(*change(features, sites, covariates), 1.0)
