"""Test the operating limits on real out-of-distribution scans: of another organ or another modality."""

import re
from pathlib import Path

from pipeline import paths
from pipeline.bundle.columns import typical_inputs
from pipeline.bundle.limits import OUT_OF_DISTRIBUTION
from pipeline.bundle.predictor import BAD_IMAGE, Predictor
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Kind, list_scans
from pipeline.imaging.tables.text_table import BadTable
from pipeline.progress import progress

MOST = 100  # scans of each kind that are scored
NAME = re.compile(r"[\w .,()+-]+", re.ASCII)  # it is written into the model card

Counts = dict[str, tuple[int, int]]


def held_back(predictor: Predictor, kind: Kind) -> Counts:
    """Count the scans below data/out_of_distribution that are not answered, and all that were tested.

    Parameters
    ----------
    predictor : Predictor
        The model that is being released.
    kind : {"volume", "image"}
        What the model takes.

    Returns
    -------
    dict
        By folder, the scans that were refused when read or flagged as out of distribution, and the number tested.
        Empty if there were too few patients to set a threshold.
    """
    found: Counts = {}
    if predictor.limits is None or predictor.limits.detector.threshold is None:
        return found
    for folder in folders():
        scans = [scan.file for scan in list_scans(folder, kind)]
        tested = scans[:: -(-len(scans) // MOST)]
        named = progress(tested, f"out of distribution: {folder.name}")
        region = predictor.masks.of_simulated if predictor.masks else None
        reasons = [predictor(file, inputs=typical_inputs(predictor.fusion), mask=region).abstains for file in named]
        refused = sum(BAD_IMAGE in reason for reason in reasons)
        flagged = sum(OUT_OF_DISTRIBUTION in reason for reason in reasons)
        how = f"; {refused} of them refused when read" if refused else ""
        found[f"out-of-distribution scans: {folder.name}{how}"] = (refused + flagged, len(tested))
    return found


def folders() -> list[Path]:
    """List the folders of data/out_of_distribution, one for each kind of scan; none if it does not exist.

    Raises
    ------
    UserError
        If scans lie beside the folders, or a folder is empty or has a name that a card should not show.
    """
    if not paths.OUT_OF_DISTRIBUTION.is_dir():
        return []
    entries = [entry for entry in sorted(paths.OUT_OF_DISTRIBUTION.iterdir()) if not entry.name.startswith(".")]
    for entry in entries:
        if not entry.is_dir() and entry.name != "README.md":
            raise UserError(f"{entry}: put it into a folder of {paths.OUT_OF_DISTRIBUTION} named after what it shows")
        if not NAME.fullmatch(entry.name):
            raise UserError(f"{entry}: name the folder with letters, digits and ' _.,()+-'; the model card shows it")
    kinds = [entry for entry in entries if entry.is_dir()]
    for folder in kinds:
        try:
            list_scans(folder, "image")
        except BadTable as error:
            raise UserError(f"{error}; or remove the folder") from error
    return kinds
