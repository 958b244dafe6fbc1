"""A bundle with operating limits."""

import pytest
import torch

from tests.bundle.bundles import written
from tests.commands.predict.limits import with_limits


@pytest.fixture(scope="session")
def limited(tmp_path_factory):
    """The bundle, the folder of its development scans, and its limits; nobody changes them."""
    torch.manual_seed(0)
    folder = written(tmp_path_factory.mktemp("predict") / "model")
    return folder, *with_limits(folder)
