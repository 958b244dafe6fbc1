"""Tables of the assessment, taken apart by what is asked and by whether patients or images are evaluated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

Row = Mapping[str, Any]

PATIENTS = "_patients"
TOP_LABEL = "top label"
SETS = {"internal": "internal validation", "external": "external validation", "test": "test set"}
COLOURS = {"internal": 1, "external": 2, "test": 2}


@dataclass(frozen=True)
class Block:
    """The rows that answer one question, of patients or of images, sets of cases side by side.

    Attributes
    ----------
    heading : str
        What sets it apart from the other blocks; empty for the first one.
    question : str
        The class or label, or "top label"; empty where the table asks none.
    rows : list of mapping
    """

    heading: str
    question: str
    rows: list[Row]

    @property
    def sets(self) -> dict[str, list[Row]]:
        """Give the rows of each set of cases by its scope."""
        return {scope: list(rows) for scope, rows in groupby(self.rows, key=lambda row: row["scope"])}


def blocks(table: Sequence[Row], by: str = "of") -> list[Block]:
    """Take a table apart, what is to be read first in front: patients before images, the top label before classes.

    Parameters
    ----------
    table : sequence of mapping
        Rows of `scope` and, where there are several questions, of the column `by`; those of a scope stand together.
    by : str
        The column that names the question.

    Returns
    -------
    list of Block
        Empty where the table has no row.
    """
    scopes = {row["scope"] for row in table}
    questions = sorted(dict.fromkeys(question_of(row, by) for row in table), key=lambda name: name != TOP_LABEL)
    found = []
    for question in questions:
        for beside in (False, True):
            rows = [row for row in table if question_of(row, by) == question and is_beside(row, scopes) == beside]
            said = [*([question] if len(questions) > 1 else []), *(["image by image"] if beside else [])]
            found += [Block(", ".join(said), question, rows)] if rows else []
    return found


def question_of(row: Row, by: str = "of") -> str:
    """Name what a row asks; empty where the table has one question for all."""
    return str(row.get(by) or "")


def is_beside(row: Row, scopes: Iterable[str]) -> bool:
    """Tell whether the images of a row are evaluated beside their patients, who come first."""
    return f"{row['scope']}{PATIENTS}" in scopes


def set_name(scope: str) -> str:
    """Name a set of cases as the field does, be it of patients or of images ("internal_patients")."""
    return SETS[scope.removesuffix(PATIENTS)]


def colour_of(scope: str) -> int:
    """Give the number of the colour in which a set of cases is drawn."""
    return COLOURS[scope.removesuffix(PATIENTS)]
