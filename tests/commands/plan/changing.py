"""The project's parameters with some values changed."""

from pipeline import params
from tests.conftest import ROOT


def changed(**sections):
    """Take params.yaml with some values of some sections changed."""
    known = params.load(ROOT / "params.yaml")
    update = {name: getattr(known, name).model_copy(update=values) for name, values in sections.items()}
    return known.model_copy(update=update)
