"""Find the masks that a model takes besides the scans: in the list of scans, or in the folder of --masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.bundle.predictor import Predictor
from pipeline.errors import UserError
from pipeline.imaging.tables.mask_list import masks_for
from pipeline.imaging.tables.scan_list import Listed
from pipeline.imaging.tables.text_table import BadTable


def with_masks(scans: Sequence[Listed], predictor: Predictor, folder: str | None) -> list[Listed]:
    """Add their masks to the scans, before any scan is read.

    Raises
    ------
    UserError
        If the model takes no masks but --masks is given, or takes masks and a scan has none.
    """
    needs = predictor.masks
    if needs is None or not needs.any:
        if folder:
            raise UserError("--masks: the model takes no masks, only the scan; leave --masks out")
        if any(scan.mask for scan in scans):
            print("the column mask is not used: the model takes no masks, only the scan")
        return list(scans)
    try:
        found = masks_for([scan.name for scan in scans], Path(folder)) if folder else {}
    except BadTable as error:
        raise UserError(f"--masks: {error}") from error
    scans = [replace(scan, mask=found.get(scan.name, scan.mask)) for scan in scans]
    without = [scan.name for scan in scans if scan.mask is None]
    if without and needs.asks:
        some = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
        raise UserError(
            f"the model takes a mask of each scan ({needs.words}), and there is none of {some}; give --masks FOLDER "
            "with masks of the names of their scans, or a list of scans (.csv) with the column mask"
        )
    return scans
