"""Find the private key folder of a cohort: its salt and its original names.

A cohort is who is in it, not what its folder is called: a folder that is moved or renamed keeps its salt, and with it
the pseudonyms and the reserved test set; another cohort in a folder of the same name gets a key folder of its own.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline import runtime
from pipeline.errors import UserError
from pipeline.imaging.tables.cohort_table import image_in
from pipeline.imaging.tables.pseudonyms import BadSalt, write_private

RECORD = "cohort.json"  # in a key folder: the places and members of its cohort
SAMPLED = 64  # cases that identify a cohort
SAME = 0.5  # share of members in common from which two samples are of one cohort
BEGIN = 4096  # bytes of a file


@contextmanager
def key_errors() -> Iterator[None]:
    """Turn errors of the key folder into errors for the user, with the cure."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"MEDADAPT_KEYS: the private key folder {error.filename or runtime.keys_folder()} cannot be used "
            f"({(error.strerror or type(error).__name__).lower()}); set MEDADAPT_KEYS to a private folder that can"
        ) from error
    except BadSalt as error:
        raise UserError(f"MEDADAPT_KEYS: {error}") from error


def claim_keys(cohort: Path, members: Sequence[str] = ()) -> Path:
    """Find the key folder of a cohort, or name a new one; record its place and members there.

    Parameters
    ----------
    cohort : Path
        Folder of the cohort.
    members : sequence of str
        From `members_of`; none if the cohort is about to be written.

    Raises
    ------
    UserError
        If the key folder cannot be written.
    """
    with key_errors():
        folder = _of_members(members) or _of_place(cohort) or _unclaimed(cohort)
        record = _record_of(folder)
        places = [place for place in record["places"] if place != _place(cohort)] + [_place(cohort)]
        known = sorted({*record["members"], *members})
        write_private(folder / RECORD, json.dumps({"places": places, "members": known}))
    return folder


def key_folders(cohort: Path) -> list[Path]:
    """List the key folders in which a cohort may be found, the likeliest first."""
    likely = [_of_place(cohort), runtime.keys_folder() / cohort.name, *_all()]
    return list(dict.fromkeys(folder for folder in likely if folder and folder.is_dir()))


def members_of(table: pd.DataFrame, source: Path) -> list[str]:
    """Identify a cohort by the ids and the first bytes of a sample of its images.

    The sample is the cases with the smallest hashes, so that most of it stays when the cohort grows.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns `case_id` and `image`.
    source : Path
        Folder of the images.
    """
    hashed = sorted((hashlib.sha256(case.encode()).hexdigest(), case, image) for case, image in
                    zip(table["case_id"], table["image"], strict=True))  # fmt: skip
    contents = [(one, _content(image_in(source, image))) for one, _, image in hashed[:SAMPLED]]
    return [f"{one[:16]}-{content}" for one, content in contents if content]


def _content(path: Path) -> str:
    try:
        if path.is_dir():
            begin = repr(sorted(file.stat().st_size for file in path.iterdir())).encode()
        else:
            with path.open("rb") as file:
                begin = file.read(BEGIN) + str(path.stat().st_size).encode()
    except OSError:
        return ""
    return hashlib.sha256(begin).hexdigest()[:16]


def _all() -> list[Path]:
    keys = runtime.keys_folder()
    return sorted(folder for folder in keys.iterdir() if folder.is_dir()) if keys.is_dir() else []


def _record_of(folder: Path) -> dict[str, Any]:
    file = folder / RECORD
    if not file.exists():
        return {"places": [], "members": []}
    try:
        record: dict[str, Any] = json.loads(file.read_text())
        return {name: [str(one) for one in record[name]] for name in ("places", "members")}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BadSalt(f"{file} is damaged; restore it from a backup, or remove it") from error


def _place(cohort: Path) -> str:
    return str(cohort.resolve())


def _of_members(members: Sequence[str]) -> Path | None:
    """Find the key folder with most of the members."""
    shares = {folder: _share(set(_record_of(folder)["members"]), set(members)) for folder in _all()}
    best = max(shares, key=lambda folder: shares[folder], default=None)
    return best if best is not None and shares[best] >= SAME else None


def _share(known: set[str], members: set[str]) -> float:
    """Compute the share of common members among those up to a hash that both samples reach."""
    reach = min(max(known, default=""), max(members, default=""))
    one, other = ({member for member in some if member <= reach} for some in (known, members))
    return len(one & other) / max(min(len(one), len(other)), 1)


def _of_place(cohort: Path) -> Path | None:
    """Find the key folder of the cohort that was last at this place."""
    claimed = [folder for folder in _all() if _place(cohort) in _record_of(folder)["places"]]
    return max(claimed, key=lambda folder: (folder / RECORD).stat().st_mtime_ns, default=None)


def _unclaimed(cohort: Path) -> Path:
    """Name a key folder that no other cohort has; one of an earlier version, without a record, is taken."""
    name = cohort.name or "cohort"
    for number in count(1):
        folder = runtime.keys_folder() / (name if number == 1 else f"{name}-{number}")
        if not (folder / RECORD).exists():
            return folder
    raise AssertionError("there is always another number")
