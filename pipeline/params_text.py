"""Change one value in the text of params.yaml; everything else, comments included, stays as it is."""

from typing import Any

import yaml

from pipeline.yaml_files import BROKEN


def with_value(text: str, section: str, key: str, value: str | list[str]) -> str:
    r"""Return the text of a YAML file with `section.key` set to a value.

    Raises
    ------
    ValueError
        If the file is not a mapping of sections in block style, or is not valid YAML.

    >>> with_value("cohort:  # ours\n  path: a  # old\n", "cohort", "path", "b")
    'cohort:  # ours\n  path: b  # old\n'
    """
    try:
        before, root = yaml.safe_load(text) or {}, yaml.compose(text)
    except BROKEN as error:
        raise ValueError("is not valid YAML") from error
    if not isinstance(before, dict):
        raise ValueError("is not a mapping of sections")
    quoted = yaml.safe_dump(value, width=10_000, default_flow_style=None).removesuffix("\n").removesuffix("\n...")
    changed = _changed(text, root, (section, key), quoted)
    try:
        meant = {**before, section: {**(before.get(section) or {}), key: value}}
        if changed is not None and yaml.safe_load(changed) == meant:
            return changed
    except BROKEN:  # sections in braces
        pass
    raise ValueError("is not written as sections with one key a line")


def _changed(text: str, root: Any, where: tuple[str, str], quoted: str) -> str | None:
    section, key = where
    values = _find(root, section)
    if values is None:
        return f"{text.rstrip()}\n\n{section}:\n  {key}: {quoted}\n".lstrip()
    old = _find(values, key)
    if old is not None:
        return text[: old.start_mark.index] + quoted + text[old.end_mark.index :]
    if not isinstance(values, yaml.MappingNode) or values.flow_style:
        return None
    start = values.start_mark
    return f"{text[: start.index]}{key}: {quoted}\n{' ' * start.column}{text[start.index :]}"


def _find(node: Any, name: str) -> Any:
    """Return the value of a key in a mapping node, or None."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)
