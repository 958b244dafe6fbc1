"""What a user can do about a scan that cannot be read."""

from pipeline.imaging.reading.scan import Finding

AGAIN = "copy or export it again"
CURES = {
    "missing": "check the path",
    "unknown format": "convert it to NIfTI, DICOM, PNG or another of these",
    "frames": "save one volume or image per file",
    "mixed sizes": "keep one series in the folder",
    "mixed directions": "keep one series in the folder",
    "mixed spacing": "keep one series in the folder",
    "missing slices": "export the whole series again",
    "positions": "export the whole series again",
    "uneven repeats": "export the whole series again",
    "affine": "convert it from DICOM again",
    "affine conflict": "convert it from DICOM again",
    "orientation": "convert it from DICOM again",
    "spacing": "convert it from DICOM again",
    "too large": "check that it is one scan",
    "mask missing": "give its mask by --masks, or in the column mask of a list of scans",
    "mask unit": "give images like those, which state the size of a pixel, as DICOM does, or do not",
    "deface": "check that it shows a whole head",
}


def sentence_of(finding: Finding) -> str:
    """Say what is wrong with a scan and what to do, in one sentence."""
    if ";" in finding.detail:  # it names its cure
        return finding.detail
    return f"{finding.detail}; {CURES.get(finding.check, AGAIN)}"
