import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from pipeline.learning.models.heads import NeighboursHead, OrdinalHead, build_head
from pipeline.learning.models.neighbours import fit_neighbours
from pipeline.learning.models.ordinal import fit_ordinal, ordinal_logits
from pipeline.learning.models.probe import Probe, fit_probe


def graded(n=200, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 4))
    scale = features @ [1.5, -1.0, 0.5, 0.0] + rng.logistic(size=n)
    return features, np.digitize(scale, [-2, 0.3, 1.5])


def test_two_grades_are_logistic_regression():
    features, grades = graded()
    two = (grades > 1).astype(int)
    oracle = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-8).fit(features, two)
    weight, thresholds = fit_ordinal(features, np.eye(2)[two], 0.1, balanced=True)
    np.testing.assert_allclose(weight, oracle.coef_, atol=1e-3)
    np.testing.assert_allclose(-thresholds, oracle.intercept_, atol=1e-3)


def test_the_ordinal_fit_is_the_optimum_of_its_formula():
    features, grades = graded(80)

    def objective(values):
        cumulative = expit(np.r_[-np.inf, np.sort(values[4:]), np.inf][None] - (features @ values[:4])[:, None])
        p = np.diff(cumulative, axis=1)[np.arange(len(grades)), grades]
        return -np.log(p).sum() + values[:4] @ values[:4] / 2

    oracle = minimize(objective, np.r_[np.zeros(4), -1, 0, 1], method="BFGS").x
    weight, thresholds = fit_ordinal(features, np.eye(4)[grades], 1.0, balanced=False)
    np.testing.assert_allclose(weight[0], oracle[:4], atol=0.02)
    np.testing.assert_allclose(thresholds, np.sort(oracle[4:]), atol=0.02)


def test_the_ordinal_head_is_the_probe_it_took():
    features, grades = graded()
    probe = fit_probe(features, np.eye(4)[grades], np.arange(200).astype(str), balanced=True, seed=0, task="ordinal")
    head = OrdinalHead(4, 4)
    head.take(probe)
    scaled = (features - probe.mean) / probe.scale
    expected = ordinal_logits(scaled @ probe.weight.T, probe.bias)
    found = head(torch.from_numpy(scaled).float())
    np.testing.assert_allclose(found.detach(), expected, atol=1e-4)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(200))


def test_thresholds_stay_in_their_order_and_far_scores_stay_finite():
    head = OrdinalHead(1, 4)
    with torch.no_grad():
        head.gaps.fill_(-8.0)
        head.weight.fill_(1.0)
    assert (head.thresholds.diff() > 0).all()
    logits = head(torch.tensor([[-1e4], [0.0], [1e4]]))
    assert torch.isfinite(logits).all() and logits[0].argmax() == 0 and logits[2].argmax() == 3


def test_grades_given_back_their_prevalence_still_sum_to_one():
    head = OrdinalHead(2, 3)
    before = head(torch.ones(1, 2)).exp()
    head.lower(torch.tensor([0.0, 1.0, 0.0]))
    after = head(torch.ones(1, 2)).exp()
    expected = before * torch.tensor([1, np.exp(-1), 1])
    torch.testing.assert_close(after, (expected / expected.sum()).float())


def test_the_nearest_neighbour_by_cosine_similarity_is_scikit_learns():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 5)), rng.integers(0, 3, 60)
    oracle = KNeighborsClassifier(1, metric="cosine").fit(features[:40], labels[:40]).predict(features[40:])
    head = NeighboursHead(5, 3, 40, findings=False)
    head.remember(torch.from_numpy(features[:40]).float(), torch.eye(3)[labels[:40]], 1)
    logits = head(torch.from_numpy(features[40:]).float())
    assert (logits.argmax(dim=1).numpy() == oracle).all()
    torch.testing.assert_close(logits.exp().sum(dim=1), torch.ones(20))
    shares = torch.eye(3)[labels[:40]].mean(dim=0)  # everyone together is one more neighbour
    torch.testing.assert_close(logits[0].exp(), (torch.eye(3)[oracle[0]] + shares) / 2)


def test_neighbours_say_nothing_of_findings_that_are_not_known_of_them():
    head = NeighboursHead(2, 2, 3, findings=True)
    there = torch.tensor([[1.0, float("nan")], [1.0, 0.0], [0.0, 1.0]])
    head.remember(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), there, 1)
    odds = head(torch.tensor([[1.0, 0.0]]))
    assert float(odds[0, 0].sigmoid()) == pytest.approx((1 + 2 / 3) / 2)
    assert float(odds[0, 1].sigmoid()) == pytest.approx(0.5)  # the share of those who are known


def test_how_many_vote_is_chosen_on_patients_who_do_not():
    """Four rows of each patient are alike: three neighbours within the patient are right, others know nothing."""
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(40, 10)), 4, axis=0)
    labels, patients = np.repeat(rng.integers(0, 2, 40), 4), np.repeat(np.arange(40), 4).astype(str)
    head = NeighboursHead(10, 2, 160, findings=False)
    rows, targets = torch.from_numpy(features).float(), torch.eye(2)[labels]
    assert fit_neighbours(head, rows, targets, patients, task="multiclass", seed=0) == 1  # the most modest
    assert fit_neighbours(head, rows, targets, np.arange(160).astype(str), task="multiclass", seed=0) >= 3


def test_findings_are_probed_one_by_one_on_the_cases_where_they_are_known():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 3))
    targets = (features[:, :2] > 0).astype(float)
    targets[:30, 1] = np.nan
    probe = fit_probe(features, targets, np.arange(120).astype(str), balanced=False, seed=0, task="multilabel")
    scaled = ((features - probe.mean) / probe.scale)[30:]
    oracle = LogisticRegression(C=probe.c, tol=1e-8).fit(scaled, targets[30:, 1])
    np.testing.assert_allclose(probe.weight[1], oracle.coef_[0], rtol=5e-3, atol=5e-3)
    np.testing.assert_allclose(probe.bias[1], oracle.intercept_[0], atol=5e-3)


def test_a_head_of_each_kind_comes_back_from_its_stored_weights():
    for kind, size in (("linear", 0), ("ordinal", 0), ("neighbours", 7)):
        head, other = (build_head(4, 3, kind=kind, n_cases=size) for _ in range(2))
        if kind != "neighbours":
            weight = np.random.default_rng(0).normal(size=(3 if kind == "linear" else 1, 4))
            head.take(Probe(weight, np.arange(3.0 if kind == "linear" else 2), np.zeros(4), np.ones(4), 1.0))
        else:
            head.remember(torch.randn(7, 4), torch.eye(3)[torch.arange(7) % 3], 3)
        head.lower(torch.tensor([0.1, 0.2, 0.3]))
        other.load_state_dict(head.state_dict())
        assert torch.equal(head(torch.ones(2, 4)), other(torch.ones(2, 4)))
