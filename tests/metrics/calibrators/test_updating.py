"""Updates of the calibration against logistic regression, and how many cases they need."""

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from pipeline.metrics import calibration
from pipeline.metrics.calibrators import updating
from pipeline.metrics.calibrators.updating import Recalibration, fit_recalibration, recalibration_curve
from pipeline.metrics.questions import both_ways

SIZES = [10, 40, 150]


def logit(p):
    return np.log(p / (1 - p))


def drawn(n=300, intercept=0.0, slope=1.0, seed=0):
    """Predictions p of events that happen with logit = intercept + slope * logit p."""
    rng = np.random.default_rng(seed)
    scores = 2 * rng.normal(size=n)
    events = rng.random(n) < 1 / (1 + np.exp(-intercept - slope * scores))
    return both_ways(1 / (1 + np.exp(-scores))), events.astype(np.int64), np.arange(n).astype(str)


def curve(known, sizes=SIZES, draws=8, classes=("no", "yes"), seed=0):
    probabilities, labels, patients = known
    return recalibration_curve(probabilities, labels, patients, list(classes), sizes=sizes, draws=draws, seed=seed)


def test_updates_of_two_classes_equal_logistic_recalibration():
    probabilities, labels, _ = drawn(400, -1, 0.5)
    in_the_large = fit_recalibration(probabilities, labels, "intercept", 1e-9)
    expected = calibration.calibration_in_the_large(probabilities[:, 1], labels == 1, np.ones((1, 400)))[0]
    assert np.diff(in_the_large.intercepts)[0] == pytest.approx(expected, abs=1e-6)
    assert in_the_large.slope == 1
    x = logit(probabilities[:, 1])[:, None]
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(x, labels)
    both = fit_recalibration(probabilities, labels, "intercept and slope", 1e-9)
    assert (np.diff(both.intercepts)[0], both.slope) == pytest.approx(
        (oracle.intercept_[0], oracle.coef_[0, 0]), abs=1e-4
    )
    np.testing.assert_allclose(both.apply(probabilities)[:, 1], oracle.predict_proba(x)[:, 1], atol=1e-4)


def test_the_slope_alone_is_a_temperature():
    probabilities, labels, _ = drawn(400, 0, 0.5)
    found = fit_recalibration(probabilities, labels, "slope", 1e-9)
    assert found.intercepts == (0, 0)
    expected = calibration.multiclass_slope(probabilities, labels, np.ones((1, 400)))[0]
    assert found.slope == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(
        logit(found.apply(probabilities)[:, 1]), expected * logit(probabilities[:, 1]), atol=1e-5
    )


def test_recalibration_of_several_classes_recovers_intercepts_and_slope():
    rng = np.random.default_rng(1)
    truth = Recalibration((1.0, -1.0, 0.0), 0.5)
    probabilities = rng.dirichlet(np.full(3, 0.4), 20000)
    labels = (rng.random((20000, 1)) > truth.apply(probabilities).cumsum(axis=1)).sum(axis=1)
    found = fit_recalibration(probabilities, labels, "intercept and slope", 1e-6)
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.intercepts == pytest.approx((1, -1, 0), abs=0.06)


def test_permuting_the_classes_permutes_the_update():
    rng, order = np.random.default_rng(2), np.array([2, 0, 1])
    probabilities, labels = rng.dirichlet(np.ones(3), 40), rng.integers(0, 3, 40)
    found = fit_recalibration(probabilities, labels, "intercept and slope")
    renamed = fit_recalibration(probabilities[:, order], np.argsort(order)[labels], "intercept and slope")
    assert renamed.intercepts == pytest.approx(np.array(found.intercepts)[order], abs=1e-6)
    assert renamed.slope == pytest.approx(found.slope)


def test_ten_confident_cases_of_one_class_give_a_moderate_update():
    probabilities = both_ways(np.full(10, 1 - 1e-12))
    for truth in (0, 1):
        for update in updating.UPDATES:
            found = fit_recalibration(probabilities, np.full(10, truth), update)
            assert np.isfinite([*found.intercepts, found.slope]).all()
            assert np.abs(found.intercepts).max() < 15
    assert fit_recalibration(probabilities[:0], np.zeros(0, dtype=np.int64), "slope") == Recalibration((0.0, 0.0), 1.0)


def test_the_update_has_the_highest_penalised_likelihood():
    probabilities, labels, _ = drawn(30, 1, 1)
    scores = logit(probabilities[:, 1])

    def loss(x):
        shifted = x[0] + x[1] * scores
        likelihood = (labels * shifted - np.logaddexp(0, shifted)).sum()
        return 3 / 2 * (2 * (x[0] / 2) ** 2 + (x[1] - 1) ** 2) - likelihood  # two intercepts share the distance

    found = fit_recalibration(probabilities, labels, "intercept and slope", 3.0)
    expected = minimize(loss, [0, 1], tol=1e-12).x
    assert (np.diff(found.intercepts)[0], found.slope) == pytest.approx(tuple(expected), abs=1e-4)


def test_the_prior_holds_back_few_cases_and_not_many():
    few, many = drawn(10, 2, 1), drawn(5000, 2, 1)
    moved = [np.diff(fit_recalibration(*known[:2], "intercept", 20.0).intercepts)[0] for known in (few, many)]
    assert moved[0] < 0.6 < 1.8 < moved[1]


def test_the_right_update_gains_and_more_patients_gain_more():
    table = curve(drawn(400, -1.5, 1.0)).set_index(["update", "patients"])
    assert table.loc[("intercept", 150), "gain"] > 0.1
    assert table.loc[("intercept", 150), "gain"] > table.loc[("intercept", 10), "gain"]
    assert table.loc[("intercept", 150), "gain"] > 2 * table.loc[("slope", 150), "gain"]
    assert table.loc[("intercept", 150), "intercept_off"] < table.loc[("none", 0), "intercept_off"] / 2
    assert table.loc[("intercept", 150), "share_better"] == 1


def test_overconfidence_is_mended_by_the_slope_and_not_by_the_intercept():
    table = curve(drawn(400, 0, 0.4)).set_index(["update", "patients"])
    assert table.loc[("none", 0), "slope"] == pytest.approx(0.4, abs=0.1)
    assert table.loc[("slope", 150), "slope"] == pytest.approx(1, abs=0.25)
    assert table.loc[("slope", 150), "gain"] > 0.05 > table.loc[("intercept", 150), "gain"]


def test_where_nothing_is_wrong_an_update_on_ten_patients_harms():
    table = curve(drawn(400), draws=20).set_index(["update", "patients"])
    assert table.loc[("intercept and slope", 10), "gain"] < 0
    assert table.loc[("intercept and slope", 10), "share_better"] < 0.5
    assert table.loc[("intercept and slope", 150), "gain"] > table.loc[("intercept and slope", 10), "gain"]


def test_the_gain_is_paired_and_the_columns_are_as_declared():
    table = curve(drawn(200), sizes=[10, 20])
    assert list(table.columns) == updating.RECALIBRATED
    before = table.loc[table["update"] == "none", "log_loss"].iloc[0]
    assert table["gain"].tolist() == pytest.approx((before - table["log_loss"]).tolist())
    assert len(table) == 1 + 2 * len(updating.UPDATES)
    assert set(table["evaluated"]) == {180}


def test_the_curve_depends_on_the_seed_and_on_the_order_of_patient_names():
    known = drawn(100)
    assert curve(known, [20]).equals(curve(known, [20]))
    assert not curve(known, [20]).equals(curve(known, [20], seed=1))
    order = np.random.default_rng(3).permutation(100)
    shuffled = curve(tuple(one[order] for one in known), [20])
    assert shuffled["log_loss"].tolist() == pytest.approx(curve(known, [20])["log_loss"].tolist())


def test_images_of_a_patient_stand_on_one_side_together(monkeypatch):
    probabilities, labels, _ = drawn(120)
    patients, seen = np.repeat(np.arange(30), 4).astype(str), []

    def counted(some, truth, update, prior=1.0):
        seen.append(len(some))
        return fit_recalibration(some, truth, update, prior)

    monkeypatch.setattr(updating, "fit_recalibration", counted)
    curve((probabilities, labels, patients), [5, 10])
    assert set(seen) == {20, 40, 80}  # two sizes that fit, and the patients beyond the largest that evaluate


@pytest.mark.parametrize("change", [Recalibration((0.4, -0.1, -0.3), 1.0), Recalibration((0.2, 0.1, -0.3), 0.6)])
def test_what_an_update_leaves_equals_a_fit_to_the_updated_probabilities(change):
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.ones(3), 300)
    labels = (rng.random((300, 1)) > np.sqrt(probabilities).cumsum(axis=1) / 2).sum(axis=1).clip(0, 2)
    left, updated = updating._Rest(probabilities, labels).after(change), change.apply(probabilities)
    intercepts = fit_recalibration(updated, labels, "intercept", 1e-9).intercepts
    assert left["intercept_off"] == pytest.approx(np.ptp(intercepts), abs=1e-6)
    assert left["slope"] == pytest.approx(
        fit_recalibration(updated, labels, "intercept and slope", 1e-9).slope, abs=1e-6
    )


def test_a_size_that_leaves_too_few_patients_is_left_out():
    table = curve(drawn(100), [0, 20, 50, 51])
    assert set(table["patients"]) == {0, 20, 50}
    none = curve(drawn(10), [6])
    assert (len(none), list(none.columns)) == (0, updating.RECALIBRATED)


def test_labels_that_stand_by_themselves_have_a_curve_each():
    a, b = drawn(120, -1, 1, 1), drawn(120, 0, 0.5, 2)
    labels = np.stack([a[1], b[1]], axis=1).astype(float)
    labels[:20, 1] = np.nan
    predictions = np.stack([a[0][:, 1], b[0][:, 1]], axis=1)
    table = curve((predictions, labels, a[2]), [20], classes=("first", "second"))
    alone = curve((b[0][20:], b[1][20:], b[2][20:]), [20])
    second = table[table["class"] == "second"].drop(columns="class").reset_index(drop=True)
    assert set(table["class"]) == {"first", "second"}
    assert second.equals(alone.drop(columns="class"))


def test_a_single_draw_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        curve(drawn(50), draws=1)
