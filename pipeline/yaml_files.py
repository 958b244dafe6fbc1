"""Read YAML that people write: settings, recipes, cards, and what dvc.yaml declares for each stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError

Parse = Callable[[str], Any]
DVC_FILE = Path("dvc.yaml")
BROKEN = (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)  # of PyYAML


def declared_sections(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name the sections of params.yaml that a stage declares in dvc.yaml, or single keys as `section.key`."""
    return list(declared_stage(stage, dvc_file).get("params") or ())


def declared_code(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name the files and folders of code that a stage declares under `deps` in dvc.yaml, relative to the project."""
    return [entry for entry in declared_files(stage, dvc_file) if entry.startswith("pipeline/")]


def declared_files(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name all files and folders that a stage declares under `deps` in dvc.yaml."""
    return list(declared_stage(stage, dvc_file).get("deps") or ())


def declared_stage(stage: str, dvc_file: Path = DVC_FILE) -> dict[str, Any]:
    """Read what dvc.yaml declares for a stage.

    Raises
    ------
    UserError
        If the file declares no such stage.
    """
    stages = declared_stages(dvc_file)
    if not isinstance(stages.get(stage), dict):
        raise UserError(f"{dvc_file} declares no stage '{stage}'; restore the dvc.yaml of this version of medadapt")
    found: dict[str, Any] = stages[stage]
    return found


def declared_stages(dvc_file: Path = DVC_FILE) -> dict[str, Any]:
    """Read the stages of dvc.yaml by name; raise UserError if it holds none."""
    found = read_yaml(dvc_file, with_libyaml)
    stages = found.get("stages") if isinstance(found, dict) else None
    if not isinstance(stages, dict):
        raise UserError(f"{dvc_file} declares no stages; restore the dvc.yaml of this version of medadapt")
    return stages


def read_yaml(file: Path, parse: Parse = yaml.safe_load) -> Any:
    """Read a YAML file; an empty one is None.

    Raises
    ------
    UserError
        If it is a folder, or no YAML in UTF-8.
    """
    try:
        content = file.read_bytes()
    except IsADirectoryError as error:
        raise UserError(f"{file} is a folder, not a file; remove or rename it") from error
    return parsed_yaml(content, file, parse)


def parsed_yaml(content: bytes, file: Path, parse: Parse = yaml.safe_load) -> Any:
    """Parse YAML in UTF-8; raise UserError with the name of the file if it is none."""
    try:
        return parse(content.decode())
    except BROKEN as error:
        reason = str(error) if isinstance(error, yaml.YAMLError | ValueError) else type(error).__name__
        raise UserError(f"{file} is not valid YAML: {reason}; correct it, and save it in UTF-8") from error


def with_libyaml(text: str | bytes) -> Any:
    """Parse YAML that DVC reads, too, with libyaml; text that it refuses with PyYAML, whose errors quote the line.

    libyaml is fast, but ends the process where text is nested 100,000 deep, so that text of strangers is not for it.
    """
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except yaml.YAMLError:
        return yaml.safe_load(text)
