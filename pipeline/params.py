"""Reads params.yaml, and hands a stage the sections that it declares.

A stage is handed only what it declares in dvc.yaml, so a parameter that DVC does not watch cannot be read.
"""

import difflib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import UserError
from pipeline.schema import Params

PARAMS_FILE = Path("params.yaml")
DVC_FILE = Path("dvc.yaml")


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and check params.yaml.

    Raises
    ------
    UserError
        If the file is missing or unreadable, or a key or value is not in the schema. Each line names one key.
    """
    if not path.exists():
        raise UserError(f"{path} is not here: run the command in the project's top folder")
    try:
        return Params.model_validate(yaml.safe_load(path.read_text()))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise UserError("\n".join(_explain(path, found) for found in error.errors())) from error


def for_stage(stage: str, path: Path = PARAMS_FILE, dvc_file: Path = DVC_FILE) -> Params:
    """Read the sections of params.yaml that `stage` declares in dvc.yaml; to read another one is an AttributeError."""
    whole, handed = load(path), dict[str, Any]()
    for name in declared_sections(stage, dvc_file):
        section, _, key = name.partition(".")
        value = getattr(whole, section)
        if key:
            setattr(handed.setdefault(section, SimpleNamespace()), key, getattr(value, key))
        else:
            handed[section] = value
    return Params.model_construct(**handed)


def declared_sections(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name the sections of params.yaml that a stage declares in dvc.yaml, or single keys as `section.key`."""
    declared: list[str] = yaml.safe_load(dvc_file.read_text())["stages"][stage]["params"]
    return declared


def declared_code(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name the files and folders of code that a stage declares under `deps` in dvc.yaml, relative to the project."""
    deps: list[str] = yaml.safe_load(dvc_file.read_text())["stages"][stage]["deps"]
    return [entry for entry in deps if entry.startswith("pipeline/")]


def _explain(path: Path, found: Any) -> str:
    where = ".".join(str(part) for part in found["loc"] if not str(part).startswith(("literal", "constrained")))
    if found["type"] != "extra_forbidden":
        return f"{path}: {where or 'the file'}: {found['msg'].removeprefix('Value error, ')}"
    *parents, unknown = map(str, found["loc"])
    model: Any = Params
    for parent in parents:
        model = model.model_fields[parent].annotation
    nearest = difflib.get_close_matches(unknown, model.model_fields, n=1, cutoff=0)
    return f"{path}: unknown key '{where}'; the nearest known one is '{'.'.join([*parents, *nearest])}'"
