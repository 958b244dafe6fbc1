"""The bill of materials of what `predict` needs, as CycloneDX 1.6 JSON (ECMA-424): packages, versions, licences."""

import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import Message
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

SBOM = Path("docs/sbom.cdx.json")
# The names under `dependencies` of pyproject.toml; a checkout that was installed long ago may tell older ones.
NEEDED = (
    *("fire", "isal", "jinja2", "joblib", "jsonschema", "monai", "nibabel", "nilearn", "numpy", "packaging", "pandas"),
    *("pillow", "psutil", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "python-gdcm", "pytorch-ignite", "pyyaml"),
    *("safetensors", "scikit-learn", "scipy", "shtab", "simpleitk", "timm", "torch", "torchvision", "tqdm"),
)
LONGEST = 100  # characters of a licence's name; some packages write the whole licence there

Config = dict[str, Any]


@dataclass(frozen=True)
class Package:
    """What an installed package says of itself, read once.

    Attributes
    ----------
    name, version : str
    asks_for : frozenset of str
        Normalised names of what it needs on this machine, without its extras.
    licences : list of dict
        As CycloneDX writes them; empty where it states none.
    """

    name: str
    version: str
    asks_for: frozenset[str]
    licences: list[Config]

    @property
    def url(self) -> str:
        """The package URL, which names it in the bill."""
        return f"pkg:pypi/{_key(self.name)}@{self.version}"


def bill_of_materials(name: str, version: str, needed: Iterable[str] = NEEDED) -> Config:
    """List the packages at hand that `needed` ones lead to, each with its version and licence.

    It holds no time and no serial number, so that equal environments give equal bytes. Files inside a package (a
    library of C that it brings along) are not listed.
    """
    found = dict(sorted(_closure(needed).items()))
    root = {"type": "machine-learning-model", "bom-ref": name, "name": name, "version": version}
    graph = [{"ref": one.url, "dependsOn": _urls(found, one.asks_for)} for one in found.values()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": root},
        "components": [_component(one) for one in found.values()],
        "dependencies": [{"ref": name, "dependsOn": _urls(found, map(_key, needed))}, *graph],
    }


def _closure(needed: Iterable[str]) -> dict[str, Package]:
    """Find what packages lead to, by normalised name; what is not installed is not needed on this machine."""
    found: dict[str, Package] = {}
    todo = {_key(one) for one in needed}
    while todo:
        key = todo.pop()
        try:
            found[key] = _read(importlib.metadata.distribution(key))
        except PackageNotFoundError:
            continue
        todo |= found[key].asks_for - set(found)
    return found


def _read(distribution: Distribution) -> Package:
    told: Any = distribution.metadata  # parsed anew at each access, so it is asked once
    asked = map(Requirement, told.get_all("Requires-Dist") or ())
    needed = (one for one in asked if one.marker is None or one.marker.evaluate({"extra": ""}))
    return Package(told["Name"], told["Version"], frozenset(_key(one.name) for one in needed), _licences(told))


def _urls(found: dict[str, Package], keys: Iterable[str]) -> list[str]:
    return sorted(found[key].url for key in set(keys) if key in found)


def _component(package: Package) -> Config:
    known = {"type": "library", "bom-ref": package.url, "name": package.name, "version": package.version}
    return known | {"purl": package.url} | ({"licenses": package.licences} if package.licences else {})


def _licences(told: Message) -> list[Config]:
    """Read the licence as the package states it: an SPDX expression, or a name, or its classifiers."""
    if expression := told.get("License-Expression"):
        return [{"expression": expression}]
    classified = [one.rpartition(" :: ")[2] for one in told.get_all("Classifier") or [] if one.startswith("License ::")]
    named = [" ".join((told.get("License") or "").split())]
    names = [one for one in classified or named if one and one != "UNKNOWN"]
    return [{"license": {"name": one if len(one) <= LONGEST else f"{one[:LONGEST]}..."}} for one in names]


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
