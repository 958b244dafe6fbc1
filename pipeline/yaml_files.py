"""Read YAML files, and what dvc.yaml declares for each stage."""

from pathlib import Path
from typing import Any

import yaml

DVC_FILE = Path("dvc.yaml")


def declared_sections(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name the sections of params.yaml that a stage declares in dvc.yaml, or single keys as `section.key`."""
    declared: list[str] = declared_stages(dvc_file)[stage]["params"]
    return declared


def declared_code(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name the files and folders of code that a stage declares under `deps` in dvc.yaml, relative to the project."""
    return [entry for entry in declared_files(stage, dvc_file) if entry.startswith("pipeline/")]


def declared_files(stage: str, dvc_file: Path = DVC_FILE) -> list[str]:
    """Name all files and folders that a stage declares under `deps` in dvc.yaml."""
    deps: list[str] = declared_stages(dvc_file)[stage]["deps"]
    return deps


def declared_stages(dvc_file: Path = DVC_FILE) -> dict[str, Any]:
    """Read what dvc.yaml declares, by stage."""
    stages: dict[str, Any] = parsed(dvc_file.read_text())["stages"]
    return stages


def parsed(text: str | bytes) -> Any:
    """Parse YAML with libyaml, which is fast; text that it refuses with PyYAML, whose errors quote the line."""
    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    except yaml.YAMLError:
        return yaml.safe_load(text)
