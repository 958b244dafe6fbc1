"""A DICOM export of two hospitals with simulated head MRI, for the tutorial: nobody's scans.

    python benchmarks/simulated_export.py ../export

Writes the development patients of the demo as DICOM series, a file for each slice, in the tree and with the names that
an archive gives, and `labels.csv` with the patient and the diagnosis. `--patients` takes the first of each hospital.
"""

import argparse
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from pipeline.stages.cohort.simulation.recipe import read_recipe
from pipeline.stages.cohort.simulation.scan import Job, plan_scans, simulate

INSTITUTIONS = {"north": "North General Hospital", "south": "South Clinic"}
ROOT = "1.2.826.0.1.3680043.10.1561"  # of the UIDs: pydicom's arc for examples
AXES = np.array([-1, -1, 1])  # from the axes of NIfTI to those of DICOM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("into", type=Path)
    parser.add_argument("--patients", type=int, help="of each hospital (default: all)")
    arguments = parser.parse_args()
    jobs = [
        job
        for job in plan_scans(read_recipe(Path("data/demo")))
        if job.site in INSTITUTIONS and job.session == 1 and job.patient <= (arguments.patients or job.patient)
    ]
    for number, job in enumerate(jobs):
        write_series(job, arguments.into / f"{number:04d}", f"{ROOT}.{number + 1}")
    labels = {"patient": [name_of(job) for job in jobs], "label": [job.row["label"] for job in jobs]}
    pd.DataFrame(labels).to_csv(arguments.into / "labels.csv", index=False)
    print(f"{len(jobs)} series of as many patients in {arguments.into}")


def name_of(job: Job) -> str:
    """Name a patient as a hospital would."""
    return f"{job.site[0].upper()}{job.patient:06d}"


def write_series(job: Job, folder: Path, uid: str) -> None:
    """Simulate a scan and write its axial slices."""
    image = nib.as_closest_canonical(simulate(job))
    voxels, affine = np.asarray(image.dataobj), image.affine
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(voxels.shape[2]):
        fields = slice_of(voxels[:, :, number].T.astype(np.uint16), affine, number, uid)
        fields.PatientID = fields.PatientName = name_of(job)
        fields.InstitutionName, fields.PatientSex = INSTITUTIONS[job.site], job.row["sex"]
        fields.save_as(folder / f"IM{number:04d}", enforce_file_format=True)


def slice_of(pixels: np.ndarray, affine: np.ndarray, number: int, uid: str) -> pydicom.Dataset:
    """Make one slice (rows, columns) at its place in space."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    fields: Any = pydicom.Dataset()
    fields.file_meta = meta
    meta.MediaStorageSOPClassUID = fields.SOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = fields.SOPInstanceUID = f"{uid}.2.{number + 1}"
    fields.StudyInstanceUID, fields.SeriesInstanceUID, fields.FrameOfReferenceUID = uid, f"{uid}.1", f"{uid}.3"
    fields.Modality, fields.SeriesDescription, fields.InstanceNumber = "MR", "T1 axial", number + 1
    across, down = (affine[:3, axis] * AXES for axis in (0, 1))
    spacing = [float(np.linalg.norm(down)), float(np.linalg.norm(across))]
    fields.ImageOrientationPatient = [round(float(x), 6) for x in (*across / spacing[1], *down / spacing[0])]
    fields.ImagePositionPatient = [round(float(x), 4) for x in (affine @ [0, 0, number, 1])[:3] * AXES]
    fields.PixelSpacing, fields.SliceThickness = [round(x, 6) for x in spacing], float(np.linalg.norm(affine[:3, 2]))
    fields.Rows, fields.Columns = pixels.shape
    fields.SamplesPerPixel, fields.PhotometricInterpretation = 1, "MONOCHROME2"
    fields.BitsAllocated = fields.BitsStored = 16
    fields.HighBit, fields.PixelRepresentation = 15, 0
    fields.PixelData = pixels.tobytes()
    return fields


if __name__ == "__main__":
    main()
