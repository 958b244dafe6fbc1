"""A figure is never shown without its interval."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup


def figure_of(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Rebuild a figure with its interval from three columns of a table; None where it is empty."""
    found = {key: _number(row[column]) for key, column in _columns(name)}
    return None if found["value"] is None else found


def show_interval(figure: Mapping[str, Any] | None, digits: int = 2) -> Markup:
    """Write a figure and, in small print, its interval."""
    if figure is None or figure["value"] is None:
        return Markup('<span class="none">not computable</span>')
    shown = f"{figure['value']:z.{digits}f}"
    if figure["lower"] is None:
        return Markup(shown)
    return Markup(f"{shown} <small>({figure['lower']:z.{digits}f} to {figure['upper']:z.{digits}f})</small>")


def show_number(value: float | None, digits: int = 3) -> Markup:
    """Write a number that has no interval."""
    return show_interval({"value": value, "lower": None, "upper": None}, digits)


def _columns(name: str) -> list[tuple[str, str]]:
    return [("value", name), ("lower", f"{name}_lower"), ("upper", f"{name}_upper")]


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value  # NaN is the one number that is not itself
