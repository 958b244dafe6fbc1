"""Import a Brain Imaging Data Structure (BIDS), with labels from participants.tsv or the sessions files."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.imaging.labels import renamed
from pipeline.imaging.reading.volumes import is_readable
from pipeline.stages.cohort.importers.columns import keep_columns
from pipeline.stages.cohort.importers.found import (
    BadSource,
    Import,
    is_noise,
    read_rows,
    row_of,
    split_of,
    why_no_image,
)
from pipeline.stages.cohort.importers.places import Places

PARTICIPANTS = "participants.tsv"
SITE_COLUMNS = ("site", "center")
NOT_GIVEN = ("n/a", "N/A")


@dataclass(frozen=True)
class Wanted:
    """Select columns and images of a BIDS data set.

    Attributes
    ----------
    label : str or None
        Column of participants.tsv or the sessions files with the class; None imports all images as unlabelled.
    site : str or None
        Column with the site; None selects "site" or "center" if present.
    split : str or None
        Column with the split, or None.
    suffix : str or None
        Kind of image, e.g. "T1w"; None selects the only kind in the data set.
    rename : mapping
        New name of each label to rename.
    root : Path or None
        Folder that holds all images, see `Places`.
    keep : sequence of str
        Further columns to keep, see `keep_columns`.
    """

    label: str | None
    site: str | None
    split: str | None
    suffix: str | None
    rename: Mapping[str, str]
    root: Path | None = None
    keep: Sequence[str] = ()


def find_in_bids(root: Path, wanted: Wanted) -> Import:
    """Read `root/sub-*/[ses-*/]{anat,…}/sub-*_SUFFIX.nii.gz` and make one case of each image.

    The case id is the file name without its suffix (`sub-01_ses-2_run-1`); the patient is the subject.
    Values of a sessions file take precedence over values of participants.tsv.

    Raises
    ------
    BadSource
        If participants.tsv or a column is missing, a split is unknown, or the data set holds several kinds of image
        and `wanted.suffix` is None.
    """
    subjects, columns = _participants(root)
    sessions = dict(_sessions(root))
    columns += [column for row in sessions.values() for column in row if column not in columns]
    site = wanted.site or next((column for column in SITE_COLUMNS if column in columns), None)
    used = {"label": wanted.label, "site": site, "split": wanted.split}
    _refuse_unknown(used, columns, root / PARTICIPANTS)
    found, places, further = Import(), Places(root, wanted.root), dict[str, dict[str, str]]()
    images = _images(places, found)
    suffix = _one_suffix(images, wanted.suffix)
    for file in images:
        name = file.relative_to(root)
        subject, case = name.parts[0], file.name.split(".")[0].removesuffix(f"_{suffix}")
        if _suffix_of(file) != suffix:
            found.left_out.append((str(name), f"its suffix is not {suffix}"))
        elif subject not in subjects:
            found.left_out.append((str(name), f"{PARTICIPANTS} has no row for its subject"))
        else:
            facts = subjects[subject] | sessions.get((subject, _session_of(name)), {})
            label, place, split = (facts.get(column or "", "") for column in used.values())
            row = row_of(case, str(name), renamed(label, wanted.rename), subject, site=place)
            further[case] = {column: facts.get(column, "") for column in columns if column not in used.values()}
            places.take(found, file, row | {"split": split_of(split, root / PARTICIPANTS)})
    _refuse_twice(found)
    keep_columns(found, further, wanted.keep)
    imaged = {file.relative_to(root).parts[0] for file in images if _suffix_of(file) == suffix}
    reason = f"{PARTICIPANTS} names it, but it has no {suffix} image"
    found.left_out += [(subject, reason) for subject in subjects if subject not in imaged]
    return found


def _refuse_unknown(used: Mapping[str, str | None], columns: list[str], table: Path) -> None:
    for option, column in used.items():
        if column is not None and column not in columns:
            cure = f"name it with --{option}" + " or take all images by --unlabelled" * (option == "label")
            raise BadSource(f"{table} has no column '{column}'; {cure} (it has {', '.join(columns)})")


def _participants(root: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Read participants.tsv and return its rows by subject and its columns."""
    file = root / PARTICIPANTS
    table = read_rows(file, "\t")
    if "participant_id" not in table:
        raise BadSource(f"{file} has no column 'participant_id'; a BIDS data set has one, separated by tabs")
    twice = table["participant_id"][table["participant_id"].duplicated()]
    if len(twice):
        raise BadSource(f"{file} names {twice.iloc[0]} twice; leave one row")
    rows = [_given(row) for row in table.to_dict("records")]
    by_subject = {f"sub-{row['participant_id'].removeprefix('sub-')}": row for row in rows}
    return by_subject, [column for column in table.columns if column != "participant_id"]


def _sessions(root: Path) -> Iterator[tuple[tuple[str, str], dict[str, str]]]:
    """Read every sub-*_sessions.tsv and yield its values by subject and session, without the empty ones."""
    for file in sorted(root.glob("sub-*/sub-*_sessions.tsv")):
        table = read_rows(file, "\t")
        if "session_id" not in table:
            raise BadSource(f"{file} has no column 'session_id'; a BIDS sessions file has one, separated by tabs")
        for row in table.to_dict("records"):
            facts = {column: value for column, value in _given(row).items() if value}
            session = f"ses-{facts.pop('session_id', '').removeprefix('ses-')}"
            yield (file.parent.name, session), facts


def _given(row: Mapping[str, str]) -> dict[str, str]:
    return {column: "" if value in NOT_GIVEN else value for column, value in row.items()}


def _images(places: Places, found: Import) -> list[Path]:
    """List the images of the subjects, and record all other files as left out."""
    images, root = [], places.folder
    for child in sorted(root.iterdir()):
        if child.is_dir() and not child.name.startswith("sub-"):
            found.left_out.append((f"{child.name}/", "it is no subject's folder (sub-*)"))
    for file in places.files():
        name = file.relative_to(root)
        of_subject = len(name.parts) > 1 and name.parts[0].startswith("sub-")
        if of_subject and "_" in file.name and not is_noise(name) and is_readable(file):
            images.append(file)
        elif (of_subject or len(name.parts) == 1) and not file.name.endswith((PARTICIPANTS, "_sessions.tsv")):
            found.left_out.append((str(name), why_no_image(file)))
    return images


def _one_suffix(images: list[Path], wanted: str | None) -> str:
    counts = Counter(_suffix_of(file) for file in images)
    there = ", ".join(f"{suffix} ({count})" for suffix, count in sorted(counts.items())) or "none"
    if wanted is None and len(counts) == 1:
        return next(iter(counts))
    if wanted is None:
        raise BadSource(f"name the kind of image with --suffix; there are {there}")
    if wanted not in counts:
        raise BadSource(f"there is no image with --suffix {wanted}; there are {there}")
    return wanted


def _suffix_of(file: Path) -> str:
    return file.name.split(".")[0].rsplit("_", 1)[-1]


def _session_of(name: Path) -> str:
    return next((part for part in name.parts[1:-1] if part.startswith("ses-")), "")


def _refuse_twice(found: Import) -> None:
    files: dict[str, str] = {}
    for case in found.cases:
        other = files.setdefault(case.row["case_id"], case.row["image"])
        if other != case.row["image"]:
            raise BadSource(f"{other} and {case.row['image']} are the same image by name; keep one")
