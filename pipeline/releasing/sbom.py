"""The bill of materials of what `predict` needs, as CycloneDX 1.6 JSON (ECMA-424): packages, versions, licences."""

import importlib.metadata
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

SBOM = Path("docs/sbom.cdx.json")
# The names under `dependencies` of pyproject.toml; a checkout that was installed long ago may tell older ones.
NEEDED = (
    *("fire", "isal", "jinja2", "joblib", "jsonschema", "monai", "nibabel", "nilearn", "numpy", "packaging", "pandas"),
    *("pillow", "psutil", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "python-gdcm", "pytorch-ignite", "pyyaml"),
    *("safetensors", "scikit-learn", "scipy", "simpleitk", "timm", "torch", "torchvision", "tqdm"),
)
LONGEST = 100  # characters of a licence's name; some packages write the whole licence there

Config = dict[str, Any]


def bill_of_materials(name: str, version: str, needed: Iterable[str] = NEEDED) -> Config:
    """List the packages at hand that `needed` ones lead to, each with its version and licence.

    It holds no time and no serial number, so that equal environments give equal bytes. Files inside a package (a
    library of C that it brings along) are not listed.
    """
    found = _closure(needed)
    parts = {key: found[key].metadata["Name"] for key in sorted(found)}
    graph = [{"ref": _url(found[key]), "dependsOn": sorted(_urls(found, found[key]))} for key in parts]
    root = {"type": "machine-learning-model", "bom-ref": name, "name": name, "version": version}
    direct = sorted(_url(found[_key(one)]) for one in needed if _key(one) in found)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [_component(found[key]) for key in parts],
        "dependencies": [{"ref": name, "dependsOn": direct}, *graph],
    }


def _closure(needed: Iterable[str]) -> dict[str, Distribution]:
    """Find what packages lead to, by normalised name; what is not installed is not needed on this machine."""
    found: dict[str, Distribution] = {}
    todo = {_key(one) for one in needed}
    while todo:
        key = todo.pop()
        try:
            found[key] = importlib.metadata.distribution(key)
        except PackageNotFoundError:
            continue
        todo |= _asked_for(found[key]) - set(found)
    return found


def _asked_for(package: Distribution) -> set[str]:
    """Name what a package itself asks for on this machine, without its extras."""
    asked = map(Requirement, package.requires or ())
    return {_key(one.name) for one in asked if one.marker is None or one.marker.evaluate({"extra": ""})}


def _urls(found: dict[str, Distribution], package: Distribution) -> set[str]:
    return {_url(found[key]) for key in _asked_for(package) if key in found}


def _component(package: Distribution) -> Config:
    known = {"type": "library", "bom-ref": _url(package), "name": package.metadata["Name"], "version": package.version}
    licences = _licences(package)
    return known | {"purl": _url(package)} | ({"licenses": licences} if licences else {})


def _licences(package: Distribution) -> list[Config]:
    """Read the licence as the package states it: an SPDX expression, or a name, or its classifiers."""
    told: Any = package.metadata
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    classified = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or [] if one.startswith("License ::")]
    named = [" ".join((told.get("License") or "").split())]
    names = [one for one in classified or named if one and one != "UNKNOWN"]
    return [{"license": {"name": one if len(one) <= LONGEST else f"{one[:LONGEST]}..."}} for one in names]


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _url(package: Distribution) -> str:
    return f"pkg:pypi/{_key(package.metadata['Name'])}@{package.version}"
