"""Types that several sections of params.yaml share."""

import re
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

FINAL = "final"
Auto = Literal["auto"]
Fraction = Annotated[float, Field(gt=0, lt=1)]
FoldName = Annotated[str, BeforeValidator(str)]
Millimetres = Annotated[float, Field(gt=0, le=100)]
Column = Annotated[str, Field(pattern=r"^\w+$")]
Category = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]
Order = Annotated[tuple[Category, ...], Field(min_length=2)]
InputColumn = Annotated[
    Column | Annotated[dict[Column, Literal["numeric", "categorical"] | Order], Field(min_length=1, max_length=1)],
    BeforeValidator(lambda value: _as_input(value)),
]
TYPES = ("numeric", "categorical")
Interval = Annotated[tuple[float, float], AfterValidator(lambda limits: ascending(limits))]
Windows = Annotated[
    tuple[Interval, ...], Field(min_length=1, max_length=16), BeforeValidator(lambda value: _as_windows(value))
]


class Section(BaseModel):
    """A part of params.yaml that can be neither extended nor changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def ascending(limits: tuple[float, float]) -> tuple[float, float]:
    """Check that the first of two limits is the smaller one."""
    if not limits[0] < limits[1]:
        raise ValueError(f"{list(limits)} is not [low, high]")
    return limits


def increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    """Check that each value is larger than the one before it."""
    if any(after <= before for before, after in pairwise(values)):
        raise ValueError(f"{list(values)} does not increase")
    return values


def _as_windows(value: Any) -> Any:
    """Take `[low, high]` for a list of one window."""
    one = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(edge, int | float) for edge in value)
    return [value] if one else value


def _as_input(value: Any) -> Any:
    """Check that a value is the name of a column, or one name with its type or its categories in order."""
    [(name, said)] = value.items() if isinstance(value, dict) and len(value) == 1 else [(value, TYPES[0])]
    ordered = isinstance(said, list | tuple) and len(said) > 1 and all(type(one) in (str, int, float) for one in said)
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name) or not (ordered or said in TYPES):
        raise ValueError(
            f"{value!r} is no column; write its name, {{name: numeric}}, {{name: categorical}}, or its categories in "
            "order, {name: [I, II, III]}, with quotes around words such as 'yes' and 'no'"
        )
    return value
