"""The bundle with operating limits of `predict`."""

from tests.commands.predict.conftest import limited  # noqa: F401 - a fixture
