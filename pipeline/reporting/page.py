"""One self-contained page: the template, its style and its plots in a single file that opens without a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

HERE = Path(__file__).parent


def write_page(values: Mapping[str, Any]) -> str:
    """Fill page.html; text from the cohort is escaped, a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["interval"] = show_interval
    style = Markup((HERE / "page.css").read_text())  # our own file
    return environment.get_template("page.html").render(style=style, **values)


def show_interval(figure: Mapping[str, Any] | None, digits: int = 2) -> Markup:
    """Write a figure and, in small print, its interval."""
    if figure is None or figure["value"] is None:
        return Markup('<span class="none">not computable</span>')
    shown = f"{figure['value']:.{digits}f}"
    if figure["lower"] is None:
        return Markup(shown)
    return Markup(f"{shown} <small>({figure['lower']:.{digits}f} to {figure['upper']:.{digits}f})</small>")
