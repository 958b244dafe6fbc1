"""Sort files into series by their headers, and leave out what is no scan."""

from collections import Counter
from pathlib import Path
from typing import Any

from pipeline.imaging.reading.dicom import is_dicom, read_fields
from pipeline.stages.cohort.importers.dicom_facts import is_capture, why_left_out

FIELDS = {
    "study": "StudyInstanceUID",
    "patient": "PatientID",
    "accession": "AccessionNumber",
    "modality": "Modality",
    "description": "SeriesDescription",
    "date": "StudyDate",
}
Known = dict[str, str]


def header_of(file: Path) -> tuple[str, Known]:
    """Read the series of a DICOM file, and what it states; "" and nothing for any other file."""
    if not is_dicom(file):
        return "", {}
    try:
        fields: Any = read_fields(file)
        known = {name: str(fields.get(keyword) or "") for name, keyword in FIELDS.items()}
        return str(fields.get("SeriesInstanceUID") or ""), known
    except Exception:  # pydicom raises errors of any type; the reader says later what is wrong with the file
        return "", {}


def without_others(folder: Path) -> Counter[str]:
    """Remove from a fetched series what is no scan, such as a localizer or a screenshot; count why."""
    dropped = Counter[str]()
    for file in sorted(folder.iterdir()):
        if why := why_no_scan(file):
            dropped[why] += 1
            file.unlink()
    return dropped


def why_no_scan(file: Path) -> str:
    """Say why a DICOM file is no part of a scan; "" for a scan, and for a file that cannot be read."""
    if not is_dicom(file):
        return ""
    try:
        fields = read_fields(file)
        return why_left_out(fields) or ("a secondary capture" if is_capture(fields) else "")
    except Exception:  # pydicom raises errors of any type
        return ""
