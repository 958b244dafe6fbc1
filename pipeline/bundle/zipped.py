"""Unpack a zipped bundle safely: no paths outside its folder, no links, no zip bombs."""

import math
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipeline.bundle.manifest import MANIFEST, BrokenBundle, readable

# zipfile raises NotImplementedError for a compression that it does not know, RuntimeError for an encrypted file
UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, EOFError)
MOST_FILES = 1000
MOST_GIB = 2.0  # of all files together, unpacked
MOST_RATIO = 200  # of a file's size to its compressed size; text seldom exceeds 20
SMALL = 1 << 20  # files up to this size may have any ratio


@contextmanager
def unpacked(bundle: Path, most_gib: float = MOST_GIB) -> Iterator[Path]:
    """Yield the folder of a bundle; unpack a zip into a temporary folder that exists within the context.

    Parameters
    ----------
    bundle : Path
        A folder, or a zip that holds a bundle or one folder with a bundle (as `monai.bundle download` takes it).
    most_gib : float
        Largest size of all unpacked files in GiB.

    Raises
    ------
    BrokenBundle
        If the zip is broken, or an entry is not allowed.
    UnreadableBundle
        If the system does not let this user read it.
    """
    with readable(bundle):
        is_zip = bundle.is_file()
        if is_zip:
            bundle.open("rb").close()
    if not is_zip:
        yield bundle
        return
    with tempfile.TemporaryDirectory(prefix="medadapt-") as folder:
        try:
            with zipfile.ZipFile(bundle) as archive:
                unpack(archive, bundle, Path(folder), most_gib)
        except UNREADABLE as error:
            raise BrokenBundle(f"{bundle}: the zip cannot be unpacked ({error})") from error
        yield root_of(Path(folder))


def unpack(
    archive: zipfile.ZipFile, bundle: Path, folder: Path, most_gib: float, *, most_files: int = MOST_FILES
) -> None:
    """Write every file of an archive, after checking names, types and sizes of all of them."""
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        if why := objection(entry):
            raise BrokenBundle(f"{bundle}: '{entry.filename}' {why}; nothing was unpacked")
    if len(entries) > most_files:
        raise BrokenBundle(f"{bundle} holds {len(entries)} files, more than the allowed {most_files}")
    size = sum(entry.file_size for entry in entries) / 2**30
    if size > most_gib:
        raise BrokenBundle(
            f"{bundle} unpacks to {size:.1f} GiB, more than the allowed {most_gib:g}; nothing was unpacked. If you "
            f"expect a model of this size, allow it with --max-size {math.ceil(size)}"
        )
    if len({entry.filename.casefold() for entry in entries}) < len(entries):
        raise BrokenBundle(f"{bundle} holds two files of the same name; nothing was unpacked")
    for entry in entries:
        target = folder / entry.filename
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as packed, target.open("wb") as written:
            shutil.copyfileobj(packed, written)  # zipfile stops at the size that was declared, and checks the CRC


def objection(entry: zipfile.ZipInfo) -> str | None:
    """Tell what is wrong with an entry, if anything."""
    name = PurePosixPath(entry.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or ":" in entry.filename or "\\" in entry.filename:
        return "would be written outside of its folder"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind and not stat.S_ISREG(kind):
        return "is not a regular file"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.file_size > max(SMALL, MOST_RATIO * entry.compress_size):
        return "has an implausible compression ratio"
    return None


def root_of(folder: Path) -> Path:
    """Find the bundle: the folder itself, or the only entry in it."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and not (folder / MANIFEST).exists() else folder
