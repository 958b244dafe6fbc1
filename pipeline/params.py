"""Reads params.yaml, and hands a stage the sections that it declares.

A stage is handed only what it declares in dvc.yaml, so a parameter that DVC does not watch cannot be read.
"""

import hashlib
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from pipeline.errors import UserError
from pipeline.paths import CARD_FILE, DEMO, read_json, settings
from pipeline.schema import OF_COHORT, Params
from pipeline.schema.faults import faults_of
from pipeline.schema.types import Section
from pipeline.yaml_files import DVC_FILE, declared_sections, declared_stages, read_yaml

PARAMS_FILE = Path("params.yaml")
COHORT_FILE = "cohort.yaml"  # in the folder of the cohort, beside cohort.csv or recipe.yaml
AUTO = "auto"
TEXTS = (("release", "name"), ("release", "description"), ("report", "title"))  # each about one cohort

Settings = dict[str, dict[str, Any]]  # values by section and key


def load(path: Path = PARAMS_FILE, of_cohort: Settings | None = None) -> Params:
    """Read params.yaml, fill in what it leaves to the cohort from the cohort's cohort.yaml, and check the result.

    Parameters
    ----------
    path : Path
    of_cohort : dict, optional
        Takes the place of what cohort.yaml says.

    Raises
    ------
    UserError
        If a file is missing or unreadable, or a key or value is not in the schema. Each line names one key.
    """
    given = _read(path)
    source = _cohort_folder(path, given)
    _refuse_former_card(path.parent, source)
    return _checked(path, given, cohort_settings(source) if of_cohort is None else of_cohort)


def for_stage(stage: str, path: Path = PARAMS_FILE, dvc_file: Path = DVC_FILE) -> Params:
    """Read the sections of params.yaml that `stage` declares in dvc.yaml; to read another one is an AttributeError.

    What params.yaml leaves to the cohort comes from the files that the stage `cohort` wrote, which DVC watches; the
    stage `cohort` itself reads cohort.yaml, which lies in the folder that it declares.
    """
    given, handed = _read(path), dict[str, Any]()
    source = _cohort_folder(path, given)
    _refuse_former_card(path.parent, source)
    whole = _checked(path, given, cohort_settings(source) if stage == "cohort" else _written_settings(path.parent))
    for name in declared_sections(stage, dvc_file):
        section, _, key = name.partition(".")
        value = getattr(whole, section)
        if key:
            setattr(handed.setdefault(section, SimpleNamespace()), key, getattr(value, key))
        else:
            handed[section] = value
    found = Params.model_construct(**handed)
    for name in Params.model_fields.keys() - handed.keys():
        found.__dict__.pop(name, None)  # model_construct adds defaults
    return found


def completed(path: Path = PARAMS_FILE) -> Params:
    """Read params.yaml, completed by what the stage `cohort` wrote: for names and records, not for results."""
    return _checked(path, _read(path), _written_settings(path.parent))


def cohort_settings(folder: Path) -> Settings:
    """Read what `folder/cohort.yaml` says about its cohort, by section; nothing if there is no such file.

    A key that says `auto` is left out, as in params.yaml.

    Raises
    ------
    UserError
        If the file is not valid YAML, or sets a key that is not in `OF_COHORT`.
    """
    file = folder / COHORT_FILE
    found: Any = (_read(file) or {}) if file.exists() else {}
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise UserError(f"{file} does not hold sections with keys; `medadapt import` writes one that does")
    for section, values in found.items():
        for key in values:
            if key not in OF_COHORT.get(section, ()):
                allowed = ", ".join(f"{one}.{name}" for one, names in OF_COHORT.items() for name in names)
                raise UserError(
                    f"{file}: '{section}.{key}' cannot be set here, only in params.yaml; allowed: {allowed}"
                )
    return {
        section: {key: value for key, value in values.items() if value != AUTO} for section, values in found.items()
    }


def cohort_name(path: str | Path) -> str:
    """Name a cohort after its folder."""
    return Path(os.path.abspath(path)).name


def cohort_digest(path: str | Path) -> str:
    """Identify a cohort by 12 hexadecimal digits of the hash of its folder, for what leaves the project.

    A folder inside the project is taken relative to it, so that every clone agrees.
    """
    return hashlib.sha256(os.path.relpath(path).encode()).hexdigest()[:12]


def release_name(path: str | Path) -> str:
    """Derive the default of `release.name` from the cohort's folder.

    >>> release_name("data/raw/My clinic, 2024")
    'My_clinic_2024'
    """
    return re.sub(r"[^A-Za-z0-9-]+", "_", cohort_name(path)).strip("_-") or f"cohort_{cohort_digest(path)}"


def missing_for_dvc(path: Path = PARAMS_FILE, dvc_file: Path = DVC_FILE) -> Settings:
    """Collect what params.yaml must name for `dvc repro`, by section: DVC has no defaults, but the stages have.

    Returns
    -------
    dict
        Absent sections, empty or with their single keys, and absent keys of sections, each with its default.
    """
    given, whole = _read(path) or {}, load(path)
    stages = declared_stages(dvc_file).values()
    missing: dict[str, Any] = {}
    for name in sorted({name for stage in stages for name in stage.get("params", ())} | {"split.folds"}):
        section, _, key = name.partition(".")
        default = getattr(whole, section)
        if section not in given:
            missing.setdefault(section, {} if isinstance(default, Section) else default)
        if key and key not in (given.get(section) or {}):
            value = AUTO if key in OF_COHORT.get(section, ()) else getattr(default, key)
            missing.setdefault(section, {})[key] = list(value) if isinstance(value, tuple) else value
    return missing


def _is_map(values: Any) -> bool:
    return isinstance(values, dict)


def _read(path: Path) -> Any:
    if not path.exists():
        raise UserError(f"{path} is not here: run the command in the project's top folder")
    return read_yaml(path)


def _cohort_folder(path: Path, given: Any) -> Path:
    """Find the folder of the cohort, or a folder without cohort.yaml if params.yaml does not name one."""
    section = given.get("cohort") if isinstance(given, dict) else None
    return path.parent / str((section if isinstance(section, dict) else {}).get("path", ""))


def _refuse_former_card(project: Path, source: Path) -> None:
    """Refuse a card.yaml in the project's top folder, where earlier versions read it."""
    former = project / CARD_FILE
    if former.exists() and source.resolve() != project.resolve():
        raise UserError(f"{former} is not read: its texts belong to the cohort; move it to {source / CARD_FILE}")


def _written_settings(project: Path) -> Settings:
    files = {section: project / settings(section) for section in OF_COHORT}
    return {section: read_json(file) for section, file in files.items() if file.exists()}


def _checked(path: Path, given: Any, of_cohort: Settings) -> Params:
    """Validate params.yaml, completed by the cohort's settings where a key is absent or `auto`."""
    given = {} if given is None else given
    merged = {name: {} if values is None else values for name, values in given.items()} if _is_map(given) else given
    for section, keys in OF_COHORT.items() if _is_map(given) else ():
        if _is_map(values := merged.get(section, {})):
            chosen = {key: value for key, value in values.items() if key not in keys or value != AUTO}
            merged[section] = of_cohort.get(section, {}) | chosen
    if _is_map(merged) and _is_map(release := merged["release"]) and release.get("name", AUTO) == AUTO:
        merged["release"] = release | {"name": release_name(_cohort_folder(path, given))}
    try:
        found = Params.model_validate(merged)
    except ValidationError as error:
        faults = faults_of(error)
        raise UserError(
            "\n".join(f"{_source(path, given, of_cohort, fault.place)}: {fault.text}" for fault in faults)
        ) from error
    _refuse_texts_of_demo(path, given, found, of_cohort=of_cohort)
    return found


def _refuse_texts_of_demo(path: Path, given: Any, found: Params, *, of_cohort: Settings) -> None:
    """Refuse the name, description and title of the demo for another cohort."""
    demo, source = path.parent / DEMO, _cohort_folder(path, given)
    texts = {} if demo.resolve() == source.resolve() else cohort_settings(demo)
    for section, key in TEXTS:
        text = texts.get(section, {}).get(key)
        if text is not None and text == getattr(getattr(found, section), key):
            file = _source(path, given, of_cohort, (section, key))
            raise UserError(
                f"{file}: {section}.{key} is '{text}', the text of the demo, but cohort.path is {found.cohort.path}; "
                "remove the line (the default names your cohort) or write a text of your own"
            )


def _source(path: Path, given: Any, of_cohort: Settings, where: tuple[Any, ...]) -> str:
    """Name the file of a value at `(section, key, ...)`, or both files if the fault is of a whole section."""
    section, key = (*where, "", "")[:2]
    values = given.get(section) if isinstance(given, dict) else None
    if not isinstance(values, dict):
        return str(path)
    taken = [name for name in of_cohort.get(section, {}) if values.get(name, AUTO) == AUTO]
    file = _cohort_folder(path, given) / COHORT_FILE
    if key in taken:
        return str(file)
    return f"{path} and {file}" if taken and not key else str(path)
