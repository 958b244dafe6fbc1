"""Read and change the stored channels of prepared cases."""

import numpy as np

from pipeline import paths, prepared
from pipeline.packs import records_in, write_pack


def channels_of(case):
    return np.array(prepared.read_channels(case))


def change_channels(cases, change):
    """Store what a function makes of the channels of each case."""
    for case in cases:
        store_channels(case, change(channels_of(case)))


def store_channels(case, channels):
    """Store channels of a case among the others of its pack; None removes the case."""
    file = prepared.pack_of(paths.PREPARED_CASES, case)
    file.parent.mkdir(parents=True, exist_ok=True)
    content, entries = file.read_bytes() if file.exists() else b"", {}
    if content:
        with file.open("rb") as stream:
            entries = {record.name: content[record.start : record.end] for record in records_in(stream)}
    entries.pop(case, None)
    if channels is not None:
        entries[case] = prepared.as_npy(channels)
    write_pack(file, sorted(entries.items()))


def white(channels):
    return np.full_like(channels, 255)


def names_in(folder):
    """Name the entries of all packs of a folder."""
    found = set()
    for file in folder.glob("*.pack"):
        with file.open("rb") as stream:
            found |= {record.name for record in records_in(stream)}
    return found


def prepared_bytes():
    """Read every file of data/prepared, by its name."""
    files = (file for file in sorted(paths.PREPARED.rglob("*.*")) if file.is_file())
    return {file.relative_to(paths.PREPARED).as_posix(): file.read_bytes() for file in files}
