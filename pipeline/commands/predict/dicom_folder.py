"""Write the results of DICOM scans as DICOM objects into a folder (`predict --dicom`)."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.bundle.dicom_results.model import model_of
from pipeline.bundle.dicom_results.source import NoSource, is_dicom_scan
from pipeline.bundle.opening import Opened
from pipeline.bundle.predictor import Prediction
from pipeline.bundle.transforms import PrepareScand
from pipeline.commands.dicom_objects import objects_of, require_highdicom
from pipeline.commands.drawings import Drawing
from pipeline.commands.predict.saliency_files import stems_of, writable
from pipeline.errors import UserError
from pipeline.imaging.tables.scan_list import Listed


class DicomFolder:
    """A folder for reports, segmentations and secondary captures.

    Parameters
    ----------
    folder : Path
    scans : sequence of Listed
    bundle : Opened
    settings : str
        See `Model.settings`.

    Raises
    ------
    UserError
        If no scan is DICOM, highdicom is not installed, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, scans: Sequence[Listed], bundle: Opened, settings: str) -> None:
        require_highdicom("--dicom")
        if not any(is_dicom_scan(scan.file) for scan in scans):
            raise UserError("--dicom: no scan is DICOM, so that there is no study to which a result could go back")
        self.folder, self.stems = writable(folder, "--dicom"), stems_of(scans)
        self.model, self.steps = model_of(bundle, settings), PrepareScand(**bundle.preparation).steps

    def write(self, scan: Listed, found: Prediction, drawing: Drawing | None) -> str:
        """Write the objects of a scan; return the names of their files, "" with a message if there are none."""
        try:
            objects = objects_of(scan, found, drawing, model=self.model, steps=self.steps)
        except NoSource as error:
            print(f"--dicom: nothing is written for {scan.name}: {error}")
            return ""
        return "; ".join(objects.write(self.folder, self.stems[id(scan)]))
