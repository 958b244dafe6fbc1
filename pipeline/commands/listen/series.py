"""A series that may be answered, where it comes from, and the rule that selects it."""

from collections.abc import Collection, Iterable
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


@dataclass(frozen=True)
class Rule:
    """Which series are answered.

    Attributes
    ----------
    modalities : collection of str
    description : str
        Text that the description holds, in any case; "" for any description.
    since : str
        Earliest date of a study, e.g. "20261101"; "" for any date.
    """

    modalities: Collection[str]
    description: str = ""
    since: str = ""

    def objection(self, series: Series) -> str:
        """Say why a series is left out; "" if it is to be answered.

        >>> Rule(["MR"]).objection(Series("1.2.3", modality="SR"))
        'modality SR is not one of MR'
        """
        if series.modality and series.modality not in self.modalities:
            return f"modality {series.modality} is not one of {', '.join(self.modalities)}"
        if self.description.casefold() not in series.description.casefold():
            return f"its description does not hold '{self.description}'"
        if series.date and self.since and series.date < self.since:
            return f"its study is older than {self.since}"
        return ""
