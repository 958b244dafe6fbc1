"""A bundle with operating limits."""

import pytest
import torch

from pipeline.imaging.geometry import Geometry
from tests.bundle.bundles import written
from tests.commands.predict.limits import with_limits


@pytest.fixture(scope="session")
def limited(tmp_path_factory):
    """The bundle, the folder of its development scans, and its limits; nobody changes them."""
    torch.manual_seed(0)
    folder = written(tmp_path_factory.mktemp("predict") / "model")
    return folder, *with_limits(folder)


@pytest.fixture
def image_model(tmp_path):
    """A bundle of a model of grey images."""
    geometry = Geometry("image", 32, 1, 3, None, "pad", "percentile")
    return written(tmp_path / "images", geometry=geometry)
