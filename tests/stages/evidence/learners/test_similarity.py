import numpy as np
import pytest

from pipeline.stages.evidence.learners.similarity import by_stage, linear_cka


def pair(n=60, width=8, other=12, shared=1.0, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(n, width)) * np.arange(1, width + 1)
    return a, shared * a @ rng.normal(size=(width, other)) + rng.normal(size=(n, other))


def rotation(width, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]


def unbiased_hsic(k, l):  # noqa: E741
    """Song et al. 2012: 1 / n(n-3) (tr KL + 1'K1 1'L1 / (n-1)(n-2) - 2 1'KL1 / (n-2)), the diagonals zero."""
    n, one = len(k), np.ones(len(k))
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return (np.trace(k @ l) + middle - 2 * one @ k @ l @ one / (n - 2)) / (n * (n - 3))


def test_the_debiased_form_is_the_ratio_of_the_papers_unbiased_estimates():
    a, b = pair(n=15)
    k, l = a @ a.T, b @ b.T  # noqa: E741
    expected = unbiased_hsic(k, l) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(l, l))
    assert linear_cka(a, b) == pytest.approx(expected, abs=1e-12)


def test_the_plain_form_is_that_of_the_cross_covariances():
    """||A'B||^2 / (||A'A|| ||B'B||) of centred features, by the Frobenius norm."""
    a, b = pair()
    a0, b0 = a - a.mean(axis=0), b - b.mean(axis=0)
    norm = np.linalg.norm
    assert linear_cka(a, b, debiased=False) == pytest.approx(norm(a0.T @ b0) ** 2 / norm(a0.T @ a0) / norm(b0.T @ b0))


def test_of_single_features_the_plain_form_is_their_squared_correlation():
    a, b = pair(width=1, other=1)
    assert linear_cka(a, b, debiased=False) == pytest.approx(np.corrcoef(a[:, 0], b[:, 0])[0, 1] ** 2)


@pytest.mark.parametrize("debiased", [True, False])
def test_similarity_ignores_rotation_shift_scale_and_columns_of_zeros(debiased):
    a, b = pair()
    moved = np.hstack([3 * a @ rotation(8) + 100, np.zeros((60, 5))])
    assert linear_cka(a, moved, debiased) == pytest.approx(1, abs=1e-9)
    assert linear_cka(moved, b, debiased) == pytest.approx(linear_cka(a, b, debiased), abs=1e-9)
    assert linear_cka(b, a, debiased) == pytest.approx(linear_cka(a, b, debiased))


def test_another_weight_of_a_feature_does_change_it():
    a, _ = pair()
    assert linear_cka(a, a * np.array([100, *[1] * 7])) < 0.9


def test_similarity_of_independent_features_is_zero_in_the_mean():
    rng = np.random.default_rng(0)
    pairs = [(rng.normal(size=(30, 400)), rng.normal(size=(30, 300))) for _ in range(200)]
    debiased = np.array([linear_cka(a, b) for a, b in pairs])
    assert abs(debiased.mean()) < 3 * debiased.std() / np.sqrt(200)
    assert np.mean([linear_cka(a, b, debiased=False) for a, b in pairs]) > 0.85


def test_the_debiased_form_does_not_depend_on_how_many_cases_there_are():
    few, many = ([linear_cka(*pair(n, 20, 30, 0.2, seed)) for seed in range(50)] for n in (20, 200))
    assert np.mean(few) == pytest.approx(np.mean(many), abs=0.05)


def test_stages_are_compared_one_by_one():
    a, b = pair(other=8)
    mixed = np.hstack([a[:, :3] @ rotation(3), b[:, 3:]])
    alike, other = by_stage(a, mixed, [3, 5])
    assert alike == pytest.approx(1) and other == linear_cka(a[:, 3:], b[:, 3:])


@pytest.mark.parametrize("debiased", [True, False])
def test_features_that_do_not_differ_have_no_similarity(debiased):
    """Seven times 0.7 has a mean that is not quite 0.7."""
    assert np.isnan(linear_cka(np.full((7, 3), 0.7), pair(7)[0], debiased))


@pytest.mark.parametrize(("rows", "said"), [((10, 9), "same cases"), ((3, 3), "4 cases")])
def test_other_or_too_few_cases_are_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        linear_cka(np.eye(10)[: rows[0]], np.eye(10)[: rows[1]])


def test_stages_of_other_widths_are_refused():
    with pytest.raises(ValueError, match="7 features"):
        by_stage(*pair(other=8), [3, 4])
