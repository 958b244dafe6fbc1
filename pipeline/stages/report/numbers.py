"""A metric is never shown without its interval."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup


def metric_of(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Rebuild a metric with its interval from three columns of a table; None where it is empty."""
    found = {key: _number(row[column]) for key, column in _columns(name)}
    return None if found["value"] is None else found


def show_interval(metric: Mapping[str, Any] | None, digits: int = 2) -> Markup:
    """Write a metric and, in small print, its interval."""
    if metric is None or metric["value"] is None:
        return Markup('<span class="none">not computable</span>')
    shown = f"{metric['value']:z.{digits}f}"
    if metric["lower"] is None:
        return Markup(shown)
    return Markup(f"{shown} <small>({metric['lower']:z.{digits}f} to {metric['upper']:z.{digits}f})</small>")


def show_number(value: float | None, digits: int = 3) -> Markup:
    """Write a number that has no interval."""
    return show_interval({"value": value, "lower": None, "upper": None}, digits)


def _columns(name: str) -> list[tuple[str, str]]:
    return [("value", name), ("lower", f"{name}_lower"), ("upper", f"{name}_upper")]


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value  # NaN is the one number that is not itself
