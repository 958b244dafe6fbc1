"""Types that several sections of params.yaml share."""

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
InputColumn = (
    Column | Annotated[dict[Column, Literal["numeric", "categorical"] | Order], Field(min_length=1, max_length=1)]
)
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


def _as_windows(value: Any) -> Any:
    """Take `[low, high]` for a list of one window."""
    one = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(edge, int | float) for edge in value)
    return [value] if one else value
