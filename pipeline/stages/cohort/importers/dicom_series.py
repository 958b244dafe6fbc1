"""Gather the files of a DICOM tree by series, and its segmentations."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset

from pipeline.imaging.masks.reading import SEGMENTATION
from pipeline.imaging.reading.dicom import ENDINGS, is_dicom, read_fields
from pipeline.imaging.reading.dicom_identity import IDENTITY, content_of
from pipeline.stages.cohort.importers.dicom_facts import facts_of, is_capture, why_left_out
from pipeline.stages.cohort.importers.dicom_headers import text_of, why_not_copied
from pipeline.stages.cohort.importers.found import Import, Watch, is_noise, why_no_image
from pipeline.stages.cohort.importers.places import Places


@dataclass(frozen=True)
class Segmentation:
    """Hold what a DICOM segmentation states of the series that it was drawn on.

    Attributes
    ----------
    file : Path
    uid : str
        Its own SOPInstanceUID.
    series : frozenset of str
        SeriesInstanceUIDs in its ReferencedSeriesSequence.
    images : frozenset of str
        SOPInstanceUIDs to which it refers, there or as the source of a frame.
    segments : tuple of (number, label)
    """

    file: Path
    uid: str
    series: frozenset[str]
    images: frozenset[str]
    segments: tuple[tuple[int, str], ...]

    def scans_among(self, scans: Sequence["Series"]) -> list[int]:
        """Find the positions of the series with an image it refers to; if none has, of those whose UID it names."""
        by_image = [number for number, one in enumerate(scans) if not self.images.isdisjoint(one.contents)]
        return by_image or [number for number, one in enumerate(scans) if one.facts["series"] in self.series]


@dataclass
class Series:
    """Hold the images of one series, patient and frame of reference.

    Attributes
    ----------
    identity : dict
        Values of `IDENTITY`; empty where no file states one.
    facts : dict
        Attributes of the first file, as `facts_of` returns them.
    is_marked : bool
        Whether the header declares burned-in text (BurnedInAnnotation).
    files : list of Path
        Each image once.
    contents : dict
        What `content_of` says of the images by SOPInstanceUID, where two files share one.
    """

    identity: dict[str, str]
    facts: dict[str, str]
    is_marked: bool
    files: list[Path] = field(default_factory=list)
    contents: dict[str, dict[str, Path]] = field(default_factory=dict)

    def agrees(self, identity: Mapping[str, str]) -> bool:
        """Tell whether an image belongs here: nothing that both state differs."""
        return all(not (one and self.identity[name]) or one == self.identity[name] for name, one in identity.items())

    def add(self, file: Path, fields: Dataset, identity: Mapping[str, str]) -> bool:
        """Add a file, or return False if it holds an image once more."""
        self.identity |= {name: one for name, one in identity.items() if one}
        sharing = self.contents.setdefault(text_of(fields, "SOPInstanceUID"), {})
        if "" in sharing:  # the only file so far, whose content was not needed
            first = sharing.pop("")
            sharing[content_of(first, read_fields(first))] = first
        if (content := content_of(file, fields) if sharing else "") in sharing:
            return False
        sharing[content] = file
        self.files.append(file)
        return True


def gather(
    places: Places, link: bool, found: Import, watch: Watch
) -> tuple[dict[str, list[Series]], dict[str, Segmentation]]:
    """Group the DICOM files by series UID and identity, in order of path; record all other files as left out.

    Segmentations are apart, by their own UID.
    """
    gathered: dict[str, list[Series]] = {}
    segmentations: dict[str, Segmentation] = {}
    files = places.files()
    places.check(files)
    for file in watch(files, "read headers"):
        name = file.relative_to(places.folder)
        is_candidate = not is_noise(name) and (is_dicom(file) or file.suffix.lower() in ENDINGS)
        reason = _add(file, link, gathered, segmentations) if is_candidate else why_no_image(file, "not a DICOM file")
        if reason:
            found.left_out.append((str(name), reason))
    return gathered, segmentations


def _add(file: Path, link: bool, gathered: dict[str, list[Series]], segmentations: dict[str, Segmentation]) -> str:
    """Add a file to its series or the segmentations, or return the reason to leave it out."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of pydicom quote header values
            fields = read_fields(file)
            if _is_segmentation(fields):
                one = _segmentation_of(file, fields)
                return (
                    "" if segmentations.setdefault(one.uid, one) is one else "another file holds the same segmentation"
                )
            reason = why_left_out(fields) or ("" if link else why_not_copied(fields))
            if reason:
                return reason
            if link and not is_dicom(file):
                return "it has no preamble, and is not read without; leave out --link, so that its copy gets one"
            added = _series_of(fields, gathered).add(file, fields, _identity_of(fields))
    except Exception as error:  # pydicom raises any exception on a broken file
        return f"it cannot be read ({type(error).__name__})"
    return "" if added else "another file holds the same image"


def _identity_of(fields: Dataset) -> dict[str, str]:
    return {name: text_of(fields, name) for name in IDENTITY} | {"capture": "yes" if is_capture(fields) else "no"}


def _series_of(fields: Dataset, gathered: dict[str, list[Series]]) -> Series:
    """Find the series to which an image belongs, or begin one."""
    of_uid, identity = gathered.setdefault(text_of(fields, "SeriesInstanceUID"), []), _identity_of(fields)
    for series in of_uid:
        if series.agrees(identity):
            return series
    of_uid.append(Series(identity, facts_of(fields), text_of(fields, "BurnedInAnnotation") == "YES"))
    return of_uid[-1]


def _is_segmentation(fields: Dataset) -> bool:
    """Tell whether a file is a DICOM segmentation, whatever modality it states."""
    return text_of(fields, "SOPClassUID") in SEGMENTATION


def _segmentation_of(file: Path, fields: Dataset) -> Segmentation:
    """Read the references of a segmentation."""
    series = {text_of(one, "SeriesInstanceUID") for one in fields.get("ReferencedSeriesSequence", [])}
    segments = [
        (int(one.get("SegmentNumber", 0)), text_of(one, "SegmentLabel")) for one in fields.get("SegmentSequence", [])
    ]
    uid, images = text_of(fields, "SOPInstanceUID"), frozenset(_referenced(fields))
    return Segmentation(file, uid, frozenset(series - {""}), images, segments=tuple(segments))


def _referenced(fields: Dataset) -> Iterator[str]:
    """Yield the SOPInstanceUIDs of references in sequences at any depth."""
    for element in fields:
        if element.keyword == "ReferencedSOPInstanceUID":
            yield str(element.value)
        elif element.VR == "SQ":
            for item in element.value:
                yield from _referenced(item)
