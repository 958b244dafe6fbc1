import base64
import io

import numpy as np
from PIL import Image

from pipeline.imaging.preparation.fingerprint import perceptual_hash, thumbnail, voxel_hash

RNG = np.random.default_rng(0)
SMOOTH = np.asarray(
    Image.fromarray(RNG.integers(0, 255, (9, 9), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
)[None]


def distance(a, b):
    return bin(int(a, 16) ^ int(b, 16)).count("1")


def test_one_grey_value_changes_the_exact_hash():
    other = SMOOTH.copy()
    other[0, 0, 0] ^= 1
    assert voxel_hash(SMOOTH) != voxel_hash(other)
    assert voxel_hash(SMOOTH) == voxel_hash(SMOOTH.copy())


def test_the_shape_is_part_of_the_exact_hash():
    assert voxel_hash(SMOOTH) != voxel_hash(SMOOTH.reshape(1, 32, 128))


def test_noise_hardly_changes_the_perceptual_hash_and_another_image_does():
    noisy = (SMOOTH.astype(float) + RNG.normal(0, 4, SMOOTH.shape)).clip(0, 255).astype(np.uint8)
    assert distance(perceptual_hash(SMOOTH), perceptual_hash(noisy)) <= 6
    assert distance(perceptual_hash(SMOOTH), perceptual_hash(SMOOTH[:, ::-1])) > 15


def test_a_thumbnail_is_a_small_image_of_the_middle_channel():
    stack = np.stack(
        [np.zeros((200, 100), np.uint8)] * 2
        + [np.full((200, 100), 90, np.uint8)]
        + [np.zeros((200, 100), np.uint8)] * 2
    )
    image = Image.open(io.BytesIO(base64.b64decode(thumbnail(stack))))
    assert image.size == (48, 96) and set(np.asarray(image).ravel()) == {90}
