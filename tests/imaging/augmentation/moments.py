"""A case and the moments by which two distributions of its views are compared."""

import numpy as np


def phantom(size=96):
    """Draw two soft, different blobs from left to right, off the centre, on a grey background."""
    y, x = np.mgrid[:size, :size] / size
    long = 150 * np.exp(-(((x - 0.42) / 0.17) ** 2 + ((y - 0.5) / 0.05) ** 2))
    bright = 80 * np.exp(-(((x - 0.66) / 0.06) ** 2 + ((y - 0.5) / 0.06) ** 2))
    case = np.clip(20 + long + bright, 0, 255).round().astype(np.uint8)
    return np.repeat(case[None], 3, axis=0)


def moments(views):
    """Describe views (n, 3, H, W) by numbers each of which some change moves: (n, 9)."""
    mean = views.mean(axis=1)
    y, x = np.mgrid[-1 : 1 : 1j * views.shape[2], -1 : 1 : 1j * views.shape[3]]
    weight = np.clip(mean - np.percentile(mean, 85, axis=(1, 2), keepdims=True), 0, None) ** 2
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    at_x, at_y = (weight * x).sum((1, 2)), (weight * y).sum((1, 2))
    from_x, from_y = x - at_x[:, None, None], y - at_y[:, None, None]
    pairs = ((from_x, from_x), (from_y, from_y), (from_x, from_y))
    xx, yy, xy = ((weight * one * other).sum((1, 2)) for one, other in pairs)
    grain = np.abs(np.diff(views[:, :, 40:56, 40:56], n=2, axis=3)).mean((1, 2, 3))
    tones = [views.mean((1, 2, 3)), views.std((1, 2, 3)), np.percentile(views, 99, axis=(1, 2, 3))]
    return np.stack([*tones, at_x, at_y, xx, yy, 0.5 * np.arctan2(2 * xy, xx - yy), grain], axis=1)


def assert_same_distribution(views, expected):
    """Compare 400 views each: means within 0.25 standard deviations (3.5 standard errors), those within 25 %."""
    found, wanted = moments(views), moments(expected)
    scale = wanted.std(axis=0)
    np.testing.assert_array_less(np.abs(found.mean(axis=0) - wanted.mean(axis=0)) / scale, 0.25)
    np.testing.assert_array_less(np.abs(found.std(axis=0) / scale - 1), 0.25)
