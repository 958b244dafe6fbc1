import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from pipeline.stages.split import leakage
from pipeline.stages.split.leakage import (
    exact_duplicates,
    findings,
    joined_patients,
    near_duplicates,
    open_leaks,
)
from tests.stages.split.pairs import cohort, pairs


def heads(n, seed=0, own=12.0):
    """Smooth images that share most of their anatomy."""
    rng = np.random.default_rng(seed)
    anatomy = gaussian_filter(np.random.default_rng(99).normal(size=(64, 64)), 6)
    selves = gaussian_filter(rng.normal(size=(n, 64, 64)), (0, 3, 3))
    together = 40 * anatomy / anatomy.std() + own * selves / selves.std()
    return list(np.clip(110 + together, 0, 230).astype(np.uint8))


def all_of(signatures, rest, first, second):
    """Leave the answer to the coarse structure."""
    return np.ones(len(first), dtype=bool)


def pair(**columns):
    """Two cases with the same voxels: (first's, second's) value of each column given."""
    image = heads(1)[0]
    return cohort([image, image], **{name: list(values) for name, values in columns.items()})


# --- copies


def test_exact_duplicates_pair_every_two_of_three_in_any_order():
    hashes = {"voxel_hash": ["x", "y", "x", "z", "x"]}
    cases = pd.DataFrame({"case": ["e", "d", "c", "b", "a"], **hashes})
    assert pairs(exact_duplicates(cases)) == {("a", "c"), ("a", "e"), ("c", "e")}


@pytest.mark.parametrize("n", [5, 15, 30, 60])
def test_brighter_duplicate_is_found_despite_shared_anatomy(n):
    images = heads(n)
    copy = (images[2] * 0.8 + 50).astype(np.uint8)
    cases, signatures = cohort([*images, copy])
    alike = np.corrcoef(signatures)[np.triu_indices(n, 1)]
    assert np.median(alike) > leakage.MIN_CORRELATION
    assert pairs(near_duplicates(cases, signatures)) == {("c002", f"c{n:03d}")}


def test_hashes_that_differ_in_more_bits_than_allowed_make_no_copy():
    images = heads(30)
    cases, signatures = cohort([*images, images[0]])
    cases["perceptual_hash"] = [f"{n * 0x1111111111111:016x}" for n in range(31)]
    cases.loc[0, "perceptual_hash"], cases.loc[30, "perceptual_hash"] = "f000000000000000", "000000000000000f"
    found = near_duplicates(cases, signatures, max_distance=8, min_correlation=0.99)
    assert pairs(found) == {("c000", "c030")}
    assert found["distance"].tolist() == [8]
    assert found["correlation"].tolist() == pytest.approx([1.0], abs=1e-5)
    assert near_duplicates(cases, signatures, max_distance=7, min_correlation=0.99).empty


def test_a_correlation_below_the_wanted_one_makes_no_copy(monkeypatch):
    monkeypatch.setattr(leakage, "shares_detail", all_of)
    cases, signatures = cohort(heads(30))
    cases["perceptual_hash"] = "00000000000000ff"
    assert near_duplicates(cases, signatures).empty
    assert len(near_duplicates(cases, signatures, min_correlation=-1)) == 30 * 29 / 2


def test_comparing_in_blocks_finds_the_same_as_at_once(monkeypatch):
    monkeypatch.setattr(leakage, "shares_detail", all_of)
    cases, signatures = cohort(heads(40) + heads(5))
    at_once = near_duplicates(cases, signatures, 20, 0.3)
    monkeypatch.setattr(leakage, "ROWS", 7)
    in_blocks = near_duplicates(cases, signatures, 20, 0.3)
    assert len(at_once) > 5
    pd.testing.assert_frame_equal(at_once, in_blocks, rtol=1e-4)


def test_the_order_of_the_table_does_not_matter():
    cases, signatures = cohort(heads(40) + heads(5))
    order = np.random.default_rng(3).permutation(45)
    shuffled = findings(cases.iloc[order].reset_index(drop=True), signatures[order])
    assert len(shuffled) == 5
    pd.testing.assert_frame_equal(findings(cases, signatures), shuffled, rtol=1e-4)


def test_the_many_slices_of_one_patient_do_not_make_the_others_alike():
    slices = [np.roll(heads(1, seed=7)[0].T, n % 9, axis=0) for n in range(200)]
    cases, signatures = cohort(heads(12) + slices, [f"p{n:02d}" for n in range(12)] + ["many"] * 200)
    cases["perceptual_hash"] = "0" * 16
    found = near_duplicates(cases, signatures)
    patient = cases.set_index("case")["patient"]
    assert set(found["case"].map(patient)) == set(found["other"].map(patient)) == {"many"}


def test_the_many_slices_of_one_patient_do_not_decide_what_is_common():
    rng = np.random.default_rng(0)
    size, one_way, another = rng.normal(size=(3, 400))
    people = rng.choice([-3, 3], size=(40, 1)) * size + rng.normal(size=(40, 400))
    slices = rng.normal(size=(300, 1)) * 5 * one_way + rng.normal(size=(300, 1)) * 5 * another
    patients = [f"p{n}" for n in range(40)] + ["many"] * 300
    hashes = {"case": [f"c{n:03d}" for n in range(340)], "perceptual_hash": "0" * 16}
    found = near_duplicates(pd.DataFrame({"patient": patients, **hashes}), np.concatenate([people, slices]))
    assert not any(case < "c040" for case in [*found["case"], *found["other"]])


def waves(n, seed=0, noise=15):
    """Images of three random coarse waves, so that many look alike, with noise of their own."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32] / 32
    across, down, phase, size = rng.normal(size=(4, n, 3, 1, 1))
    coarse = (size * np.sin(2 * np.pi * (across * rows + down * columns + phase))).sum(axis=1)
    return list((110 + 40 * coarse + rng.normal(0, noise, (n, 32, 32))).clip(0, 255).astype(np.uint8))


def test_images_that_share_coarse_structure_alone_are_no_copies(monkeypatch):
    images = waves(3000, noise=4)
    cases, signatures = cohort([*images, *(image // 2 + 60 for image in images[:50])])
    planted = {(f"c{n:03d}", f"c{n + 3000:03d}") for n in range(50)}
    found = pairs(near_duplicates(cases, signatures))
    monkeypatch.setattr(leakage, "shares_detail", all_of)
    coarse = pairs(near_duplicates(cases, signatures))
    assert found & planted == coarse & planted and len(found & planted) > 40
    assert len(coarse - planted) > 100 and not found - planted


@pytest.mark.parametrize("channels", [1, 3])
def test_fine_structure_of_different_images_seldom_agrees_however_many(channels):
    images = np.random.default_rng(0).normal(120, 20, (500, channels * 32 * 32)).astype(np.float32)
    rest = leakage.uncommon_part(images, np.arange(500).astype(str))
    first, second = np.triu_indices(500, 1)
    for n in (20, 100, 500):
        some = second < n
        assert leakage.shares_detail(images[:n], rest[:n], first[some], second[some]).sum() <= 2
    copies = images // 2 + np.random.default_rng(1).normal(60, 5, images.shape).astype(np.float32)
    both = np.concatenate([images, copies])
    rest = leakage.uncommon_part(both, np.arange(1000).astype(str))
    assert leakage.shares_detail(both, rest, np.arange(500), np.arange(500, 1000)).all()


def test_smooth_images_are_compared_by_their_coarse_structure():
    images = [gaussian_filter(image.astype(float), 4).round().astype(np.uint8) for image in waves(40, noise=0)]
    cases, signatures = cohort([*images, images[7] // 2 + 60])
    assert ("c007", "c040") in pairs(near_duplicates(cases, signatures))


@pytest.mark.parametrize("constants", [{"MANY_CLOSE": 0}, {"MANY_CLOSE": 1}, {"MANY_CLOSE": 1, "PAIRS": 3}])
def test_correlations_are_the_same_one_by_one_and_of_a_block(monkeypatch, constants):
    monkeypatch.setattr(leakage, "shares_detail", all_of)
    cases, signatures = cohort(heads(40) + heads(5))
    expected = near_duplicates(cases, signatures, 20, 0.3)
    for name, value in constants.items():
        monkeypatch.setattr(leakage, name, value)
    pd.testing.assert_frame_equal(near_duplicates(cases, signatures, 20, 0.3), expected, rtol=1e-5)


def test_blank_images_are_no_near_copies():
    blank = np.full((64, 64), 7, dtype=np.uint8)
    cases, signatures = cohort([blank, blank + 1, *heads(2)])
    assert near_duplicates(cases[:2], signatures[:2]).empty
    assert near_duplicates(cases, signatures, max_distance=64).empty


@pytest.mark.parametrize("broken", [np.full((30, 9), np.nan), np.ones((29, 9))])
def test_signatures_that_cannot_be_compared_are_refused(broken):
    with pytest.raises(ValueError, match="one signature of finite numbers"):
        near_duplicates(cohort(heads(30))[0], broken)


# --- findings


def test_exact_duplicates_within_a_patient_are_found_unlike_neighbours():
    images = heads(30)
    brighter = images[0] + np.uint8(10)
    patients = [f"p{n:03d}" for n in range(30)] + ["p000", "p001"]
    cases, signatures = cohort([*images, brighter, images[1]], patients)
    assert pairs(near_duplicates(cases, signatures)) == {("c000", "c030"), ("c001", "c031")}
    found = findings(cases, signatures)
    assert found[["check", "case", "other", "across"]].values.tolist() == [
        ["exact duplicate", "c001", "c031", "one patient"]
    ]


def test_a_copy_that_is_exact_is_not_reported_as_near_too():
    images = heads(30)
    found = findings(*cohort([*images, images[4], images[5] + np.uint8(9)]))
    assert found[["check", "case", "other"]].values.tolist() == [
        ["exact duplicate", "c004", "c030"],
        ["near duplicate", "c005", "c031"],
    ]
    assert found["similarity"][0] == 1
    assert leakage.MIN_CORRELATION <= found["similarity"][1] <= 1


def test_a_cohort_without_copies_has_no_findings_and_no_leaks():
    found = findings(*cohort(heads(30)))
    assert found.empty
    assert open_leaks(found, []).empty
    assert {"check", "case", "patient", "other", "other_patient", "similarity", "labels", "across"} <= set(found)


@pytest.mark.parametrize(
    ("labels", "said"),
    [(("ill", "ill"), "same"), (("ill", "well"), "contradict"), (("ill", ""), "unknown"), (("", "ill"), "unknown")],
)
def test_the_labels_of_a_pair_agree_or_contradict_or_one_is_unknown(labels, said):
    assert findings(*pair(label=labels))["labels"].tolist() == [said]


@pytest.mark.parametrize(
    ("sides", "patients", "said"),
    [
        (("test", "development"), "ab", "train/test boundary"),
        (("calibration", "test"), "ab", "train/test boundary"),
        (("test", "development"), "aa", "train/test boundary"),
        (("test", "unlabelled"), "ab", "patients"),
        (("test", "test"), "ab", "patients"),
        (("development", "development"), "ab", "patients"),
        (("development", "development"), "aa", "one patient"),
    ],
)
def test_boundary_separates_test_cases_from_training_and_calibration(sides, patients, said):
    assert findings(*pair(side=sides, patients=patients))["across"].tolist() == [said]


# --- open leaks


@pytest.mark.parametrize(
    ("sides", "patients", "labels", "is_open"),
    [
        (("test", "development"), "ab", ("x", "x"), True),
        (("test", "calibration"), "ab", ("x", "x"), True),
        (("development", "development"), "ab", ("x", "y"), True),
        (("development", "development"), "aa", ("x", "y"), True),
        (("development", "development"), "ab", ("x", "x"), False),
        (("development", "unlabelled"), "ab", ("x", ""), False),
        (("development", "development"), "aa", ("x", "x"), False),
        (("unlabelled", "unlabelled"), "ab", ("", ""), False),
    ],
)
def test_an_exact_copy_is_a_leak_where_it_does_harm(sides, patients, labels, is_open):
    found = findings(*pair(side=sides, patients=patients, label=labels))
    assert len(found) == 1
    assert len(open_leaks(found, [])) == is_open


@pytest.mark.parametrize("name", ["c000", "c001", "a", "b"])
def test_a_leak_is_closed_by_naming_either_case_or_either_patient(name):
    found = findings(*pair(side=("test", "development"), patients="ab"))
    assert len(open_leaks(found, ["somebody else"])) == 1
    assert open_leaks(found, [name]).empty


@pytest.mark.parametrize(
    ("side", "label", "is_open"),
    [("development", "y", False), ("test", "x", False), ("test", "y", True)],
)
def test_near_duplicate_is_a_leak_only_across_the_boundary_with_conflict(side, label, is_open):
    images = heads(30)
    sides = ["development"] * 30 + [side]
    found = findings(*cohort([*images, images[0] + np.uint8(9)], label=["x"] * 30 + [label], side=sides))
    assert len(found) == 1 and found["check"].tolist() == ["near duplicate"]
    assert len(open_leaks(found, [])) == is_open


# --- groups


def test_patients_linked_through_others_are_one_group():
    cases = pd.DataFrame({"patient": ["e", "d", "c", "b", "a", "e", "f"]})
    found = pd.DataFrame({"patient": ["e", "b"], "other_patient": ["b", "d"]})
    assert joined_patients(cases, found) == ["b", "b", "c", "b", "a", "b", "f"]
    assert joined_patients(cases, found[::-1]) == ["b", "b", "c", "b", "a", "b", "f"]


def test_without_findings_everybody_stays_alone():
    cases, signatures = cohort(heads(6))
    assert joined_patients(cases, findings(cases, signatures)) == list(cases["patient"])


# --- real images
