"""Clinical columns as a model takes them: their types, and the numbers that the training cases give their values.

Every value is a text, as tables hold it; an empty text is a missing value, which is never the number 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Kind = Literal["numeric", "ordered", "categorical"]

MISSING = "it is missing, and none of the development cases lacked it; fill it in"
DECIMAL = "write a number such as 0.5, or leave it empty if it is missing"


@dataclass(frozen=True)
class InputColumn:
    """The declared or found type of a column.

    Attributes
    ----------
    name : str
    kind : {"numeric", "ordered", "categorical"}
    categories : tuple of str
        From the lowest upwards if ordered; none for numbers.
    unit : str
        Unit of length of a feature that is measured in masks of images, "mm" or "pixels"; empty for others.
    """

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()
    unit: str = ""

    def flaw_of(self, text: str, shown: str = "") -> str:
        """Say why a text is no value of this column, and what to do; "" if it is one, or is missing.

        `shown` stands in for the text in the sentence, where the text must not be told.

        >>> InputColumn("age", "numeric").flaw_of("old")
        "'old' is no number; write a number such as 0.5, or leave it empty if it is missing"
        """
        shown = shown or f"'{text}'"
        if text == "":
            return ""
        if self.kind == "numeric":
            number = _number(text)
            if number is None:
                return f"{shown} is no number; {DECIMAL}"
            return "" if np.isfinite(number) else f"{shown} is not finite; {DECIMAL}"
        if plain(text) in self.categories:
            return ""
        return (
            f"{shown} is none of {', '.join(self.categories)}; write one of these, or leave it empty if it is missing"
        )

    def numbers(self, texts: Sequence[str]) -> Floats:
        """Turn texts (n,) into numbers (n,), of categories their places from 0; NaN for what is missing or unknown."""
        if self.kind == "numeric":
            found = (_number(text) for text in texts)
            return np.array([np.nan if one is None or not np.isfinite(one) else one for one in found], dtype=np.float64)
        place = {category: float(number) for number, category in enumerate(self.categories)}
        return np.array([place.get(plain(text), np.nan) for text in texts], dtype=np.float64)

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        known = {"name": self.name, "kind": self.kind, "categories": list(self.categories)}
        return known | ({"unit": self.unit} if self.unit else {})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "InputColumn":
        """Read the values that `as_json` wrote; raise ValueError, KeyError or TypeError if they are something else."""
        if values["kind"] not in get_args(Kind):
            raise ValueError(f"columns: there is no kind {values['kind']!r}")
        categories = tuple(str(one) for one in values["categories"])
        return cls(str(values["name"]), values["kind"], categories, str(values.get("unit", "")))


@dataclass(frozen=True)
class FittedColumn:
    """A column with what the training cases say about it.

    Attributes
    ----------
    column : InputColumn
        Of a categorical one, `categories` are those of the training cases.
    fill : float
        Median of the training cases, which stands in for a missing number or place.
    limits : tuple of float
        Least and greatest number of the training cases; values beyond count as these.
    missing, cases : int
        Training cases without a value, and all of them.
    """

    column: InputColumn
    fill: float
    limits: tuple[float, float]
    missing: int
    cases: int

    @property
    def accepted(self) -> tuple[float, float]:
        """The numbers that a new case may have: up to a width beyond the limits, and not negative if none was."""
        low, high = self.limits
        width = (high - low) or max(abs(low), 1.0)
        return (max(low - width, 0.0) if low >= 0 else low - width, high + width)

    @property
    def features(self) -> list[str]:
        """The names of the features."""
        name, kind = self.column.name, self.column.kind
        own = [f"{name} = {one}" for one in self.column.categories] if kind == "categorical" else [name]
        return own + [f"{name} is missing"] * (self.missing > 0)

    @property
    def on_a_scale(self) -> list[bool]:
        """Of each feature, whether it is a number or a place rather than 0 or 1."""
        return [self.column.kind != "categorical" and number == 0 for number in range(len(self.features))]

    def encode(self, texts: Sequence[str]) -> Floats:
        """Turn texts (n,) into features (n, p).

        A missing number is the median; a category that no training case had is none of the categories. Where training
        cases lacked a value, the last feature is 1 for a missing one.
        """
        numbers = self.column.numbers(texts)
        if self.column.kind == "categorical":
            own = (numbers[:, None] == np.arange(len(self.column.categories))).astype(np.float64)
        else:
            own = np.where(np.isnan(numbers), self.fill, np.clip(numbers, *self.limits)).reshape(-1, 1)
        if not self.missing:
            return np.asarray(own)
        empty = np.array([text == "" for text in texts], dtype=np.float64)
        return np.asarray(np.hstack([own, empty[:, None]]))

    def flaw_of(self, text: str) -> str:
        """Say why a new case cannot have this value, and what to do; "" if it can."""
        if text == "":
            return "" if self.missing else MISSING
        if flaw := self.column.flaw_of(text):
            return flaw
        low, high = self.accepted
        if self.column.kind == "numeric" and not low <= float(text) <= high:
            least, most = self.limits
            return (
                f"'{text}' is too far from the development cases, which have {least:g} to {most:g}; check the number "
                f"and its unit ({low:g} to {high:g} is accepted)"
            )
        return ""

    @property
    def typical(self) -> str:
        """The text of a typical case: the median, or the first category."""
        if self.column.kind == "numeric":
            return repr(self.fill)
        return self.column.categories[int(self.fill)]

    def as_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        known = {"fill": self.fill, "limits": list(self.limits), "accepted": list(self.accepted)}
        return self.column.as_json() | known | {"missing": self.missing, "cases": self.cases}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "FittedColumn":
        """Read the values that `as_json` wrote; raise ValueError, KeyError or TypeError if they are something else."""
        low, high = map(float, values["limits"])
        missing, cases = int(values["missing"]), int(values["cases"])
        found = cls(InputColumn.from_json(values), float(values["fill"]), (low, high), missing=missing, cases=cases)
        places = found.column.kind == "numeric" or 0 <= found.fill < len(found.column.categories)
        if not np.isfinite([found.fill, low, high]).all() or low > high or not places:
            raise ValueError(f"columns: {found.column.name} has a number that is not finite or does not fit")
        return found


def fit_column(column: InputColumn, texts: Sequence[str]) -> FittedColumn:
    """Take from the texts (n,) of training cases what a model needs to know of a column."""
    missing, numbers = sum(text == "" for text in texts), column.numbers(texts)
    if column.kind == "categorical":
        there = {int(number) for number in numbers[np.isfinite(numbers)]}
        seen = tuple(one for number, one in enumerate(column.categories) if number in there) or column.categories[:1]
        common = int(np.bincount(numbers[np.isfinite(numbers)].astype(int)).argmax()) if there else 0
        fill = float(seen.index(column.categories[common])) if there else 0.0
        known = InputColumn(column.name, column.kind, seen)
        return FittedColumn(known, fill, (0.0, float(len(seen) - 1)), missing=missing, cases=len(texts))
    given = numbers[np.isfinite(numbers)] if np.isfinite(numbers).any() else np.zeros(1)
    fill = float(np.median(given)) if column.kind == "numeric" else float(np.floor(np.median(given)))
    return FittedColumn(column, fill, (float(given.min()), float(given.max())), missing=missing, cases=len(texts))


def plain(text: str) -> str:
    """Write a category in one way, however a table wrote it.

    >>> plain("1.0"), plain("true"), plain("II")
    ('1', 'True', 'II')
    """
    number = _number(text)
    if number is not None and np.isfinite(number):
        return f"{number:.15g}"
    return text.capitalize() if text.lower() in ("true", "false") else text


def kind_of(texts: Sequence[str]) -> Kind:
    """Tell from the given values whether a column holds numbers, as at least half of them are, or categories."""
    given = [text for text in texts if text]
    return "numeric" if 2 * sum(_number(text) is not None for text in given) >= len(given) else "categorical"


def _number(text: str) -> float | None:
    try:
        return float(text) if "_" not in text else None
    except ValueError:
        return None
