"""Small images of every kind, made on the fly."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

SHAPE = (6, 7)


def write_image(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), dtype=np.uint8)).save(file)
    return file


def volume(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.random.default_rng(0).integers(0, 255, (4, 5, 6)).astype(np.int16), np.eye(4)), file)
    return file


def dicom_image(number: int = 1, *, pixels: np.ndarray | None = None, **more: object) -> pydicom.Dataset:
    """One slice of a CT series; keywords of DICOM change or add attributes, None removes one."""
    fields = pydicom.Dataset()
    fields.SOPClassUID = CTImageStorage
    fields.SOPInstanceUID = f"1.2.3.4.{number}"
    fields.SeriesInstanceUID, fields.StudyInstanceUID, fields.FrameOfReferenceUID = "1.2.3.4", "1.2.3", "1.2.9"
    fields.PatientID, fields.PatientName, fields.Modality = "P1", "Doe^Jane", "CT"
    fields.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    fields.ImagePositionPatient, fields.ImageOrientationPatient = [-10, 5, 2.5 * number], [1, 0, 0, 0, 1, 0]
    fields.PixelSpacing, fields.SliceThickness, fields.InstanceNumber = [0.5, 0.75], 2.5, number
    fields.RescaleSlope, fields.RescaleIntercept = 1, -1024
    pixels = np.random.default_rng(number).integers(0, 4000, SHAPE).astype(np.uint16) if pixels is None else pixels
    fields.Rows, fields.Columns = pixels.shape[:2]
    fields.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    fields.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        fields.PlanarConfiguration = 0
    fields.BitsAllocated = fields.BitsStored = pixels.itemsize * 8
    fields.HighBit, fields.PixelRepresentation = fields.BitsStored - 1, int(pixels.dtype.kind == "i")
    fields.PixelData = pixels.tobytes()
    fields["PixelData"].VR = "OW"
    for keyword, value in more.items():
        if value is None:
            del fields[keyword]
        else:
            setattr(fields, keyword, value)
    fields.file_meta = FileMetaDataset()
    fields.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return fields


def save(fields: pydicom.Dataset, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    fields.file_meta.MediaStorageSOPClassUID = fields.SOPClassUID
    fields.file_meta.MediaStorageSOPInstanceUID = fields.SOPInstanceUID
    fields.save_as(file, enforce_file_format=True)
    return file


def dicom_series(folder: Path, count: int = 4, **more: object) -> Path:
    """A series of `count` slices in a folder; the images of different series have different UIDs."""
    series = str(more.get("SeriesInstanceUID", "1.2.3.4"))
    for number in range(1, count + 1):
        save(dicom_image(number, **({"SOPInstanceUID": f"{series}.{number}"} | more)), folder / f"{number}.dcm")
    return folder
