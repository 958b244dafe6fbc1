"""Read the out-of-distribution limits of a site, which `predict --site-adapt` wrote (`--adaptation`)."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.bundle.limits import OperatingLimits
from pipeline.bundle.manifest import MANIFEST, sha256_of
from pipeline.bundle.plain import parsed
from pipeline.commands.files import check_readable
from pipeline.errors import UserError


def limits_in(file: Path, bundle: Path) -> OperatingLimits:
    """Read limits that `adapt_to_site` wrote, and check that they are unchanged and made for this bundle.

    Raises
    ------
    UserError
        If the file is missing, changed, of another format, or made for another release.
    """
    again = f"create it with `medadapt predict {bundle} scans/ --site-adapt --out {file}`"
    check_readable(file, "--adaptation")
    try:
        values = parsed(file.read_bytes())
        written, made_for = values.pop("sha256"), values["bundle"]["manifest"]
        limits = OperatingLimits.from_json(values["limits"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"--adaptation: {file} holds no limits of a site ({error}); {again}") from error
    if written != checksum(values):
        raise UserError(f"--adaptation: {file} was changed after it was written; {again}")
    if made_for != digest_of(bundle):
        raise UserError(f"--adaptation: {file} was made for another release than {bundle}; {again}")
    return limits


def digest_of(bundle: Path) -> str:
    """Hash the manifest of a bundle, which names every file of it."""
    return sha256_of(bundle / MANIFEST)


def checksum(content: dict[str, Any]) -> str:
    """Hash the content of an adaptation."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
