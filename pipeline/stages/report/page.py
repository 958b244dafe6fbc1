"""One self-contained page: the template, its style and its plots in a single file that opens without a network."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.stages.report.blocks import set_name
from pipeline.stages.report.glossary import OF_ADAPTATION, OF_ASSESSMENT, OF_RECIPES, explain, explain_column
from pipeline.stages.report.numbers import metric_of, show_interval, show_number

HERE = Path(__file__).parent
OUR_FILES = ("page.css", "images.css", "page.js", "slices.js")


def templates(*folders: Path) -> Environment:
    """Find the templates of our pages, in `folders` first; what enters them is escaped, a missing value is an error."""
    found = Environment(
        loader=FileSystemLoader([*folders, HERE]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"interval": show_interval, "number": show_number, "term": explain, "explained": explain_column}
    found.filters |= {"metric": metric_of, "set_name": set_name}
    return found


def write_page(values: Mapping[str, Any]) -> str:
    """Fill page.html; text from the cohort is escaped, a missing value is an error."""
    style, images_style, script, slices = (Markup((HERE / name).read_text()) for name in OUR_FILES)
    styles = {"style": style, "images_style": images_style}
    scripts = {"script": script, "slices": slices}
    digests = {f"{name}_digest": digest_of(text) for name, text in scripts.items()}
    terms = {"terms": OF_ADAPTATION, "terms_of_recipes": OF_RECIPES, "terms_of_assessment": OF_ASSESSMENT}
    return templates().get_template("page.html").render(**styles, **scripts, **digests, **terms, **values)


def digest_of(script: str) -> str:
    """Name a script by its hash, as a Content-Security-Policy does: no other one may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
