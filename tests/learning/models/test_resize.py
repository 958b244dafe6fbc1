"""Images are shrunk as torch and Pillow shrink them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate

from pipeline.learning.models.resize import shrunk


@pytest.mark.parametrize("side", [32, 40, 57, 63])
def test_shrinking_is_torchs_antialiased_interpolation(side):
    images = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(0)) * 255
    expected = interpolate(images, size=(side, side), mode="bilinear", antialias=True)
    torch.testing.assert_close(shrunk(images, side), expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("side", [None, 64, 100])
def test_images_are_never_enlarged(side):
    images = torch.rand(1, 1, 64, 64)
    assert shrunk(images, side) is images


def test_only_the_longer_side_is_shrunk_where_the_other_is_short():
    assert shrunk(torch.rand(1, 1, 20, 64), 32).shape == (1, 1, 20, 32)


def test_an_export_leaves_the_network_as_it_is():
    with FakeTensorMode():  # of torch.export
        shrunk(torch.rand(1, 1, 61, 61), 23)
    assert type(shrunk(torch.rand(1, 1, 61, 61), 23)) is torch.Tensor
