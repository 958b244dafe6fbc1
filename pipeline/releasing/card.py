"""The model card, filled in by the run; what only a person can say is visibly left open."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATE = Path(__file__).with_name("card.md")


def write_card(values: Mapping[str, Any]) -> str:
    """Fill the template; a value that is missing is an error, never an empty line."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - a text file, read as text
    )
    environment.filters["figure"] = show_figure
    return environment.get_template(TEMPLATE.name).render(**values)


def show_figure(figure: Mapping[str, Any] | None) -> str:
    """Write a figure with its interval."""
    if figure is None or figure["value"] is None:
        return "not computable"
    if figure["lower"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['lower']:.3f} to {figure['upper']:.3f})"
