"""Read card.yaml, the texts of the model card that only people can write."""

import textwrap
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.paths import CARD_FILE, DEMO
from pipeline.yaml_files import read_yaml

HEADING = (
    "Texts of the model card that only people can write. The card marks empty fields. Those that `release.gates.card` "
    "names must be filled in before a model is called validated. Write plain sentences, and nothing that identifies a "
    "patient: the texts are released with the model."
)
FIELDS = {
    "intended_use": "For which patients, scans, users and decisions the model is meant",
    "out_of_scope": "For which patients, scans or decisions it must not be used",
    "background": "Current practice, known inequalities in care, and the reason for a model",
    "contact": "Who answers questions and receives reports of errors",
    "data_sources": "Hospitals, dates, scanners and protocols; eligibility and exclusions",
    "reference_standard": "Who set the labels, how, with which experience and agreement",
    "deidentification": "How, and by whom, images were de-identified",
    "data_licence": "Terms under which the images may be used",
    "model_licence": "Licence under which this model is released",
    "ethics": "Ethics approval: committee, number, consent",
    "funding": "Funding and conflicts of interest",
    "protocol": "Protocol and registration, or a statement that there is none",
    "patient_involvement": "How patients or the public were involved",
    "limitations": "Known failures, the patients concerned, and what was not tested",
    "oversight": "What users must know and check, and what to do with refused scans",
}


class BadStatements(ValueError):
    """A card.yaml that cannot be used; the message says why."""


def read_statements(file: Path) -> dict[str, str]:
    """Read card.yaml; a missing field or file gives empty texts.

    Returns
    -------
    dict
        All of `FIELDS`, each with its text or "".

    Raises
    ------
    BadStatements
        If the file is not a mapping, or has an unknown field or a value that is not text.
    """
    try:
        given: Any = (read_yaml(file) if file.exists() else None) or {}
    except UserError as error:
        raise BadStatements(str(error)) from error
    if not isinstance(given, dict):
        raise BadStatements(f"{file} is not a mapping of fields to texts; see data/demo/card.yaml")
    for field, text in given.items():
        if field not in FIELDS:
            raise BadStatements(f"{file}: unknown field '{field}'; the known ones are {', '.join(FIELDS)}")
        if not isinstance(text, str | None):
            raise BadStatements(f"{file}: {field} is not text; put it in quotes")
    return {field: (given.get(field) or "").strip() for field in FIELDS}


def problems_of_card(folder: Path) -> list[str]:
    """List the reasons to refuse the card.yaml of a cohort."""
    try:
        statements = read_statements(folder / CARD_FILE)
        of_demo = {} if folder.resolve() == DEMO.resolve() else read_statements(DEMO / CARD_FILE)
    except BadStatements as error:
        return [str(error)]
    copied = [field for field, text in statements.items() if text and text == of_demo.get(field)]
    cure = "is the text of the demo; write your own, or leave it empty"
    return [f"{folder / CARD_FILE}: {field} {cure}" for field in copied]


def template() -> str:
    """Compose a card.yaml without texts, with the meaning of each field as a comment."""
    comments = textwrap.wrap(HEADING, 120, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
    return "\n".join([*comments, "", *(f"# {meaning}.\n{field}:" for field, meaning in FIELDS.items())]) + "\n"
