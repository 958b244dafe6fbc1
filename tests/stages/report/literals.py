"""The values that a type allows."""

from typing import get_args


def values_of(kind):
    """Collect the values of a Literal, or of a union of them."""
    parts = get_args(kind)
    return set().union(*map(values_of, parts)) if parts else {kind}
