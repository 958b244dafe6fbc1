"""Pseudonyms: what a case and a patient are called in everything that leaves the cohort stage."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

PUBLIC_SALT = b"medadapt public cohort"
DIGITS = 12


def pseudonym(salt: bytes, kind: str, name: str) -> str:
    """Name a case or a patient without saying who it is.

    HMAC-SHA256 (RFC 2104) of the original name under the cohort's salt, so that whoever lacks the salt can
    neither reverse it nor confirm a guess.

    Parameters
    ----------
    salt : bytes
        Secret of this cohort, or `PUBLIC_SALT` for open data.
    kind : {"case", "patient"}
        So that a case and a patient of the same original name differ.
    name : str
        The original identifier.

    Examples
    --------
    >>> pseudonym(PUBLIC_SALT, "patient", "Doe, Jane")
    'patient-942a2f1ddc29'
    """
    return f"{kind}-{hmac.new(salt, f'{kind}/{name}'.encode(), hashlib.sha256).hexdigest()[:DIGITS]}"


def salt_of(folder: Path, public: bool) -> bytes:
    """Fetch the cohort's salt from its key folder, and draw one on first use.

    The folder is readable by its owner only. Losing it means losing the way back to the original names.
    """
    if public:
        return PUBLIC_SALT
    file = folder / "salt"
    if not file.exists():
        write_private(file, secrets.token_hex(32))
    return bytes.fromhex(file.read_text())


def remember_names(folder: Path, kind_names: Iterable[tuple[str, str]], salt: bytes) -> None:
    """Add (pseudonym, original name) pairs to the key folder; what stands there already stays."""
    names = read_names(folder)
    names |= {pseudonym(salt, kind, name): name for kind, name in kind_names}
    table = pd.DataFrame(sorted(names.items()), columns=["pseudonym", "name"])
    write_private(folder / "names.csv", table.to_csv(index=False))


def read_names(folder: Path) -> dict[str, str]:
    """Map each known pseudonym to its original name."""
    file = folder / "names.csv"
    if not file.exists():
        return {}
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return dict(zip(table["pseudonym"], table["name"], strict=True))


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, all of it or nothing."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = file.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(file)
