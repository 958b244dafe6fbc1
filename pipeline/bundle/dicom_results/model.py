"""What DICOM objects say of the model, and the identifiers of these objects."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pipeline.bundle.layout import METADATA
from pipeline.bundle.manifest import MANIFEST, sha256_of
from pipeline.bundle.opening import Opened
from pipeline.bundle.plain import read_plain

MAKER = "medadapt"
RESEARCH = "Research use only, not a medical device"
LONGEST = 64  # characters of a description, a label or the meaning of a code (VR LO)


@dataclass(frozen=True)
class Model:
    """Identify a released model, and how it is used here.

    Attributes
    ----------
    name, version : str
    sha256 : str
        Of the bundle's manifest, which holds the hash of every file.
    status : str
        "validated" or "candidate".
    rule : str
        How probabilities become a decision; empty without an operating point.
    settings : str
        What else changes an answer, such as the digest of a site's limits.
    """

    name: str
    version: str
    sha256: str
    status: str
    rule: str = ""
    settings: str = ""

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"

    @property
    def equipment(self) -> dict[str, Any]:
        """Say which device made an object (PS3.3, C.7.5.1), as the constructors of highdicom name the attributes."""
        return {
            "manufacturer": MAKER,
            "manufacturer_model_name": shortened(self.title),
            "software_versions": self.version,
            "device_serial_number": self.sha256,
        }


def model_of(bundle: Opened, settings: str = "") -> Model:
    """Read name, version and hash of a bundle whose hashes were checked."""
    metadata, point = read_plain(bundle.folder / METADATA), bundle.operating_point
    return Model(
        name=str(metadata["name"]),
        version=str(metadata["version"]),
        sha256=sha256_of(bundle.folder / MANIFEST),
        status=bundle.status,
        rule=point.rule if point else "",
        settings=settings,
    )


def uid_of(*parts: str) -> str:
    """Derive a UID from texts: the same texts give the same one (PS3.5, B.2: a UUID below 2.25).

    >>> uid_of("report", "1.2.3") == uid_of("report", "1.2.3") != uid_of("report", "1.2", "3")
    True
    """
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{UUID(bytes=digest[:16], version=4).int}"


def shortened(text: str, longest: int = LONGEST) -> str:
    """Cut a text to the length that an attribute allows."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def identity_of(model: Model, instances: Sequence[str], content: bytes, site: str = "") -> tuple[str, ...]:
    """List what identifies a result: the model, its settings, the instances, and what the network saw of them."""
    return (model.sha256, model.settings, site, *sorted(instances), hashlib.sha256(content).hexdigest())
