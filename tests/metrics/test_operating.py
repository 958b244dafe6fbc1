from functools import partial

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as oracle

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.operating import chosen_elsewhere, operating_table, threshold_columns, threshold_for
from pipeline.metrics.shares import wilson

LEVELS = [("specificity", 0.9), ("sensitivity", 0.8)]


def cohort(n=300, seed=0):
    """Two images per patient, patients assigned to five folds; predictions that are right."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(n // 2), 2)
    prediction = rng.random(n).round(2)
    events = rng.random(n) < prediction
    return prediction, events, patients.astype(str), (patients % 5).astype(str)


def other_folds(folds, *known):
    return {fold: tuple(values[folds != fold] for values in known) for fold in np.unique(folds)}


def reached(scores, events, threshold):
    positive = scores >= threshold
    return {"sensitivity": positive[events].mean(), "specificity": (~positive[~events]).mean()}


@pytest.mark.parametrize("level", [0.05, 0.3, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_threshold_reaches_its_level_and_no_more_extreme_one_is_needed(level, seed):
    rng = np.random.default_rng(seed)
    scores, events = rng.random(60).round(1), rng.random(60) < 0.4
    everywhere = np.concatenate([np.unique(scores), np.nextafter(np.unique(scores), 2)])
    found = threshold_for(scores, events, "specificity", level)
    assert found == min(t for t in everywhere if reached(scores, events, t)["specificity"] >= level - 1e-12)
    found = threshold_for(scores, events, "sensitivity", level)
    assert found == max(t for t in everywhere if reached(scores, events, t)["sensitivity"] >= level - 1e-12)


def test_needed_is_exact_if_the_level_is_a_whole_number_of_cases():
    scores, events = np.arange(200.0), np.arange(200) >= 100
    assert reached(scores, events, threshold_for(scores, events, "specificity", 0.55))["specificity"] == 0.55
    assert reached(scores, events, threshold_for(scores, events, "sensitivity", 0.55))["sensitivity"] == 0.55


def test_equal_scores_fall_on_one_side_together():
    scores, events = np.array([0.1, 0.5, 0.5, 0.5, 0.5, 0.9]), np.array([0, 0, 0, 1, 1, 1]) == 1
    assert threshold_for(scores, events, "specificity", 0.5) == np.nextafter(0.5, 1)
    assert threshold_for(scores, events, "sensitivity", 0.5) == 0.5


def test_perfect_specificity_is_reached_if_a_non_event_scores_highest():
    scores, events = np.array([0.2, 1.0, 1.0]), np.array([0, 0, 1]) == 1
    threshold = threshold_for(scores, events, "specificity", 1.0)
    assert reached(scores, events, threshold) == {"sensitivity": 0, "specificity": 1}


def test_without_cases_of_the_kind_there_is_no_threshold_and_no_metric():
    scores, nobody = np.array([0.2, 0.4]), np.zeros(2, dtype=bool)
    assert np.isnan(threshold_for(scores, nobody, "sensitivity", 0.9))
    prediction, events, patients, folds = cohort(20)
    development = other_folds(folds, prediction, events)
    weights = cluster_weights(patients, 20, 0)
    for missing in (development | {"3": (scores, nobody)}, {fold: development[fold] for fold in "0124"}):
        table = operating_table(
            prediction,
            events,
            patients,
            folds,
            development=missing,
            levels=[("sensitivity", 0.9)],
            weights=weights,
            confidence=0.95,
        )
        [row] = table.to_dict("records")
        assert np.isnan(row["threshold"]) and row["n"] == 20
        assert all(row[name] is None for name in ("sensitivity", "specificity", "ppv", "npv"))


@pytest.mark.parametrize("level", [0, 1.01])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match="specificity"):
        threshold_for(np.array([0.5]), np.array([False]), "specificity", level)


def test_new_cases_reach_k_of_n_plus_one():
    """Non-events uniform on (0, 1): the specificity of a threshold is the threshold itself."""
    rng = np.random.default_rng(0)
    nobody = np.zeros(30, dtype=bool)
    thresholds = [threshold_for(rng.random(30), nobody, "specificity", 0.9) for _ in range(4000)]
    assert np.mean(thresholds) == pytest.approx(27 / 31, abs=0.003)


def test_a_threshold_chosen_on_the_evaluated_cases_is_optimistic():
    """30 non-events uniform on (0, 1), specificity 0.9: theory says 27/30 for 27/31 true; 22/25 in five folds."""
    folds, nobody = (np.arange(30) % 5).astype(str), np.zeros(30, dtype=bool)
    told, true, cross_told, cross_true = [], [], [], []
    for seed in range(3000):
        scores = np.random.default_rng(seed).random(30)
        own = threshold_for(scores, nobody, "specificity", 0.9)
        told.append((scores < own).mean())
        true.append(own)
        choose = partial(threshold_for, kind="specificity", level=0.9)
        others = chosen_elsewhere(choose, folds, other_folds(folds, scores, nobody))
        cross_told.append((scores < others).mean())
        cross_true.append(others.mean())
    assert np.mean(told) - np.mean(true) == pytest.approx(27 / 30 - 27 / 31, abs=0.004)
    assert np.mean(cross_told) == pytest.approx(22 / 25, abs=0.004)
    assert np.mean(cross_told) - np.mean(cross_true) == pytest.approx(0, abs=0.004)


@pytest.mark.parametrize(("kind", "level"), LEVELS)
def test_labels_and_predictions_of_a_fold_do_not_move_its_own_threshold(kind, level):
    prediction, events, _, folds = cohort()
    inside = folds == "3"

    def thresholds(prediction, events):
        choose = partial(threshold_for, kind=kind, level=level)
        return chosen_elsewhere(choose, folds, other_folds(folds, prediction, events))

    before = thresholds(prediction, events)
    after = thresholds(np.where(inside, 1 - prediction, prediction), np.where(inside, ~events, events))
    assert (after[inside] == before[inside]).all()
    assert (after[~inside] != before[~inside]).any()


def test_no_label_of_the_evaluated_cases_moves_a_threshold():
    prediction, events, patients, folds = cohort()
    development, weights = other_folds(folds, prediction, events), np.ones((3, 300))
    tables = [
        operating_table(
            scores, truth, patients, folds, development=development, levels=LEVELS, weights=weights, confidence=0.95
        )
        for scores, truth in ((prediction, events), (1 - prediction, ~events))
    ]
    columns = ["threshold", "threshold_lowest", "threshold_highest"]
    assert tables[0][columns].equals(tables[1][columns])
    assert not tables[0].equals(tables[1])


def test_cross_fitted_metrics_equal_a_loop_over_folds_and_scikit_learn():
    prediction, events, patients, folds = cohort()
    weights = cluster_weights(patients, 200, 0)
    table = operating_table(
        prediction,
        events,
        patients,
        folds,
        development=other_folds(folds, prediction, events),
        levels=LEVELS,
        weights=weights,
        confidence=0.95,
    )
    for (kind, level), row in zip(LEVELS, table.to_dict("records"), strict=True):
        positive, chosen = np.zeros(300, dtype=bool), []
        for fold in "01234":
            elsewhere = folds != fold
            chosen.append(threshold_for(prediction[elsewhere], events[elsewhere], kind, level))
            positive[~elsewhere] = prediction[~elsewhere] >= chosen[-1]
        assert row["sensitivity"] == pytest.approx(oracle.recall_score(events, positive))
        assert row["specificity"] == pytest.approx(oracle.recall_score(~events, ~positive))
        assert row["ppv"] == pytest.approx(oracle.precision_score(events, positive))
        assert row["npv"] == pytest.approx(oracle.precision_score(~events, ~positive))
        limits = [row["threshold_lowest"], row["threshold"], row["threshold_highest"]]
        assert limits == [min(chosen), np.median(chosen), max(chosen)]


def test_every_fold_counts_once_in_the_median_threshold():
    thresholds, folds = np.array([0.1, 0.1, 0.1, 0.9, 0.4]), np.array(["a", "a", "a", "b", "c"])
    expected = {"threshold": 0.4, "threshold_lowest": 0.1, "threshold_highest": 0.9}
    assert threshold_columns(thresholds, folds) == expected


def test_the_test_cases_are_evaluated_by_the_one_threshold_of_development():
    prediction, events, patients, _ = cohort(seed=1)
    development = cohort(seed=2)[:2]
    weights = cluster_weights(patients, 500, 0)
    test = np.full(300, "final")
    table = operating_table(
        prediction,
        events,
        patients,
        test,
        development={"final": development},
        levels=LEVELS,
        weights=weights,
        confidence=0.95,
    )
    assert table["rule"].tolist() == ["sensitivity at specificity 0.90", "specificity at sensitivity 0.80"]
    threshold = threshold_for(*development, "specificity", 0.9)
    first = table.iloc[0]
    assert first["threshold"] == first["threshold_lowest"] == first["threshold_highest"] == threshold
    assert first["specificity"] == pytest.approx(reached(prediction, events, threshold)["specificity"])
    assert first[["n", "patients", "events"]].tolist() == [300, 150, events.sum()]


def test_the_interval_draws_patients_at_a_given_threshold():
    prediction, events, patients, _ = cohort()
    folds, development = np.full(300, "final"), {"final": cohort(seed=2)[:2]}
    weights = cluster_weights(patients, 500, 0)
    row = operating_table(
        prediction, events, patients, folds, development=development, levels=LEVELS[:1], weights=weights, confidence=0.9
    ).iloc[0]
    hits = (prediction >= row["threshold"])[events]
    drawn, share = [np.average(hits, weights=some[events]) for some in weights[1:]], hits.mean()
    effective = share * (1 - share) / np.var(drawn, ddof=1)
    limits = wilson(share * effective, effective, norm.ppf(0.95))
    assert [row["sensitivity_lower"], row["sensitivity_upper"]] == pytest.approx(limits)


def test_a_patient_in_two_folds_is_refused():
    prediction, events, patients, _ = cohort(20)
    mixed = (np.arange(20) % 5).astype(str)
    with pytest.raises(ValueError, match="patient 0 is in two folds"):
        operating_table(
            prediction,
            events,
            patients,
            mixed,
            development={},
            levels=LEVELS,
            weights=np.ones((1, 20)),
            confidence=0.95,
        )
