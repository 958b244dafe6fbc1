"""Where the released model comes from: encoder, weights, licence, code, environment and checksums."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import __version__

Row = Mapping[str, Any]

MAIN = ("torch", "torchvision", "monai", "timm", "scikit-learn", "numpy", "nibabel", "pydicom")


def made(cohort: str, name: str, version: str) -> dict[str, str]:
    """Say of which cohort and release a page is, and when and by which version of the pipeline it was written.

    Parameters
    ----------
    cohort : str
        The folder of the cohort, the last part of which is its name.
    name, version : str
        Of the release.
    """
    today = datetime.now(UTC).date().isoformat()
    return {"cohort": Path(cohort).name, "release": f"{name} {version}", "version": __version__, "date": today}


def provenance_of(encoder: Row, manifest: Row | None) -> dict[str, Any]:
    """Collect what release.html shows of the origin of a model.

    Parameters
    ----------
    encoder : mapping
        `provenance` of an adaptation.json: encoder, pretraining, source, licence, sha256.
    manifest : mapping or None
        MANIFEST.json of the bundle; None where it is not there.

    Returns
    -------
    dict
        rows of name and value; `files`, names with their SHA-256; `packages`, names with their version.
    """
    rows = {
        "Encoder": f"{encoder['encoder']}, {encoder['pretraining']}",
        "Its weights": encoder["source"],
        "Their licence": encoder["licence"],
        "Their SHA-256": encoder["sha256"],
    }
    if second := encoder.get("second"):
        rows |= {
            "Second encoder": f"{second['encoder']}, {second['pretraining']}; {second['source']}",
            "Its licence": second["licence"],
            "Its SHA-256": second["sha256"],
        }
    known = manifest or {}
    code, environment = known.get("code", {}), known.get("environment", {})
    rows |= {"Code": code_in_words(code), "Code, SHA-256": code.get("sha256")}
    packages = environment.get("packages", {})
    rows |= {"Environment": environment_in_words(environment), "Parameters, SHA-256": known.get("params")}
    rows |= {f"Data, {name}, SHA-256": digest for name, digest in flat(known.get("data", {})).items()}
    return {
        "rows": {name: value for name, value in rows.items() if value},
        "files": known.get("files", {}),
        "packages": packages,
    }


def code_in_words(code: Row) -> str:
    """Name the revision; a working tree that was changed is not it."""
    if not code.get("commit"):
        return ""
    return f"revision {code['commit']}{', with changes that were not committed' if code['dirty'] else ''}"


def environment_in_words(environment: Row) -> str:
    """Name the interpreter, the system and the packages that compute."""
    if not environment:
        return ""
    packages = environment["packages"]
    main = ", ".join(f"{name} {packages[name]}" for name in MAIN if name in packages)
    return f"Python {environment['python']} on {environment['system']}; {main}"


def flat(values: Row, above: str = "") -> dict[str, Any]:
    """Bring nested values to one level, their names joined."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= flat(value, f"{above}{name} ") if isinstance(value, Mapping) else {f"{above}{name}": value}
    return found
