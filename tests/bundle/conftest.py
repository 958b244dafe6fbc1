"""A bundle to be changed."""

import pytest

from tests.bundle.bundles import written


@pytest.fixture
def bundle(tmp_path):
    return written(tmp_path / "model")
