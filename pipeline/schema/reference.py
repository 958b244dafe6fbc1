"""Renders the schema: the comments of params.yaml, and docs/reference/params.md.

`python -m pipeline.schema.reference` in the top folder writes both files; the values in params.yaml stay.
"""

import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.schema import OF_COHORT, Params

HEADING = (
    "One section per stage of dvc.yaml. A change here reruns that stage and its dependents, and nothing else. Each "
    "value can be varied by hand or with `dvc exp run -S finetune.epochs=10`. Unknown keys are refused.\n"
    "The comments are generated from pipeline/schema; docs/reference/params.md adds types, bounds and defaults."
)
INTRODUCTION = (
    "The settings in `params.yaml`, generated from `pipeline/schema` by `python -m pipeline.schema.reference`. A key "
    "that is left out has its default. Keys marked with * can be set by the `cohort.yaml` of a cohort as well; "
    "`params.yaml` overrides it unless it says `auto`."
)
WIDTH = 120


def annotated(values: dict[str, Any]) -> str:
    """Render params.yaml: the given values in the order of the schema, each below its explanation."""
    return "\n".join([*_comment(HEADING, ""), *_entries(Params, values, "", "")]) + "\n"


def reference_page() -> str:
    """Render the reference page: a table for each section with type, default and explanation of each key."""
    schema = Params.model_json_schema()
    lines = ["# Parameters", "", INTRODUCTION, "", *_table(Params, "", schema)]
    for path, section in _sections(Params, ""):
        lines += ["", f"## {path}", "", *_document(section).split("\n"), ""]
        lines += _table(section, path, schema)
    return "\n".join(lines) + "\n"


def as_yaml(value: Any) -> str:
    """Write a value on one line, with quotes where YAML needs them.

    >>> as_yaml(["0", "no", "ill"])
    "['0', 'no', ill]"
    """
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _entries(model: type[BaseModel], values: dict[str, Any], path: str, indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _section_of(field)
        if not path:
            yield ""
        if section:
            yield from _comment(_document(section), indent)
            yield f"{indent}{name}:"
            yield from _entries(section, values[name], f"{path}{name}.", indent + "  ")
        else:
            yield from _comment(_explanation(path, name, field), indent)
            yield f"{indent}{name}: {as_yaml(values[name])}"


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield from textwrap.wrap(
            line, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ", break_on_hyphens=False
        )


def _explanation(path: str, name: str, field: FieldInfo) -> str:
    """Give the explanation of a key, and what `auto` means if the cohort may set it."""
    text = field.description or ""
    if name in OF_COHORT.get(path.removesuffix("."), ()) and "cohort.yaml" not in text:
        text += f"\nauto: the value in cohort.yaml, else {as_yaml(_plain(field.default))}."
    return text


def _document(section: type[BaseModel]) -> str:
    """Take the docstring of a section, a line for each paragraph."""
    paragraphs = inspect.cleandoc(section.__doc__ or "").split("\n\n")
    return "\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if section := _section_of(field):
            yield f"{path}{name}", section
            yield from _sections(section, f"{path}{name}.")


def _table(model: type[BaseModel], path: str, schema: dict[str, Any]) -> list[str]:
    properties = (schema["$defs"][model.__name__] if path else schema)["properties"]
    lines = ["| key | type | default | explanation |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if _section_of(field):
            continue
        mark = "*" if name in OF_COHORT.get(path, ()) else ""
        default = "required" if field.is_required() else f"`{as_yaml(_plain(field.default))}`"
        cells = [f"`{name}`{mark}", type_of(properties[name]), default, (field.description or "").replace("\n", "<br>")]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def type_of(schema: dict[str, Any]) -> str:
    """Say in words which values a JSON schema allows.

    >>> type_of({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 9}]})
    '`auto`, or integer, 1 to 9'
    """
    if "anyOf" in schema:
        return ", or ".join(type_of(one) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{as_yaml(value)}`" for value in schema.get("enum", [schema.get("const")]))
    kind: str = schema.get("type", "any")
    if "prefixItems" in schema:
        return f"[{'; '.join(type_of(one) for one in schema['prefixItems'])}]"
    if kind == "array":
        return f"list of {type_of(schema['items'])}"
    if kind == "object":
        return "mapping"
    return ", ".join([{"string": "text", "boolean": "true or false"}.get(kind, kind), *_bounds(schema)])


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        yield f"{low:g} to {high:g}"
    elif low is not None:
        yield f"at least {low:g}"
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']:g}"
    if "exclusiveMaximum" in schema:
        yield f"below {schema['exclusiveMaximum']:g}"
    if low is None and high is not None:
        yield f"at most {high:g}"
    if "multipleOf" in schema:
        yield f"a multiple of {schema['multipleOf']}"
    if "pattern" in schema:
        yield f"matching `{schema['pattern']}`"


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def main() -> None:
    """Write both files."""
    params, page = Path("params.yaml"), Path("docs/reference/params.md")
    params.write_text(annotated(yaml.safe_load(params.read_text())))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(reference_page())


if __name__ == "__main__":
    main()
