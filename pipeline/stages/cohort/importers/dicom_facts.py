"""Extract patient, site and acquisition for the cohort table from a DICOM header, before de-identification."""

import re
from datetime import datetime

from pydicom import Dataset

from pipeline.stages.cohort.importers.dicom_headers import patient_of, text_of

NO_SCANS = {
    "SEG": "a segmentation",
    "SR": "a report",
    "PR": "a way of showing other images",
    "KO": "a selection of other images",
    "RTDOSE": "a map of dose",
}
CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # Secondary Capture, of one or several frames
DAYS_A_YEAR = 365.25
YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / DAYS_A_YEAR, "D": 1 / DAYS_A_YEAR}


def why_left_out(fields: Dataset) -> str:
    """Return the reason to leave a file out of the cohort, or an empty string."""
    modality = text_of(fields, "Modality")
    if "DirectoryRecordSequence" in fields:
        return "a DICOMDIR, which only lists other files"
    if modality in NO_SCANS:
        return f"{NO_SCANS[modality]} ({modality})"
    if "Rows" not in fields:
        return f"no pixels ({modality or 'of no modality'})"
    if "LOCALIZER" in list(fields.get("ImageType") or []):
        return "a localizer"
    if not text_of(fields, "SeriesInstanceUID"):
        return "it names no series (SeriesInstanceUID)"
    return ""


def is_capture(fields: Dataset) -> bool:
    """Tell whether an image is a secondary capture: a screenshot, a report, or a digitised photograph."""
    return text_of(fields, "SOPClassUID").startswith(CAPTURE)


def facts_of(fields: Dataset) -> dict[str, str]:
    """Collect ids, sites and subgroup attributes of a series; missing values are empty strings."""
    manufacturer, model = text_of(fields, "Manufacturer"), text_of(fields, "ManufacturerModelName")
    return {
        "patient": patient_of(fields),
        "study": text_of(fields, "StudyInstanceUID"),
        "series": text_of(fields, "SeriesInstanceUID"),
        "accession": text_of(fields, "AccessionNumber"),
        "institution": " ".join(text_of(fields, "InstitutionName").split()),
        "station": text_of(fields, "StationName"),
        "scanner": f"{manufacturer} {model}".strip(),
        "modality": text_of(fields, "Modality"),
        "sex": text_of(fields, "PatientSex"),
        "age": age_of(fields),
        "manufacturer": manufacturer,
        "model": model,
    }


def age_of(fields: Dataset) -> str:
    """Compute the age in years from PatientAge or the dates of birth and study ("45", "0.5"); empty if unknown."""
    stated = re.fullmatch(r"(\d{1,3})([DWMY])", text_of(fields, "PatientAge"))
    if stated:
        years = int(stated[1]) * YEARS[stated[2]]
    else:
        try:
            born, seen = (
                datetime.strptime(text_of(fields, name), "%Y%m%d") for name in ("PatientBirthDate", "StudyDate")
            )
        except ValueError:
            return ""
        years = (seen - born).days / DAYS_A_YEAR // 1
    return f"{years:.1f}".removesuffix(".0") if years >= 0 else ""
