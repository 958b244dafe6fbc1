"""One self-contained page: the template, its style and its plots in a single file that opens without a network."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.metrics.wording import ALIKE
from pipeline.stages.report.blocks import set_name
from pipeline.stages.report.glossary import explain, glossary, link, link_column
from pipeline.stages.report.numbers import metric_of, show_interval, show_number
from pipeline.stages.report.places import OF_GATES
from pipeline.stages.report.regression import estimate_of

HERE = Path(__file__).parent
STYLES = ("page.css", "layout.css", "images.css")
NUMBER_PAGE = "number_page.html"  # it replaces the blocks of page.html that are about classes
TIME_PAGE = "time_page.html"  # it replaces those of number_page.html that are about a number
SCRIPTS = ("contents.js", "tables.js", "slider.js", "slices.js")


def templates(*folders: Path) -> Environment:
    """Find the templates of our pages, in `folders` first; what enters them is escaped, a missing value is an error."""
    found = Environment(
        loader=FileSystemLoader([*folders, HERE]),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"interval": show_interval, "number": show_number, "term": explain}
    found.globals |= {"alike": ALIKE, "places": OF_GATES}
    found.filters |= {"metric": metric_of, "set_name": set_name}
    return found


def write_page(values: Mapping[str, Any], template: str = "page.html") -> str:
    """Fill page.html, or the page of a regression; text from the cohort is escaped, a missing value is an error."""
    styles, scripts = ([Markup((HERE / name).read_text()) for name in names] for names in (STYLES, SCRIPTS))
    environment = templates()
    environment.filters |= {"term": link, "explained": link_column, "estimate_of": estimate_of}
    ours = {"styles": styles, "scripts": scripts, "digests": [digest_of(text) for text in scripts]}
    return environment.get_template(template).render(**ours, glossary=glossary(), **values)


def digest_of(script: str) -> str:
    """Name a script by its hash, as a Content-Security-Policy does: no other one may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
