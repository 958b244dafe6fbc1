"""Survival curves, Cox's model, C, AUC and Brier score beside lifelines and scikit-survival."""

import numpy as np
import pandas as pd
import pytest

from pipeline.metrics.survival import accuracy, cox, curves, discrimination


def observed(n=200, censored=0.4, seed=0, digits=8):
    """Draw features (n, 3), log hazards, times and events; few digits make ties."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3))
    log_hazard = features @ np.array([0.8, -0.5, 0.0])
    true = rng.exponential(np.exp(-log_hazard))
    end = rng.exponential(np.quantile(true, 1 - censored) * 2, size=n)
    times = np.maximum(np.minimum(true, end).round(digits), 10.0**-digits)
    return features, log_hazard.round(2), times, true <= end


def structured(times, events):
    """Pack as scikit-survival takes it."""
    return np.array(list(zip(events, times, strict=True)), dtype=[("event", bool), ("time", float)])


@pytest.mark.parametrize("digits", [8, 1])
@pytest.mark.parametrize("censored", [0.3, 0.6])
def test_lifelines_gives_the_same_kaplan_meier_curve_and_interval(digits, censored):
    theirs = pytest.importorskip("lifelines")
    _, _, times, events = observed(censored=censored, digits=digits)
    fitted = theirs.KaplanMeierFitter().fit(times, events)
    when = np.unique(times)
    curve = curves.kaplan_meier(times, events)
    np.testing.assert_allclose(curve.at(when), fitted.predict(when), atol=1e-9)
    lower, upper = curves.kaplan_meier_interval(times, events, 0.95)
    inside = curve.times[curve.values > 0]
    known = fitted.confidence_interval_.loc[inside].to_numpy()
    np.testing.assert_allclose(np.stack([lower.at(inside), upper.at(inside)], axis=1), known, atol=1e-6)


@pytest.mark.parametrize("digits", [8, 1])
def test_lifelines_gives_the_same_log_rank_test_of_three_groups(digits):
    theirs = pytest.importorskip("lifelines.statistics")
    _, log_hazard, times, events = observed(digits=digits)
    groups = np.digitize(log_hazard, np.quantile(log_hazard, [1 / 3, 2 / 3]))
    known = theirs.multivariate_logrank_test(times, groups, events)
    statistic, p = curves.logrank(times, events, groups)
    assert statistic == pytest.approx(known.test_statistic, rel=1e-6)
    assert p == pytest.approx(known.p_value, rel=1e-5)


@pytest.mark.parametrize("digits", [8, 1])
def test_lifelines_gives_the_same_coefficients_of_weighted_patients(digits):
    theirs = pytest.importorskip("lifelines")
    features, _, times, events = observed(digits=digits)
    weights = np.random.default_rng(1).integers(1, 4, size=len(times)).astype(float)
    table = pd.DataFrame(features).assign(time=times, event=events, weight=weights)
    fitted = theirs.CoxPHFitter().fit(table, "time", "event", weights_col="weight", robust=True)
    found = cox.fit_cox(features, times, events, weights=weights)
    np.testing.assert_allclose(found, fitted.params_, atol=1e-6)


@pytest.mark.parametrize("digits", [8, 1])
@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_scikit_survival_gives_the_same_coefficients_and_risks(digits, penalty):
    theirs = pytest.importorskip("sksurv.linear_model")
    features, _, times, events = observed(digits=digits)
    fitted = theirs.CoxPHSurvivalAnalysis(alpha=penalty, ties="efron", tol=1e-12)
    fitted.fit(features, structured(times, events))
    found = cox.fit_cox(features, times, events, penalty)
    np.testing.assert_allclose(found, fitted.coef_, atol=1e-6)
    log_hazard, horizons = features @ found, np.quantile(times, [0.25, 0.5, 0.75])
    ours = cox.survival_at(cox.baseline_hazard(log_hazard, times, events), log_hazard, horizons)
    known = np.array([function(horizons) for function in fitted.predict_survival_function(features)])
    np.testing.assert_allclose(ours, known, atol=1e-6)


@pytest.mark.parametrize("digits", [8, 1])
@pytest.mark.parametrize("censored", [0.3, 0.6])
def test_scikit_survival_gives_the_same_harrells_c(digits, censored):
    theirs = pytest.importorskip("sksurv.metrics")
    _, log_hazard, times, events = observed(censored=censored, digits=digits)
    known = theirs.concordance_index_censored(events, times, log_hazard)[0]
    one = np.ones((1, len(times)))
    assert discrimination.harrell_c(log_hazard, times, events, one)[0] == pytest.approx(known, abs=1e-9)


@pytest.mark.parametrize("censored", [0.3, 0.6])
def test_scikit_survival_gives_the_same_unos_c_auc_and_brier_score(censored):
    theirs = pytest.importorskip("sksurv.metrics")
    _, log_hazard, times, events = observed(censored=censored)
    known, one = structured(times, events), np.ones((1, len(times)))
    horizons = np.quantile(times, [0.25, 0.5, 0.75])
    survival = cox.survival_at(cox.baseline_hazard(log_hazard, times, events), log_hazard, horizons)
    areas = theirs.cumulative_dynamic_auc(known, known, log_hazard, horizons)[0]
    scores = theirs.brier_score(known, known, survival, horizons)[1]
    for at, horizon in enumerate(horizons):
        c = theirs.concordance_index_ipcw(known, known, log_hazard, tau=horizon)[0]
        given = {"horizon": horizon}
        assert discrimination.uno_c(log_hazard, times, events, one, **given)[0] == pytest.approx(c, abs=1e-6)
        area = discrimination.dynamic_auc(log_hazard, times, events, one, **given)[0]
        assert area == pytest.approx(areas[at], abs=1e-6)
        score = accuracy.brier(survival[:, at], times, events, one, **given)[0]
        assert score == pytest.approx(scores[at], abs=1e-6)
    integrated = accuracy.integrated_brier(survival, times, events, one, horizons=horizons)[0]
    assert integrated == pytest.approx(theirs.integrated_brier_score(known, known, survival, horizons), abs=1e-6)
