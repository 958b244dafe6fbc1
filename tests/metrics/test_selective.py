"""Risk and coverage against loops over random orders, and against closed forms."""

import numpy as np
import pytest

from pipeline.metrics.bootstrap import cluster_weights, estimate_all
from pipeline.metrics.selective import (
    abstention_table,
    abstention_threshold,
    accuracy_at,
    answers_of,
    aurc,
    excess_aurc,
    risk_coverage,
    selective_metrics,
    selective_table,
)

GRID = (np.arange(4000) + 0.5) / 4000
P = np.tile(GRID, 2)
TWO_CLASS = np.stack([1 - P, P], axis=1)
LABELS = (np.arange(8000) < 4000).astype(np.int64)
ONE = np.concatenate([GRID, 1 - GRID])[None]  # each p as an event of weight p and a non-event of weight 1 - p


def small(n=24, seed=0, replicates=10):
    rng = np.random.default_rng(seed)
    confidence = rng.random(n).round(1)  # many ties
    return confidence, rng.random(n) < 0.4, cluster_weights(rng.integers(0, 12, n).astype(str), replicates, seed)


def repeated(confidence, wrong, row, times=1):
    """Write a weighting out as that many equal answers."""
    copies = (row * times).astype(int)
    return np.repeat(confidence, copies), np.repeat(wrong, copies)


def risks_by_shuffling(confidence, wrong, draws, seed=0):
    """Mean risk of the first k answers, k = 1..n, over random orders of equal confidences."""
    rng = np.random.default_rng(seed)
    orders = [np.lexsort((rng.random(len(wrong)), -confidence)) for _ in range(draws)]
    return np.mean([np.cumsum(wrong[order]) / np.arange(1, len(wrong) + 1) for order in orders], axis=0)


def test_every_weighting_equals_the_mean_over_random_orders_of_its_answers():
    confidence, wrong, weights = small(replicates=3)
    for row in weights:
        answers = repeated(confidence, wrong, row)
        n = len(answers[0])
        expected = risks_by_shuffling(*answers, 4000)
        found = risk_coverage(confidence, wrong, row[None], np.arange(1, n + 1) / n)[0]
        np.testing.assert_allclose(found, expected, atol=0.03)
        assert found[-1] == pytest.approx(np.average(wrong, weights=row))


def test_without_ties_the_risk_is_that_of_the_first_answers():
    wrong = np.array([0, 1, 0, 0, 1]) == 1
    found = risk_coverage(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), wrong, np.ones((1, 5)), np.arange(1, 6) / 5)
    np.testing.assert_allclose(found[0], [0, 1 / 2, 1 / 3, 1 / 4, 2 / 5])


def test_ties_at_the_edge_of_a_coverage_count_in_proportion():
    found = risk_coverage(np.array([0.9, 0.5, 0.5, 0.5]), np.array([0, 1, 1, 0]) == 1, np.ones((1, 4)), np.array([0.5]))
    assert found[0, 0] == pytest.approx((0 + 2 / 3) / 2)


def test_the_area_is_the_mean_risk_over_ever_finer_coverages():
    """The sum over k / n tends to the integral as every answer is written out more often."""
    confidence, wrong, weights = small(replicates=3)
    confidence = confidence + np.arange(24) * 1e-6
    for row, area in zip(weights, aurc(confidence, wrong, weights), strict=True):
        times, total = 500, row.sum()
        order = np.argsort(-confidence)
        k, errors, risks = 0.0, 0.0, []
        for answer in order:
            for _ in range(int(row[answer] * times)):
                k, errors = k + 1, errors + wrong[answer]
                risks.append(errors / k)
        assert len(risks) == times * total
        assert area == pytest.approx(np.mean(risks), abs=1e-3)


def test_the_area_is_that_under_the_tabulated_curve():
    confidence, wrong, weights = small()
    middle = (np.arange(20000) + 0.5) / 20000
    np.testing.assert_allclose(
        aurc(confidence, wrong, weights), risk_coverage(confidence, wrong, weights, middle).mean(axis=1), atol=1e-4
    )


def test_a_confidence_that_says_nothing_has_the_error_rate_as_area():
    _, wrong, weights = small()
    rate = weights @ wrong / weights.sum(axis=1)
    np.testing.assert_allclose(aurc(np.ones(24), wrong, weights), rate)
    mean = np.mean([aurc(np.random.default_rng(k).random(24), wrong, np.ones((1, 24)))[0] for k in range(4000)])
    assert mean == pytest.approx(wrong.mean(), abs=0.005)


@pytest.mark.parametrize("errors", [0, 30, 100])
def test_perfect_confidence_has_the_area_of_theory(errors):
    wrong = np.arange(100) < errors
    rate = errors / 100
    expected = rate + (1 - rate) * np.log(1 - rate) if rate < 1 else 1
    one = np.ones((1, 100))
    assert aurc(~wrong * 1.0, wrong, one)[0] == pytest.approx(expected)
    assert excess_aurc(~wrong * 1.0, wrong, one)[0] == pytest.approx(0)
    assert errors in (0, 100) or excess_aurc(wrong * 1.0, wrong, one)[0] > 0.1


def test_perfect_uniform_predictions_have_the_metrics_of_theory():
    """Confidence uniform on (1/2, 1): the risk at coverage c is c / 4, and its mean 1/8."""
    answers = answers_of(TWO_CLASS, LABELS)
    known = (answers.confidence, answers.wrong, ONE)
    coverages = np.array([0.2, 0.5, 1.0])
    np.testing.assert_allclose(risk_coverage(*known, coverages)[0], coverages / 4, atol=1e-3)
    assert aurc(*known)[0] == pytest.approx(1 / 8, abs=1e-3)
    assert accuracy_at(*known, 0.8)[0] == pytest.approx(0.8, abs=1e-3)


def test_aurc_is_invariant_to_duplication_and_monotone_confidence():
    confidence, wrong, weights = small()
    doubled = aurc(np.tile(confidence, 2), np.tile(wrong, 2), np.tile(weights, 2))
    np.testing.assert_allclose(doubled, aurc(confidence, wrong, weights))
    np.testing.assert_allclose(aurc(np.exp(confidence), wrong, weights), aurc(confidence, wrong, weights))


def test_a_weighting_without_answers_has_no_metric():
    confidence, wrong, weights = small()
    weights[2] = 0
    assert np.isnan(aurc(confidence, wrong, weights)).tolist() == [False, False, True] + [False] * 8
    assert np.isnan(risk_coverage(confidence, wrong, weights, np.array([0.5]))[2, 0])
    assert np.isnan(excess_aurc(confidence, wrong, weights)[2])


def test_the_answer_is_the_most_probable_class():
    answers = answers_of(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), np.array([1, 2]))
    np.testing.assert_allclose(answers.confidence, [0.5, 0.7])
    assert answers.wrong.tolist() == [True, False] and answers.rows.tolist() == [0, 1]


def test_of_labels_each_known_pair_is_an_answer():
    answers = answers_of(np.array([[0.9, 0.2], [0.4, 0.5]]), np.array([[1, np.nan], [1, 0]]))
    np.testing.assert_allclose(answers.confidence, [0.9, 0.6, 0.5])
    assert answers.wrong.tolist() == [False, True, True] and answers.rows.tolist() == [0, 1, 1]


def of_labels(n=60, seed=0):
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, 3)) < 0.3).astype(float)
    labels[rng.random((n, 3)) < 0.2] = np.nan
    return rng.random((n, 3)), labels, np.repeat(np.arange(n // 2), 2).astype(str)


def test_pairs_of_a_case_are_drawn_with_its_patient():
    """More replicates than a block holds; each equals the metric on the pairs written out."""
    probabilities, labels, patients = of_labels()
    weights = cluster_weights(patients, 250, 0)
    found = selective_metrics(probabilities, labels)["aurc"](weights)
    answers = answers_of(probabilities, labels)
    for number in (0, 99, 100, 101, 250):
        confidence, wrong = repeated(answers.confidence, answers.wrong, weights[number][answers.rows])
        assert found[number] == pytest.approx(aurc(confidence, wrong, np.ones((1, len(wrong))))[0])
    assert len(found) == 251


def test_the_table_holds_risks_intervals_and_counts():
    probabilities, labels, patients = of_labels()
    weights = cluster_weights(patients, 300, 0)
    table = selective_table(probabilities, labels, weights, 0.9, coverages=[0.25, 1.0])
    answers = answers_of(probabilities, labels)
    rates = [np.average(answers.wrong, weights=row[answers.rows]) for row in weights]
    last = table.iloc[1]
    assert [last["coverage"], last["n"]] == [1, np.isfinite(labels).sum()]
    assert last["risk"] == pytest.approx(rates[0])
    assert [last["risk_lower"], last["risk_upper"]] == pytest.approx(np.quantile(rates[1:], [0.05, 0.95]))
    assert table["n"][0] == round(np.isfinite(labels).sum() / 4)


def test_the_metrics_of_a_set_of_cases_come_with_intervals():
    weights = cluster_weights(np.arange(8000).astype(str), 20, 0) * ONE
    found = estimate_all(selective_metrics(TWO_CLASS, LABELS), weights, 0.95)
    assert list(found) == ["aurc", "excess_aurc", "accuracy_at_0.8", "accuracy_at_0.9"]
    assert found["accuracy_at_0.9"].value == pytest.approx(1 - 0.9 / 4, abs=1e-3)
    assert found["excess_aurc"].value == pytest.approx(1 / 8 - (1 / 4 + 3 / 4 * np.log(3 / 4)), abs=1e-3)
    assert all(one.lower < one.value < one.upper for one in found.values())


@pytest.mark.parametrize("coverage", [0.01, 0.3, 0.7, 1.0])
def test_the_threshold_is_the_largest_that_gives_enough_answers(coverage):
    confidence = np.random.default_rng(0).random(30).round(1)
    enough = [t for t in confidence if (confidence >= t).mean() >= coverage - 1e-12]
    assert abstention_threshold(confidence, coverage) == max(enough)


def test_a_coverage_that_is_no_share_is_refused():
    with pytest.raises(ValueError, match="coverage"):
        abstention_threshold(np.ones(3), 80)


def three_classes(n=200, seed=0, sharpness=1.0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3) / sharpness, n)
    return probabilities, np.array([rng.choice(3, p=row) for row in probabilities])


def test_a_rule_fixed_on_development_cases_gives_what_it_gives_elsewhere():
    """Sharper predictions than in development: more answers are given than were aimed at, and it is said."""
    probabilities, labels = three_classes(seed=1, sharpness=3)
    development = three_classes(seed=2)
    weights = cluster_weights(np.arange(200).astype(str), 300, 0)
    table = abstention_table(
        probabilities,
        labels,
        np.full(200, "final"),
        development={"final": development},
        weights=weights,
        confidence=0.95,
    )
    for row in table.to_dict("records"):
        threshold = abstention_threshold(development[0].max(axis=1), row["aimed_at"])
        given = probabilities.max(axis=1) >= threshold
        assert row["threshold"] == threshold and row["given"] == given.sum() and row["n"] == 200
        assert row["coverage"] == pytest.approx(given.mean()) and row["coverage"] > row["aimed_at"]
        assert row["risk"] == pytest.approx((probabilities.argmax(axis=1) != labels)[given].mean())
        assert row["risk_lower"] < row["risk"] < row["risk_upper"]


def test_a_fold_is_evaluated_by_the_threshold_of_the_others():
    probabilities, labels = three_classes()
    folds = (np.arange(200) % 4).astype(str)
    given, chosen, development = np.zeros(200, dtype=bool), [], {}
    for fold in "0123":
        chosen.append(abstention_threshold(probabilities[folds != fold].max(axis=1), 0.8))
        development[fold] = (probabilities[folds != fold], labels[folds != fold])
        given[folds == fold] = probabilities[folds == fold].max(axis=1) >= chosen[-1]
    table = abstention_table(
        probabilities,
        labels,
        folds,
        development=development,
        weights=np.ones((3, 200)),
        confidence=0.95,
        coverages=[0.8],
    )
    [row] = table.to_dict("records")
    assert row["given"] == given.sum() and row["coverage"] == pytest.approx(given.mean())
    assert [row["threshold_lowest"], row["threshold_highest"]] == [min(chosen), max(chosen)]


def test_of_labels_a_rule_is_fixed_and_evaluated_on_pairs():
    probabilities, labels, patients = of_labels()
    folds = (np.arange(60) // 2 % 3).astype(str)
    weights = cluster_weights(patients, 20, 0)
    development = {fold: (probabilities[folds != fold], labels[folds != fold]) for fold in "012"}
    [row] = abstention_table(
        probabilities, labels, folds, development=development, weights=weights, confidence=0.95, coverages=[0.9]
    ).to_dict("records")
    known = np.isfinite(labels)
    confidence = np.maximum(probabilities, 1 - probabilities)
    given = 0
    for fold in "012":
        inside = known & (folds == fold)[:, None]
        given += (confidence[inside] >= abstention_threshold(confidence[known & ~inside], 0.9)).sum()
    assert row["given"] == given and row["n"] == known.sum()


def test_a_fold_without_development_cases_has_no_rule_and_no_metric():
    probabilities, labels = three_classes(20)
    folds, development = np.repeat(["0", "1"], 10), {"0": three_classes(30)}
    [row] = abstention_table(
        probabilities,
        labels,
        folds,
        development=development,
        weights=np.ones((3, 20)),
        confidence=0.95,
        coverages=[0.8],
    ).to_dict("records")
    assert np.isnan(row["threshold"]) and row["coverage"] is None and row["risk"] is None
