"""Write the model card from the results of the run and the texts of card.yaml; empty texts are marked."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.metrics.wording import metric_in_words
from pipeline.printable import inert
from pipeline.stages.cohort.statements import FIELDS
from pipeline.stages.release.checklist import answers
from pipeline.stages.release.measured import PATIENTS
from pipeline.stages.release.metric_tables import metric_in

OPEN = "**Not filled in**"  # in place of an empty text of card.yaml
_SECTION = re.compile(r"^## (.+)$\n((?:(?!^## ).*\n?)*)", re.MULTILINE)
TEMPLATE = Path(__file__).with_name("card.md")
OF_A_NUMBER = Path(__file__).with_name("card_number.md")  # it replaces the blocks of the other one that need classes
OF_A_TIME = Path(__file__).with_name("card_time.md")  # it replaces those about a number
SETS = {"internal": "internal validation (out of fold)", "external": "external test set", "test": "test set"}
SHOWN = 8  # numbers of a calibrator; a card with more refers to metadata.json


def write_card(values: Mapping[str, Any]) -> str:
    """Fill the template.

    `values["statements"]` holds all of `statements.FIELDS`; the card marks those that are empty. A missing value raises
    `jinja2.UndefinedError`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - Markdown; `inert` takes HTML out of every value
        finalize=inert,
    )
    environment.filters["metric"] = show_metric
    environment.filters["calibrator"] = show_calibrator
    environment.filters["cell"] = as_cell
    environment.filters["of_row"] = metric_in
    environment.filters["set_name"] = name_of_set
    template = OF_A_TIME if values["risks"] else OF_A_NUMBER if values["intervals"] else TEMPLATE
    return environment.get_template(template.name).render(**values, **_of_people(values["statements"]))


def _of_people(statements: Mapping[str, str]) -> dict[str, Any]:
    return {"OPEN": OPEN, "fields": FIELDS, "items": answers(statements)}


def missing_sections(card: str) -> list[str]:
    """List the sections of the template that are missing or empty in a card."""
    written = dict(_SECTION.findall(card))
    return [title for title, _ in _SECTION.findall(TEMPLATE.read_text()) if not written.get(title, "").strip()]


def show_metric(metric: Mapping[str, Any] | None) -> str:
    """Write a metric with its interval."""
    return metric_in_words(metric, absent="not computable")


def name_of_set(scope: str) -> str:
    """Name an evaluated set, and what its cases are.

    >>> name_of_set("external_patients")
    'external test set, by patient'
    """
    name = SETS[scope.removesuffix(PATIENTS)]
    return f"{name}, by patient" if scope.endswith(PATIENTS) else name


def as_cell(text: Any) -> str:
    r"""Escape a text from the cohort for a cell of a Markdown table.

    >>> as_cell("a|b <i>")
    'a\\|b &lt;i>'
    """
    return " ".join(str(text).replace("|", "\\|").replace("<", "&lt;").split())


def show_calibrator(calibrator: Mapping[str, Any]) -> str:
    """Write a calibrator with its numbers, or with their count if there are many; "none" if it changes nothing.

    >>> show_calibrator({"method": "temperature", "activation": "softmax", "temperature": 1.5})
    'temperature (temperature 1.5000)'
    """
    if calibrator.get("temperature") == 1:
        return "none: no recalibration was needed"
    numbers = {name: list(_numbers_in(value)) for name, value in calibrator.items()}
    shown = (f"{name} {_show_some(some)}" for name, some in numbers.items() if some)
    return f"{calibrator['method']} ({'; '.join(shown)})"


def _show_some(numbers: list[float]) -> str:
    return ", ".join(f"{number:.4f}" for number in numbers) if len(numbers) <= SHOWN else f"of {len(numbers)} numbers"


def _numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for one in value:
            yield from _numbers_in(one)
    elif isinstance(value, int | float):
        yield value
