"""Put an answer, and how the operating point did, into the words of a page."""

from collections.abc import Mapping

from pipeline.bundle.operating_point import OperatingPoint
from pipeline.commands.results import Row
from pipeline.stages.report.blocks import set_name


def measured(point: OperatingPoint | None) -> list[Row]:
    """List how the operating point did, by class and set of cases, on patients on whom it was not chosen."""
    return [
        {"of": name, "set": set_name(scope), "n": found["n"], "sensitivity": found["sensitivity"]}
        | {"specificity": found["specificity"]}
        for name, scopes in (point.evaluated if point else {}).items()
        for scope, found in scopes.items()
    ]


def ordered(probabilities: Mapping[str, float]) -> list[tuple[str, str]]:
    """List classes with their probabilities in per cent, the highest first."""
    pairs = sorted(probabilities.items(), key=lambda pair: -pair[1])
    return [(name, in_percent(value)) for name, value in pairs]


def in_percent(value: float) -> str:
    """Write a probability in whole per cent; the ends are never claimed.

    >>> in_percent(0.873), in_percent(0.9999), in_percent(0.0001)
    ('87%', 'over 99%', 'below 1%')
    """
    if value > 0.99:
        return "over 99%"
    return "below 1%" if value < 0.01 else f"{100 * value:.0f}%"
