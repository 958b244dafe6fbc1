"""Made studies of a hospital: what a scanner, a workstation and a planning system send."""

import nibabel as nib
import numpy as np
import pydicom

from tests.imaging.phantoms import data_set, save, save_series

CAPTURE, REPORT, STRUCTURES = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("7", "88.11", "481.3"))
KINDS = ("scan", "scan", "ct", "localizer", "capture", "structures", "report", "broken")


def header_of(number):
    return {
        "StudyInstanceUID": f"1.2.826.1.{number}",
        "PatientID": f"canary-{number:04}",
        "PatientName": f"Canary^{number:04}",
        "AccessionNumber": f"ACC{number:04}",
        "StudyDate": "20261101",
        "FrameOfReferenceUID": f"1.2.826.1.{number}.9",
    }


def study(folder, number, scan):
    """Write a study of the kind of its number, with the voxels of a scan; return its kind."""
    kind, header = KINDS[number % len(KINDS)], header_of(number)
    series = f"{header['StudyInstanceUID']}.1"
    volume = np.asarray(nib.load(scan).dataobj).clip(0).astype(np.uint16)
    modality = "CT" if kind == "ct" else "MR"
    if kind in ("scan", "ct", "localizer", "broken"):
        save_series(folder, volume, SeriesInstanceUID=series, Modality=modality, **header)
    pixels = np.random.default_rng(number).integers(0, 255, (24, 24)).astype(np.uint8)
    if kind == "localizer":
        extra = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "InstanceNumber": 99}
        placed = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}
        save(data_set(pixels, SeriesInstanceUID=series, PixelSpacing=[1, 1], **header, **extra, **placed), folder / "L")
    elif kind == "capture":
        save(with_class(data_set(pixels, SeriesInstanceUID=series, **header), CAPTURE), folder / "C")
    elif kind in ("structures", "report"):
        fields = data_set(pixels, SeriesInstanceUID=series, **header)
        for name in ("PixelData", "Rows", "Columns"):
            del fields[name]
        fields.Modality = "RTSTRUCT" if kind == "structures" else "SR"
        save(with_class(fields, STRUCTURES if kind == "structures" else REPORT), folder / "D")
    elif kind == "broken":
        some = sorted(folder.iterdir())[4]
        fields = pydicom.dcmread(some)
        fields.PixelData = fields.PixelData[: len(fields.PixelData) // 3 // 2 * 2]
        save(fields, some)
    return kind


def with_class(fields, uid):
    fields.SOPClassUID = fields.file_meta.MediaStorageSOPClassUID = uid
    return fields
