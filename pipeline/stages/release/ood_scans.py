"""Real scans of what a model was not made for, another organ or another modality: how many of them it holds back."""

import re
from collections.abc import Callable
from pathlib import Path

from pipeline import paths, runtime
from pipeline.bundle.limits import Limits
from pipeline.bundle.scoring import Look
from pipeline.errors import UserError
from pipeline.imaging.appearance import appearance
from pipeline.imaging.reading.scan import Unreadable
from pipeline.imaging.tables.cohort_table import BadTable
from pipeline.imaging.tables.scan_list import Kind, list_scans

MOST = 100  # scans of each kind that are scored
NAME = re.compile(r"[\w .,()+-]+", re.ASCII)  # it is written into the model card

LooksAt = Callable[[Path, str | None], Look]
Candidate = dict[str, tuple[int, int]]


def held_back(look: LooksAt, limits: Limits, kind: Kind) -> Candidate:
    """Count, by words, the scans below data/foreign that get no answer, and all that were tried.

    Parameters
    ----------
    look : callable
        From a scan's file and its site (None: of no site of this model) to what the packed model makes of it.
    limits : Limits
    kind : {"volume", "image"}
        What the model takes.

    Returns
    -------
    dict
        Of each folder: the scans that were refused when read or called out of distribution, and how many were tried.
        Nothing where there were too few patients to set a threshold.
    """
    found: Candidate = {}
    if limits.detector.threshold is None:
        return found
    for folder in folders():
        scans = [scan.file for scan in list_scans(folder, kind)]
        tried = scans[:: -(-len(scans) // MOST)]
        told = [answer_to(look, limits, file) for file in runtime.progress(tried, f"foreign: {folder.name}")]
        refused = told.count("refused")
        how = f"; {refused} of them refused when read" if refused else ""
        found[f"scans of another kind: {folder.name}{how}"] = (len(told) - told.count("answered"), len(told))
    return found


def folders() -> list[Path]:
    """List the folders of data/foreign, one for each kind of scan; none if it is not there.

    Raises
    ------
    UserError
        If scans lie beside the folders, or a folder is empty or has a name that a card should not show.
    """
    if not paths.FOREIGN.is_dir():
        return []
    entries = [entry for entry in sorted(paths.FOREIGN.iterdir()) if not entry.name.startswith(".")]
    for entry in entries:
        if not entry.is_dir() and entry.name != "README.md":
            raise UserError(f"{entry}: put it into a folder of {paths.FOREIGN} that is named for what it shows")
        if not NAME.fullmatch(entry.name):
            raise UserError(f"{entry}: name the folder with letters, digits and ' _.,()+-'; the model card shows it")
    kinds = [entry for entry in entries if entry.is_dir()]
    for folder in kinds:
        try:
            list_scans(folder, "image")
        except BadTable as error:
            raise UserError(f"{error}; or remove the folder") from error
    return kinds


def answer_to(look: LooksAt, limits: Limits, file: Path) -> str:
    """Say what becomes of a scan: `refused` by the reader, `unlike` development, or `answered`."""
    try:
        seen = look(file, None)
    except Unreadable:
        return "refused"
    score = limits.score(seen.logits, seen.features, appearance(seen.prepared.channels))
    return "unlike" if limits.detector.is_ood(score)[0] else "answered"
