import numpy as np
import pytest
import torch
from torchio.transforms.preprocessing.intensity.histogram_standardization import (
    _get_average_mapping,
    _get_percentiles,
    _normalize,
)

from pipeline.imaging.nyul import landmarks, standard_scale, to_standard_scale


def scans(count=4):
    rng = np.random.default_rng(0)
    return [rng.gamma(2 + n, 20 * (n + 1), (12, 12, 12)).astype(np.float32) for n in range(count)]


def test_the_mapping_is_torchios():
    volumes = scans()
    theirs = [np.percentile(volume[volume > volume.min()], _get_percentiles((1.0, 99.0))) for volume in volumes]
    used = [0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12]
    average = _get_average_mapping(np.array(theirs))
    standard = standard_scale([landmarks(volume) for volume in volumes])
    np.testing.assert_allclose(standard, average[used], atol=1e-6)
    volume = volumes[2]
    mapped = to_standard_scale(volume, landmarks(volume), standard)
    oracle = _normalize(torch.from_numpy(volume), average, volume > volume.min(), (0.01, 0.99)).numpy()
    np.testing.assert_allclose(mapped, oracle, atol=1e-3)


def test_scans_of_one_head_at_other_gains_become_the_same():
    head = scans(1)[0]
    standard = standard_scale([landmarks(head)])
    first, second = (to_standard_scale(gain * head + 7, landmarks(gain * head + 7), standard) for gain in (1, 35))
    np.testing.assert_allclose(first, second, atol=1e-2)
    assert np.percentile(first[head > head.min()], 99) == pytest.approx(100, abs=1e-3)


def test_landmarks_that_coincide_do_no_harm():
    flat = np.zeros((10, 10, 10), dtype=np.float32)
    flat[:5] = 8
    flat[0, 0, :3] = 1, 2, 3
    mapped = to_standard_scale(flat, landmarks(flat), standard_scale([landmarks(scan) for scan in scans()]))
    assert np.isfinite(mapped).all()


def test_no_histogram_with_any_width_is_refused():
    with pytest.raises(ValueError, match="width"):
        standard_scale([landmarks(np.full((3, 3, 3), 5.0))])
