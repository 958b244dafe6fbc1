"""Say what is wrong with params.yaml in sentences, one for each key."""

import difflib
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from pipeline.schema import Params


class Fault(NamedTuple):
    """Hold the place of a fault, as names of sections and keys and numbers of entries, and the sentence about it."""

    place: tuple[Any, ...]
    text: str


def faults_of(error: ValidationError) -> list[Fault]:
    """Explain the errors of `Params`; what fits none of several alternatives is one fault."""
    places: dict[tuple[Any, ...], list[Any]] = {}
    for found in error.errors():
        places.setdefault(_place(found["loc"]), []).append(found)
    return [Fault(place, _explain(place, found)) for place, found in places.items()]


def _place(where: tuple[Any, ...]) -> tuple[Any, ...]:
    """Leave out the names of alternatives, which pydantic adds to the place of an error."""
    model: Any = Params
    place: list[Any] = []
    for number, part in enumerate(where):
        fields = getattr(model, "model_fields", {})
        if isinstance(part, int) or part in fields or (fields and number == len(where) - 1):
            place.append(part)
            model = fields[part].annotation if part in fields else None
    return tuple(place)


def _explain(place: tuple[Any, ...], found: list[Any]) -> str:
    name, first = ".".join(map(str, place)) or "the file", found[0]
    if first["type"] == "extra_forbidden":
        return _unknown(place)
    if first["type"] == "missing":
        return f"{name} is missing" + ("; name the folder of your cohort" if name in ("cohort", "cohort.path") else "")
    if all(one["type"] == "string_type" for one in found) and isinstance(first["input"], bool | int | float):
        value = first["input"]
        word = {True: "yes, on or true", False: "no, off or false"}[value] if isinstance(value, bool) else str(value)
        return f"{name} is {word}, which YAML does not read as text; put it in quotes, e.g. '{word.split(',')[0]}'"
    literals = [one["ctx"]["expected"] for one in found if one["type"] == "literal_error"]
    if not literals:
        return f"{name}: {' or '.join(dict.fromkeys(one['msg'].removeprefix('Value error, ') for one in found))}"
    choices = ", ".join(literals).replace(" or ", ", ")
    others = [one["msg"].removeprefix("Input should be ") for one in found if one["type"] != "literal_error"]
    known = [choice.strip("'") for choice in choices.split(", ")]
    nearest = difflib.get_close_matches(str(first["input"]), known, n=1)
    close = f"; the nearest is '{nearest[0]}'" if nearest else ""
    return f"{name} is {first['input']!r}; choose one of {', or '.join([choices, *dict.fromkeys(others)])}{close}"


def _unknown(place: tuple[Any, ...]) -> str:
    *parents, unknown = map(str, place)
    model: Any = Params
    for parent in parents:
        model = model.model_fields[parent].annotation
    fields = model.model_fields if issubclass(model, BaseModel) else {}
    nearest = difflib.get_close_matches(unknown, fields, n=1, cutoff=0)
    whole = ".".join(map(str, place))
    return f"unknown key '{whole}'; the nearest known one is '{'.'.join([*parents, *nearest])}'"
