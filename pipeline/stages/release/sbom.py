"""Write the bill of materials of what `predict` needs, as CycloneDX 1.6 JSON (ECMA-424).

cyclonedx-python-lib takes a second to import, so that only the functions that write a bill import it.
"""

import importlib.metadata
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

SBOM = Path("docs/sbom.cdx.json")
# The names under `dependencies` of pyproject.toml; the metadata of an old installation may name others.
NEEDED = (
    *("fire", "isal", "jinja2", "joblib", "jsonschema", "monai", "nibabel", "nilearn", "numpy", "packaging", "pandas"),
    *("pillow", "psutil", "pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "python-gdcm", "pytorch-ignite", "pyyaml"),
    *("safetensors", "scikit-learn", "scipy", "shtab", "simpleitk", "timm", "torch", "torchvision", "tqdm"),
)
LONGEST = 100  # characters of a licence's name; some packages write the whole licence there


def bill_of_materials(name: str, version: str, needed: Iterable[str] = NEEDED) -> str:
    """List the installed packages that `needed` ones lead to, each with its version, licence and dependencies.

    The bill has neither a time nor a serial number, so equal environments give equal bytes. It does not list the files
    inside a package, such as a C library that it brings along.

    Returns
    -------
    str
        CycloneDX 1.6 JSON.
    """
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    packages = _closure(needed)
    components = {key: _component(metadata) for key, metadata in packages.items()}
    bom, root = Bom(components=components.values()), Component(name=name, version=version, bom_ref=name)
    root.type = ComponentType.MACHINE_LEARNING_MODEL
    bom.metadata.component = root
    bom.register_dependency(root, [components[key] for key in map(canonicalize_name, needed) if key in components])
    for key, metadata in packages.items():
        bom.register_dependency(components[key], [components[one] for one in _required(metadata) if one in components])
    values = json.loads(JsonV1Dot6(bom).output_as_string())
    del values["serialNumber"], values["metadata"]["timestamp"]
    return json.dumps(values, indent=2) + "\n"


def _closure(needed: Iterable[str]) -> dict[str, Any]:
    """Read the metadata of installed packages that `needed` ones lead to, by normalised name."""
    found: dict[str, Any] = {}
    todo = {str(canonicalize_name(one)) for one in needed}
    while todo:
        key = todo.pop()
        try:
            found[key] = importlib.metadata.metadata(key)
        except importlib.metadata.PackageNotFoundError:
            continue
        todo |= _required(found[key]) - set(found)
    return found


def _required(metadata: Any) -> set[str]:
    """Name what a package needs on this machine, without its extras."""
    required = map(Requirement, metadata.get_all("Requires-Dist") or ())
    return {canonicalize_name(one.name) for one in required if not one.marker or one.marker.evaluate({"extra": ""})}


def _component(metadata: Any) -> "Component":
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from packageurl import PackageURL

    name, version, expression = metadata["Name"], metadata["Version"], metadata.get("License-Expression")
    url = PackageURL(type="pypi", name=name, version=version)
    named = [DisjunctiveLicense(name=one) for one in _licences(metadata)]
    licences = [LicenseExpression(expression)] if expression else named
    return Component(name=name, version=version, bom_ref=url.to_string(), purl=url, licenses=licences)


def _licences(metadata: Any) -> list[str]:
    """Read the names of licences from the classifiers, or from the field License."""
    classifiers = metadata.get_all("Classifier") or []
    classified = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    names = classified or [" ".join((metadata.get("License") or "").split())]
    return [one if len(one) <= LONGEST else f"{one[:LONGEST]}..." for one in names if one and one != "UNKNOWN"]
