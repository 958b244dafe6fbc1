"""Pseudonyms that replace the names of cases and patients in everything that leaves the cohort stage."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

PUBLIC_SALT = b"medadapt public cohort"
DIGITS = 12


class BadSalt(ValueError):
    """Signal that a key folder is damaged; the message names the file and the cure."""


def pseudonym(salt: bytes, kind: str, name: str) -> str:
    """Compute the pseudonym of a case or a patient.

    It is the HMAC-SHA256 (RFC 2104) of the original name under the cohort's salt. Without the salt nobody can reverse
    it or confirm a guess.

    Parameters
    ----------
    salt : bytes
        Secret of this cohort, or `PUBLIC_SALT` for open data.
    kind : {"case", "patient"}
        A case and a patient of the same original name get different pseudonyms.
    name : str
        The original identifier.

    Examples
    --------
    >>> pseudonym(PUBLIC_SALT, "patient", "Doe, Jane")
    'patient-942a2f1ddc29'
    """
    return f"{kind}-{hmac.new(salt, f'{kind}/{name}'.encode(), hashlib.sha256).hexdigest()[:DIGITS]}"


def salt_of(folder: Path, public: bool) -> bytes:
    """Read the cohort's salt from its key folder; draw it on first use.

    Only its owner can read the folder. Without it, pseudonyms cannot be mapped back to the original names.

    Raises
    ------
    BadSalt
        If the file holds no salt.
    """
    if public:
        return PUBLIC_SALT
    file = folder / "salt"
    if not file.exists():
        write_private(file, secrets.token_hex(32))
    text = file.read_text(errors="replace").strip()
    if not re.fullmatch(r"([0-9a-fA-F]{2}){16,}", text):
        what = "is damaged" if text else "is empty"
        raise BadSalt(
            f"the salt {file} {what}; restore it from a backup. Without one, remove it: all pseudonyms, and with them "
            "the reserved test set, are then drawn anew"
        )
    return bytes.fromhex(text)


def remember_names(folder: Path, kind_names: Iterable[tuple[str, str]], salt: bytes) -> None:
    """Add pairs of pseudonym and original name to the key folder; earlier pairs are kept."""
    names = read_names(folder)
    names |= {pseudonym(salt, kind, name): name for kind, name in kind_names}
    table = pd.DataFrame(sorted(names.items()), columns=["pseudonym", "name"])
    write_private(folder / "names.csv", table.to_csv(index=False))


def read_names(folder: Path) -> dict[str, str]:
    """Map each known pseudonym to its original name.

    Raises
    ------
    BadSalt
        If the file is damaged.
    """
    file = folder / "names.csv"
    if not file.exists():
        return {}
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        return dict(zip(table["pseudonym"], table["name"], strict=True))
    except (ValueError, LookupError) as error:
        raise BadSalt(f"{file} is damaged; restore it from a backup, or remove it: names are then not known") from error


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner can read, atomically."""
    for folder in (*file.parents[1::-1],):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = file.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(file)
