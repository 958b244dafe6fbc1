from itertools import pairwise

import numpy as np
import pytest

from pipeline.stages.evidence.learners.subsets import nested

FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)


def cohort(counts=(60, 30, 10), scans=2):
    """Patients of each class, every one with some scans, in no order."""
    classes = np.repeat(np.arange(len(counts)), counts)
    patients = np.array([f"p{number:03d}" for number in range(len(classes))])
    shuffled = np.random.default_rng(0).permutation(scans * len(classes))
    rows = np.repeat(np.arange(len(classes)), scans)[shuffled]
    return np.eye(len(counts))[classes[rows]], patients[rows]


def patients_of(rows, targets, patients):
    """Count the patients of each class in some rows."""
    return [len(set(patients[rows][targets[rows, number] == 1])) for number in range(targets.shape[1])]


@pytest.mark.parametrize("seed", range(5))
def test_a_smaller_share_is_part_of_every_larger_one_and_one_is_all(seed):
    targets, patients = cohort()
    subsets = nested(targets, patients, FRACTIONS, seed)
    for smaller, larger in pairwise(FRACTIONS):
        assert set(subsets[smaller]) < set(subsets[larger])
    np.testing.assert_array_equal(subsets[1.0], np.arange(len(patients)))


def test_all_scans_of_a_patient_go_together():
    targets, patients = cohort(scans=3)
    for rows in nested(targets, patients, FRACTIONS, 0).values():
        assert not set(patients[rows]) & set(np.delete(patients, rows))


def test_each_class_gives_its_share_of_patients_and_two_at_least():
    targets, patients = cohort()
    subsets = nested(targets, patients, FRACTIONS, 1)
    assert [patients_of(subsets[f], targets, patients) for f in FRACTIONS] == [
        [3, 2, 2],
        [6, 3, 2],
        [15, 8, 3],
        [30, 15, 5],
        [60, 30, 10],
    ]


def test_a_class_of_one_patient_is_in_every_share():
    targets, patients = cohort((50, 1))
    assert patients_of(nested(targets, patients, [0.02], 0)[0.02], targets, patients) == [2, 1]


def test_another_share_changes_no_subset():
    targets, patients = cohort()
    alone, among = nested(targets, patients, [0.25], 7), nested(targets, patients, [0.9, 0.25, 0.01], 7)
    np.testing.assert_array_equal(alone[0.25], among[0.25])


def test_draws_differ_by_their_seed_and_not_by_the_order_of_the_cases():
    targets, patients = cohort()
    backwards = np.arange(len(patients))[::-1]

    def drawn(seed, order):
        return set(patients[order][nested(targets[order], patients[order], [0.25], seed)[0.25]])

    first, again, other = drawn(0, order := slice(None)), drawn(0, backwards), drawn(1, order)
    assert first == again != other


def test_over_many_draws_every_patient_of_a_class_is_taken_as_often():
    targets, patients = cohort((40, 20), scans=1)
    taken = np.zeros(60)
    for seed in range(2000):
        taken[nested(targets, patients, [0.25], seed)[0.25]] += 1
    assert np.abs(taken / 2000 - 0.25).max() < 4 * np.sqrt(0.25 * 0.75 / 2000)


@pytest.mark.parametrize("seed", range(10))
def test_every_finding_keeps_two_patients_with_it_and_two_without(seed):
    """The second finding never comes alone and the third is nearly always there: no share of strata sees to them."""
    rng = np.random.default_rng(seed)
    targets = np.zeros((200, 3))
    targets[:12, 0] = 1
    targets[:3, 1] = 1
    targets[5:, 2] = 1
    targets[rng.random((200, 3)) < 0.1] = np.nan
    patients = np.arange(200).astype(str)
    rows = nested(targets, patients, [0.01], seed)[0.01]
    for finding in targets.T:
        for kind in (0, 1):
            assert (finding[rows] == kind).sum() >= min(2, (finding == kind).sum())
    assert len(rows) < 20


def test_a_patient_of_two_classes_counts_for_the_rarer():
    targets = np.eye(2)[[0] * 20 + [1, 1, 0, 1, 1]]
    patients = np.array([*map(str, range(20)), "x", "y", "x", "z", "w"])
    rows = nested(targets, patients, [0.5], 3)[0.5]
    assert len(set(patients[rows]) & set("xyzw")) == 2


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.2, float("nan")])
def test_a_share_beyond_all_is_refused(fraction):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        nested(*cohort(), [0.5, fraction], 0)
