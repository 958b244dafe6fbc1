"""What only a person can say of a model: the fields of card.yaml, in the order of the card."""

from pathlib import Path
from typing import Any

import yaml

FIELDS = {
    "intended_use": "For which patients, on which scans, by whom, and for which decision",
    "out_of_scope": "For whom or what it must not be used",
    "background": "What is done today, known inequalities in care, and why a model",
    "contact": "Who answers questions and takes reports of errors",
    "data_sources": "Hospitals, dates, scanners and protocols; who was eligible, and who was left out",
    "reference_standard": "Who set the labels, how, with what experience and agreement",
    "deidentification": "How, and by whom, images were freed of what names a patient",
    "data_licence": "Under which terms the images may be used",
    "model_licence": "Under which licence this model is handed over",
    "ethics": "Approval, committee, number, consent",
    "funding": "Who paid, and who might gain",
    "protocol": "Protocol and registration, or that there is none",
    "patient_involvement": "How patients or the public took part",
    "limitations": "What is known to go wrong, on whom, and what was not tried",
    "oversight": "What a user must know and check, and what to do with scans that are refused",
}


class BadStatements(ValueError):
    """A card.yaml that is not understood; the message says what is wrong."""


def read_statements(file: Path) -> dict[str, str]:
    """Read card.yaml; a field that is absent, like a file that is, says nothing.

    Returns
    -------
    dict
        All of `FIELDS`, each with its text or "".

    Raises
    ------
    BadStatements
        If the file is no mapping, or holds an unknown field or something other than text.
    """
    try:
        given: Any = (yaml.safe_load(file.read_text(encoding="utf-8")) if file.exists() else None) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadStatements(f"{file} is not valid YAML: {error}") from error
    if not isinstance(given, dict):
        raise BadStatements(f"{file} is not a list of fields and texts")
    for field, text in given.items():
        if field not in FIELDS:
            raise BadStatements(f"{file}: unknown field '{field}'; the known ones are {', '.join(FIELDS)}")
        if not isinstance(text, str | None):
            raise BadStatements(f"{file}: {field} is not a text; put it in quotes")
    return {field: (given.get(field) or "").strip() for field in FIELDS}
