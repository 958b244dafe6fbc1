"""An archive that speaks DICOMweb: search by QIDO-RS, retrieve by WADO-RS, store by STOW-RS (PS3.18)."""

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient

from pipeline.commands.dicom_objects import Objects
from pipeline.commands.listen.series import Away, Failed, Series
from pipeline.errors import UserError

SECONDS = 60  # for an answer of the archive
CODES = {  # of the attributes that are asked for
    "study": "0020000D",
    "name": "0020000E",
    "patient": "00100020",
    "accession": "00080050",
    "modality": "00080060",
    "description": "0008103E",
    "date": "00080020",
    "state": "00201209",
}
AWAY = (408, 429, 502, 503, 504)
ORIGINAL = (("application/dicom", "*"),)  # in the transfer syntax in which it is stored
USER, PASSWORD, TOKEN = (f"MEDADAPT_ARCHIVE_{name}" for name in ("USER", "PASSWORD", "TOKEN"))


class Archive:
    """A DICOMweb server.

    Parameters
    ----------
    url : str
    since : str
        Earliest date of a study, e.g. "20261101"; "" for any date.

    Raises
    ------
    UserError
        If credentials would leave this machine unencrypted.
    """

    def __init__(self, url: str, since: str = "") -> None:
        session = requests.Session()
        session.trust_env = True  # REQUESTS_CA_BUNDLE
        if user := os.environ.get(USER):
            session.auth = (user, os.environ.get(PASSWORD, ""))
        headers = {"Authorization": f"Bearer {token}"} if (token := os.environ.get(TOKEN)) else None
        if not is_private(url):
            if user or token:
                raise UserError(f"--archive: {url} is not encrypted, and credentials are set; use https")
            print(f"--archive: {url} is not encrypted: images and results can be read on their way; use https")
        self.client = DICOMwebClient(url, session=session, headers=headers, timeout=SECONDS)
        self.since = since

    def series(self) -> list[Series]:
        """List the series of all studies since the date."""
        with translated():
            found = self.client.search_for_series(
                fields=list(CODES.values()),
                search_filters={"StudyDate": f"{self.since}-"} if self.since else None,
                get_remaining=True,
            )
        return [series_of(one) for one in found]

    def fetch(self, series: Series, folder: Path) -> None:
        """Retrieve the instances of a series into a folder."""
        with translated():
            for number, one in enumerate(self.client.iter_series(series.study, series.name, media_types=ORIGINAL)):
                one.save_as(folder / f"{number:06}.dcm", enforce_file_format=True)

    def store(self, series: Series, objects: Objects, name: str) -> None:
        """Store the objects that the archive does not hold."""
        with translated():
            missing = [one for one in objects.of_kind.values() if not self._holds(series, str(one.SOPInstanceUID))]
            if not missing:
                return
            response = self.client.store_instances(missing, series.study)
        if refused := response.get("FailedSOPSequence"):
            code = refused[0].get("FailureReason", 0)
            raise Failed(f"the archive does not take {len(refused)} results (failure reason {code:#06x})")

    def _holds(self, series: Series, instance: str) -> bool:
        filters = {"SOPInstanceUID": instance}
        return bool(self.client.search_for_instances(series.study, search_filters=filters, limit=1))


@contextmanager
def translated() -> Iterator[None]:
    """Tell an archive that is away from one that refuses; texts of the server are not repeated.

    Raises
    ------
    Away, Failed
    UserError
        If the archive wants other credentials, or its certificate cannot be verified.
    """
    try:
        yield
    except requests.exceptions.SSLError as error:
        said = "its certificate cannot be verified; set REQUESTS_CA_BUNDLE to the file of the hospital's authority"
        raise UserError(f"--archive: {said}") from error
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise Away(type(error).__name__) from error
    except requests.HTTPError as error:
        code = error.response.status_code if error.response is not None else 0
        if code in (401, 403):
            said = f"the archive does not let us in (HTTP {code}); set {USER} and {PASSWORD}, or {TOKEN}"
            raise UserError(f"--archive: {said}") from error
        raise (Away if code in AWAY else Failed)(f"HTTP {code}") from error
    except UserError:
        raise
    except Exception as error:  # pydicom raises errors of any type on what it cannot read
        raise Failed(f"what it delivers cannot be read ({type(error).__name__})") from error


def series_of(attributes: dict[str, Any]) -> Series:
    """Read a series of an answer to QIDO-RS."""
    found: dict[str, Any] = {name: value_of(attributes, code) for name, code in CODES.items()}
    return Series(**found)


def value_of(attributes: dict[str, Any], code: str) -> str:
    """Read an attribute of the DICOM JSON model (PS3.18, F.2); "" without a value."""
    values = attributes.get(code, {}).get("Value") or [""]
    return str(values[0] or "")


def is_private(url: str) -> bool:
    """Tell whether a connection is encrypted, or does not leave this machine."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"--archive: {url} is no address of a DICOMweb server, such as https://pacs.example/dicom-web")
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        return False
