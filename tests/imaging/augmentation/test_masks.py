"""A mask that is a channel moves with its image and stays 0 or 255."""

import numpy as np
import pytest
import torch

from pipeline.imaging.augmentation.batched import batched_views, contrastive_pair
from pipeline.imaging.augmentation.per_case import adaptation_view, training_view
from pipeline.imaging.augmentation.strengths import STRONG, TRAINING

LAYOUTS = {"volume": ("volume", 3, 12), "image": ("image", 2, 2), "colour": ("image", 4, 4)}  # kind, every, channels


def marked(name, size=48):
    """A case whose images show its mask in grey: 200 inside, 0 outside."""
    _, every, count = LAYOUTS[name]
    rows, columns = np.mgrid[:size, :size]
    masks = np.stack([np.hypot(rows - 20 - slab, columns - 15) < 9 for slab in range(count // every)])
    channels = np.repeat(masks[:, None], every, axis=1).astype(np.uint8) * 200
    channels[:, -1] = masks * 255
    return channels.reshape(count, size, size)


def views_of(name, draw):
    kind, every, _ = LAYOUTS[name]
    channels, windows = marked(name), every if kind == "volume" else 2
    one, seeds = torch.from_numpy(channels[None]), range(8)
    if draw in ("mild", "strong"):
        table = {"mild": TRAINING, "strong": STRONG}[draw][kind]
        return [batched_views(one, [seed], table, windows, mask_every=every)[0].numpy() for seed in seeds]
    if draw == "contrastive":
        return [contrastive_pair(channels, seed, kind, windows, mask_every=every)[0] for seed in seeds]
    if draw == "adaptation":
        return [adaptation_view(channels, seed, mask_every=every) for seed in seeds]
    return [training_view(channels, seed, kind, windows, mask_every=every) for seed in seeds]


DRAWS = ("mild", "strong", "contrastive", "adaptation", "one by one")


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mask_stays_a_mask_in_every_view(name, draw):
    every = LAYOUTS[name][1]
    for view in views_of(name, draw):
        masks = view.reshape(-1, every, *view.shape[1:])[:, -1]
        assert set(np.unique(masks)) == {0, 255}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mask_moves_with_its_image(name, draw):
    every = LAYOUTS[name][1]
    for view in views_of(name, draw):
        slabs = view.reshape(-1, every, *view.shape[1:])
        for slab in slabs.astype(float):
            inside = slab[-1] > 0
            row, column = (places.mean() for places in np.nonzero(inside))
            weights = slab[0] > (np.median(slab[0]) + np.quantile(slab[0], 0.99)) / 2
            rows, columns = np.mgrid[: slab.shape[1], : slab.shape[2]]
            assert abs((weights * rows).sum() / weights.sum() - row) < 2
            assert abs((weights * columns).sum() / weights.sum() - column) < 2


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_mask_changes_no_bit_of_its_image(name):
    kind, every, count = LAYOUTS[name]
    channels, windows = marked(name), every if kind == "volume" else 2
    images = np.arange(1, count + 1) % every != 0
    for seed in range(4):
        alone = training_view(channels[images], seed, kind, windows - 1)
        np.testing.assert_array_equal(training_view(channels, seed, kind, windows, mask_every=every)[images], alone)
