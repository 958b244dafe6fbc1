import base64
import io

import numpy as np
import pytest
from PIL import Image

from pipeline.imaging.geometry import Geometry
from pipeline.stages.explain.thumbnails import EDGE, evenly, frames, overlaid, thumbnail


def geometry(kind="volume", slices=4, channels=3, intensity="percentile"):
    return Geometry(kind, 16, slices, channels, (1.0, 1.0, 1.0), "pad", intensity)


def test_of_an_instance_the_channel_in_its_middle_is_shown():
    channels = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 16), dtype=np.uint8)
    assert frames(channels, geometry())[:, 0, 0, 0].tolist() == [1, 4, 7, 10]
    windows = geometry(slices=2, channels=6, intensity=((0.0, 1.0), (0.0, 9.0)))
    assert frames(channels, windows)[:, 0, 0, 0].tolist() == [2, 8]  # first window of the middle slice


def test_an_image_keeps_its_colours_and_grey_stays_grey():
    channels = np.zeros((3, 16, 16), dtype=np.uint8)
    channels[0] = 200
    assert frames(channels, geometry("image", 1, 3))[0, 5, 5].tolist() == [200, 0, 0]
    assert frames(channels[:1], geometry("image", 1, 1))[0, 5, 5].tolist() == [200, 200, 200]


def test_a_map_of_zero_only_dims_the_image_and_one_makes_it_bright():
    image = np.full((1, 4, 4, 3), 200, dtype=np.uint8)
    maps = np.zeros((1, 4, 4), dtype=np.float32)
    maps[0, 2, 1] = 1
    found = overlaid(image, maps)
    assert (found[0, 0, 0] == 120).all() and found[0, 2, 1, 0] > 200 > 150 > found[0, 2, 1, 2]
    assert (found != 120).any(axis=-1).sum() == 1


def test_higher_saliency_is_brighter_on_black_and_on_white():
    maps = np.linspace(0, 1, 6, dtype=np.float32)[None, None]
    luma = overlaid(np.zeros((1, 1, 6, 3), dtype=np.uint8), maps) @ np.array([0.299, 0.587, 0.114])
    assert (np.diff(luma[0, 0]) > 5).all()
    colours = overlaid(np.full((1, 1, 6, 3), 255, dtype=np.uint8), maps)[0, 0].astype(int)
    assert (np.diff(colours[:, 0] - colours[:, 2]) > 2).all()  # ever warmer


def test_a_thumbnail_has_its_frames_side_by_side_and_is_small():
    images = np.zeros((5, 300, 300, 3), dtype=np.uint8)
    images[3] = 255
    image = Image.open(io.BytesIO(base64.b64decode(thumbnail(images))))
    assert image.format == "WEBP" and image.size == (5 * EDGE, EDGE)
    assert np.asarray(image)[:, 3 * EDGE + 4 : 4 * EDGE - 4].min() > 240
    assert not image.getexif() and "xmp" not in image.info


@pytest.mark.parametrize(("count", "most", "always"), [(5, 24, 2), (100, 24, 41), (100, 24, 0), (24, 24, 23)])
def test_instances_are_chosen_evenly_and_include_the_required_one(count, most, always):
    chosen = evenly(count, most, always)
    assert len(chosen) == min(count, most) and always in chosen and (np.diff(chosen) > 0).all()
    assert chosen[0] == 0 or always < count / most
