"""A series that may be answered, and where it comes from."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pipeline.commands.dicom_objects import Objects

OURS = "Research use only:"  # begin of the descriptions of our own series


class Away(Exception):
    """The archive cannot be reached now; the message says why."""


class Failed(Exception):
    """The archive does not deliver a series, or does not take its results; the message says why."""


@dataclass(frozen=True)
class Series:
    """A series of an archive, or the files of one in a folder.

    Attributes
    ----------
    name : str
        Its UID, or the path of a file that belongs to none.
    study, patient, accession, modality, description, date : str
        As the archive states them; "" if unknown.
    state : str
        Changes while the series arrives, as the number of its instances does.
    files : tuple of Path
        In a folder.
    """

    name: str
    study: str = ""
    patient: str = ""
    accession: str = ""
    modality: str = ""
    description: str = ""
    date: str = ""
    state: str = ""
    files: tuple[Path, ...] = field(default=(), repr=False)

    @property
    def is_ours(self) -> bool:
        """Whether it is a result that this program stored."""
        return self.description.startswith(OURS)


class Place(Protocol):
    """Where series come from and results go to."""

    def series(self) -> Iterable[Series]:
        """List all series; raise Away if that is not possible now."""

    def fetch(self, series: Series, folder: Path) -> None:
        """Put the files of a series into an empty folder; raise Away or Failed."""

    def store(self, series: Series, objects: Objects, name: str) -> None:
        """Store the objects that are not there yet; raise Away or Failed."""
