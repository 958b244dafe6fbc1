"""A metric is never shown without its interval."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipeline.metrics.wording import TOO_FEW, interval_in_words, is_unstable, metric_in_words

ENDS = ("value", "lower", "upper")


def metric_of(row: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Rebuild a metric with its interval from three columns of a table; None where it is empty."""
    found = {key: _number(row[column]) for key, column in _columns(name)}
    return None if found["value"] is None and not is_unstable(found) else found


def show_interval(metric: Mapping[str, Any] | None, digits: int = 2, same: str = TOO_FEW) -> Markup:
    """Write a metric and, in small print, its interval, as `estimate` does; one without a finite value is unstable."""
    if metric and is_unstable(metric):
        return Markup('<span class="none">{}</span>').format(metric_in_words(metric, style=f"z.{digits}f"))
    value, lower, upper = (metric[end] for end in ENDS) if metric else (None, None, None)
    return estimate(value, lower, upper, style=f"z.{digits}f", same=same)


def estimate(
    value: float | None, lower: float | None, upper: float | None, *, style: str = ".2f", same: str = TOO_FEW
) -> Markup:
    """Write an estimate and, in small print, its interval; the one place where the page does.

    Parameters
    ----------
    value, lower, upper : float or None
        A value of None could not be computed; a limit of None is open, both mean that there is no interval.
    style : str
        As `format` takes it.
    same : str
        What is said in place of an interval without width.
    """
    if value is None:
        return Markup('<span class="none">not computable</span>')
    limits = interval_in_words(lower, upper, style=style, same=same)
    mark = ' class="few"' if limits == same else ""
    return Markup(f"{{}} <small{mark}>({{}})</small>" if limits else "{}").format(f"{value:{style}}", limits)


def show_number(value: float | None, digits: int = 3) -> Markup:
    """Write a number that has no interval."""
    return estimate(value, None, None, style=f"z.{digits}f")


def _columns(name: str) -> list[tuple[str, str]]:
    return list(zip(ENDS, (name, f"{name}_lower", f"{name}_upper"), strict=True))


def _number(value: float | None) -> float | None:
    return None if value is None or value != value else value  # NaN is the one number that is not itself
