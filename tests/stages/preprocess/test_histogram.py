import numpy as np
import pytest

from pipeline.stages.preprocess.histogram import BINS, WHOLE, Histogram, histogram_of, summed


def counted(histogram, values):
    """Count again by numpy, what lies outside at the ends."""
    low, high = histogram.edges
    width = (high - low) / len(histogram.counts)
    inside = np.clip(values, low, high - width / 2)
    return np.histogram(inside, bins=len(histogram.counts), range=(low, high))[0].tolist()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 700.0])
@pytest.mark.parametrize("shift", [-3.0, 0.0, 50.0])
def test_values_are_counted_in_their_bins_and_outside_at_the_ends(scale, shift):
    values = scale * (np.random.default_rng(0).normal(size=(30, 40, 5)) + shift)
    found = histogram_of(values)
    assert sum(found.counts) == values.size and BINS / 2 - 1 <= len(found.counts) <= BINS
    assert list(found.counts) == counted(found, values.ravel())


def test_whole_numbers_and_one_single_value_have_a_histogram():
    assert histogram_of(np.full((4, 4), 7, dtype=np.int16)) == Histogram(0, 7, (16,))
    bytes_ = np.arange(256, dtype=np.uint8)
    found = histogram_of(bytes_)
    assert found.edges == (0.0, 256.0) and set(found.counts) == {4}


def test_outliers_take_no_bins_unless_the_whole_range_is_asked_for():
    values = np.append(np.random.default_rng(0).uniform(0, 100, 5000), 1e6)
    assert histogram_of(values).edges[1] < 110 and histogram_of(values).counts[-1] > 1
    whole = histogram_of(values, WHOLE)
    assert whole.edges[1] > 1e6 and whole.counts[0] == 5000 and whole.counts[-1] == 1


def test_a_sum_is_the_histogram_of_all_values_together():
    rng = np.random.default_rng(1)
    parts = [rng.normal(40, 9, 5000), rng.normal(-300, 80, 5000), rng.normal(2, 0.1, 5000)]
    total = summed([histogram_of(part) for part in parts])
    assert sum(total.counts) == 15000 and len(total.counts) <= BINS
    width = 2.0**total.exponent
    for part in parts:  # what is clipped is a hundredth at most
        own = summed([histogram_of(part)])
        assert own.exponent <= total.exponent
    below = sum(count for place, count in enumerate(total.counts) if (total.first + place + 1) * width <= 0)
    assert below == pytest.approx(5000, abs=5)


def test_a_sum_does_not_depend_on_the_order_and_of_one_it_is_itself():
    parts = [histogram_of(np.random.default_rng(seed).gamma(2, 10.0**seed, 999)) for seed in range(4)]
    assert summed(parts) == summed(parts[::-1])
    assert summed(parts[:1]) == parts[0]
