import json
import warnings

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.exposure import match_histograms
from torchio.transforms.preprocessing.intensity.histogram_standardization import (
    _get_average_mapping,
    _get_percentiles,
    _normalize,
)

from pipeline.learning.models.harmonise import PERCENTILES, Harmoniser, landmarks, standard_scale
from tests.conftest import shared

METHODS = tuple(PERCENTILES)
CHANNELS = arrays.arrays(np.uint8, (2, 3, 6, 5), elements=st.integers(0, 255))


def heads(count=4, gain=9.0):
    """Cases (6, 24, 24) with a black border, each with a histogram of its own."""
    rng = np.random.default_rng(0)
    cases = [rng.gamma(2 + n, gain, (6, 24, 24)).clip(1, 255).astype(np.uint8) for n in range(count)]
    for case in cases:
        case[:, :5] = 0
    return cases


def fitted(method, cases, groups=1, strength=1.0):
    marks = [landmarks(case, PERCENTILES[method], groups) for case in cases]
    return Harmoniser(PERCENTILES[method], standard_scale(marks, method).tolist(), strength)


def through(harmoniser, channels):
    return harmoniser(torch.tensor(np.array(channels))[None])[0].numpy()


@settings(max_examples=60, deadline=None)
@given(CHANNELS, st.sampled_from(METHODS), st.sampled_from([1, 3]))
def test_landmarks_are_numpys_percentiles_above_the_lowest_value(channels, method, groups):
    for case in channels:
        found = landmarks(case, PERCENTILES[method], groups)
        for group, marks in enumerate(found):
            values = case[group::groups]
            inside = values[values > values.min()]
            expected = np.percentile(inside if inside.size else values, PERCENTILES[method])
            np.testing.assert_allclose(marks, expected, rtol=0, atol=1e-9)


def test_nyul_is_torchios_but_for_the_range():
    cases = heads()
    deciles = [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12]  # of their landmarks; the others are quartiles
    theirs = np.array([np.percentile(case[case > 0], _get_percentiles((1.0, 99.0))) for case in cases])
    low, high = theirs[:, 0].mean(), theirs[:, -1].mean()
    average = low + _get_average_mapping(theirs) / 100 * (high - low)
    harmoniser = fitted("nyul", cases)
    np.testing.assert_allclose(harmoniser.standard[0], average[deciles], rtol=0, atol=1e-4)
    for case in cases:
        oracle = _normalize(torch.tensor(case), average, case > 0, (0.01, 0.99)).numpy().clip(0, 255)
        np.testing.assert_allclose(through(harmoniser, case), np.where(case > 0, oracle, 0), rtol=0, atol=1e-3)


def test_histogram_matching_is_scikit_images_within_a_percentile():
    source, reference = heads(6)[1], heads(6)[5]
    theirs = match_histograms(source[source > 0], reference[reference > 0])
    ours, before = through(fitted("histogram", [reference]), source)[source > 0], source[source > 0]
    low, high = np.percentile(before, (1, 99))  # the tails are thin
    apart = np.abs(ours - theirs)[(before >= low) & (before <= high)]
    assert apart.mean() < 0.5 and apart.max() < 2.5
    assert np.abs(before - theirs).mean() > 30


def test_the_standard_histogram_is_the_barycentre_of_gains_and_offsets():
    case = np.arange(0, 101, dtype=np.uint8).reshape(1, 1, 101)
    first, second = case, np.where(case > 0, 2 * case + 30, 0).astype(np.uint8)
    quantiles = np.percentile(case[case > 0], PERCENTILES["histogram"])
    harmoniser = fitted("histogram", [first, second])
    np.testing.assert_allclose(harmoniser.standard[0], 1.5 * quantiles + 15, rtol=0, atol=1e-4)
    middle = np.where(case > 0, 1.5 * case.astype(float) + 15, 0)
    for one in (first, second):
        np.testing.assert_allclose(through(harmoniser, one), middle, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_one_head_at_other_gains_becomes_the_same(method):
    head = heads(1, gain=4.0)[0].clip(0, 50)
    dim, bright = head, np.where(head > 0, 4 * head + 50, 0).astype(np.uint8)
    harmoniser = fitted(method, [dim, bright])
    first, second = through(harmoniser, dim), through(harmoniser, bright)
    np.testing.assert_allclose(first[first > 0], second[second > 0], rtol=0, atol=1e-3)
    assert np.ptp(first) > np.ptp(dim)


@pytest.mark.parametrize("method", METHODS)
def test_a_cohort_of_one_kind_stays_as_it_is(method):
    rng = np.random.default_rng(1)
    cases = [np.where(rng.random((6, 64, 64)) < 0.4, 0, rng.gamma(4, 20, (6, 64, 64))).clip(0, 255) for _ in range(5)]
    cases = [case.astype(np.uint8) for case in cases]
    harmoniser = fitted(method, cases)
    assert np.mean([np.abs(through(harmoniser, case) - case).mean() for case in cases]) < 1.0


@settings(max_examples=150, deadline=None)
@given(CHANNELS, CHANNELS, st.sampled_from(METHODS), st.sampled_from([1, 3]), st.floats(0, 1))
def test_order_never_changes_whatever_the_case(training, channels, method, groups, strength):
    training[:, :groups, 0, 0], training[:, :groups, 0, 1:] = 0, np.arange(1, 5)  # they have some width
    mapped = fitted(method, training, groups, strength)(torch.tensor(channels)).numpy()
    assert np.isfinite(mapped).all() and mapped.min() >= 0 and mapped.max() <= 255
    for before, after in zip(channels, mapped, strict=True):
        for group in range(groups):
            values, result = before[group::groups], after[group::groups]
            order = np.argsort(values, axis=None, kind="stable")
            assert (np.diff(result.ravel()[order]) >= 0).all()
            _, firsts = np.unique(values, return_inverse=True)
            assert len(np.unique(np.column_stack([firsts.ravel(), result.ravel()]), axis=0)) == firsts.max() + 1
            np.testing.assert_array_equal(result[values == values.min()], values.min())


def test_no_strength_leaves_the_range_from_background_to_white():
    case = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    bright = case // 2 + np.uint8(100)
    for strength in np.random.default_rng(0).random(200):
        assert through(Harmoniser((1, 99), [[1.0, 255.0]], strength), case).max() <= 255
        assert through(Harmoniser((0, 100), [[1.0, 20.0]], strength), bright).min() == 100


@pytest.mark.parametrize("method", METHODS)
def test_each_colour_has_a_scale_of_its_own(method):
    colours = [np.concatenate([heads(3)[n] // (1 + 2 * (n == colour)) for n in range(3)]) for colour in range(3)]
    colours = [case.reshape(3, 6, 24, 24).swapaxes(0, 1).reshape(18, 24, 24) for case in colours]
    together = through(fitted(method, colours, groups=3), colours[0])
    for group in range(3):
        alone = through(fitted(method, [case[group::3] for case in colours]), colours[0][group::3])
        np.testing.assert_array_equal(together[group::3], alone)


@pytest.mark.parametrize("method", METHODS)
def test_a_case_gets_the_same_to_the_bit_in_any_batch_and_type(method):
    cases = heads()
    harmoniser = fitted(method, cases, strength=0.7)
    batch = torch.tensor(np.stack(cases))
    together = harmoniser(batch)
    assert together.dtype == torch.float32 and together.shape == batch.shape
    assert torch.equal(together, torch.cat([harmoniser(case) for case in batch.split(1)]))
    for kind in (torch.float32, torch.float64, torch.int16, torch.bfloat16):  # 8 bits hold 0 to 255
        assert torch.equal(harmoniser(batch.to(kind)), together)
    assert torch.equal(harmoniser(batch + torch.empty(batch.shape).uniform_(-0.49, 0.49)), together)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(harmoniser(batch), together)


def test_strength_zero_changes_no_bit_and_one_half_goes_half_the_way():
    cases = heads()
    channels = torch.tensor(cases[0])[None]
    fractions = channels + 0.3
    assert torch.equal(fitted("nyul", cases, strength=0.0)(fractions), fractions)
    whole, half = fitted("nyul", cases)(channels), fitted("nyul", cases, strength=0.5)(channels)
    assert (whole - channels).abs().max() > 10
    torch.testing.assert_close(half, (channels + whole) / 2, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [(0, 0), (77, 77), (255, 255), (0, 90), (40, 255)])
def test_a_case_of_one_or_two_grey_values_comes_back_as_it_is(method, values):
    channels = np.full((6, 8, 8), values[0], dtype=np.uint8)
    channels[:, 4:] = values[1]
    for strength in (0.3, 1.0):
        np.testing.assert_array_equal(through(fitted(method, heads(), strength=strength), channels), channels)


def test_landmarks_that_coincide_take_the_last_of_the_standard_ones():
    case = np.array([0, 10, 20, 20, 20, 20, 20, 20, 20, 20, 20, 30], dtype=np.uint8).reshape(1, 3, 4)
    harmoniser = Harmoniser((0, 20, 80, 100), [[5.0, 50.0, 100.0, 200.0]], 1.0)
    np.testing.assert_allclose(landmarks(case, (0, 20, 80, 100)), [[10, 20, 20, 30]])
    assert set(through(harmoniser, case).ravel()) == {0, 5, 100, 200}


def test_beyond_the_outer_landmarks_the_outer_pieces_reach_black_and_white():
    case = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    low, middle, high = landmarks(case, (10, 50, 90))[0]
    grey = np.arange(256)
    upper = 120 + 125 / (high - middle) * (grey - middle)
    lower = 20 + 100 / (middle - low) * (grey - low)
    expected = np.where(grey >= middle, upper, lower).clip(0, 255)
    for strength in (1.0, 0.5):
        mapped = through(Harmoniser((10, 50, 90), [[20.0, 120.0, 245.0]], strength), case).ravel()
        np.testing.assert_allclose(mapped, grey + strength * (expected - grey), rtol=0, atol=1e-3)
    assert expected[1] == 0 and upper[255] > 255


def test_it_is_read_from_json_and_leaves_no_trace_in_the_weights(tmp_path):
    cases = heads()
    harmoniser = fitted("histogram", cases)
    arguments = json.loads(
        json.dumps({"percentiles": PERCENTILES["histogram"], "standard": harmoniser.standard.tolist()})
    )
    assert not harmoniser.state_dict()
    again = Harmoniser(**arguments, strength=1.0)
    np.testing.assert_array_equal(through(again, cases[0]), through(harmoniser, cases[0]))
    np.save(tmp_path / "case.npy", cases[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored = landmarks(np.load(tmp_path / "case.npy", mmap_mode="r"), PERCENTILES["nyul"])
    np.testing.assert_array_equal(stored, landmarks(cases[0], PERCENTILES["nyul"]))


@pytest.mark.parametrize("method", METHODS)
def test_constant_cases_do_not_count_and_alone_give_no_standard(method):
    marks = [landmarks(case, PERCENTILES[method]) for case in heads()]
    blank = landmarks(np.full((3, 4, 4), 200, dtype=np.uint8), PERCENTILES[method])
    np.testing.assert_array_equal(standard_scale([*marks, blank], method), standard_scale(marks, method))
    for nothing in ([blank, blank], []):
        with pytest.raises(ValueError, match="width"):
            standard_scale(nothing, method)


@pytest.mark.parametrize("method", PERCENTILES)
def test_a_channel_of_masks_keeps_its_values(method):
    rng = np.random.default_rng(0)
    cases = [np.stack([rng.integers(1, 200, (8, 8)), 255 * (rng.random((8, 8)) > 0.5)]).astype(np.uint8) for _ in "abc"]
    standard = standard_scale([landmarks(case, PERCENTILES[method], groups=2) for case in cases], method)
    found = Harmoniser(PERCENTILES[method], standard.tolist())(torch.from_numpy(np.stack(cases)))
    assert np.array_equal(found[:, 1].numpy(), np.stack(cases)[:, 1])
    assert not np.array_equal(found[:, 0].numpy(), np.stack(cases)[:, 0])


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="nyul or histogram"):
        standard_scale([np.array([[0.0, 1.0]])], "combat")
    with pytest.raises(ValueError, match=r"strength is 1\.5"):
        Harmoniser((0, 100), [[0.0, 255.0]], 1.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_what_the_cpu_gives():
    harmoniser, batch = fitted("histogram", heads()), torch.tensor(np.stack(heads()))
    torch.testing.assert_close(harmoniser.cuda()(batch.cuda()).cpu(), harmoniser.cpu()(batch), rtol=0, atol=1e-4)


@pytest.mark.parametrize("set_name", ["ixi_t1_2mm", "hippocampus3d"])
@pytest.mark.parametrize("method", METHODS)
def test_real_scans_that_were_not_fitted_on_differ_half_as_much_afterwards(set_name, method):
    files = sorted(shared(set_name).glob("*.nii.gz"))[:16]
    cases = [prepared(nib.load(file).get_fdata()) for file in files]
    harmoniser = fitted(method, cases[::2])
    unseen = cases[1::2]
    before, after = spread(unseen, unseen), spread([through(harmoniser, case) for case in unseen], unseen)
    assert before > 2 * after, f"{before:.2f} became {after:.2f}"  # 2.8 to 3 times less (heads), 10 and more (crops)


def prepared(voxels):
    """Map 0 and the highest half percent to black and white, as the pipeline stores an MR scan."""
    high = np.percentile(voxels, 99.5)
    return np.moveaxis((voxels / high * 255).clip(0, 255).round().astype(np.uint8), -1, 0)


def spread(cases, as_stored):
    """Standard deviation between cases of the quartiles of their foreground, the mean of the three."""
    quartiles = [np.percentile(c[s > s.min()], (25, 50, 75)) for c, s in zip(cases, as_stored, strict=True)]
    return np.std(quartiles, axis=0).mean()
