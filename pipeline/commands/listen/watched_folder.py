"""A folder into which scans are put, instead of an archive."""

import os
from pathlib import Path

from pipeline.commands.dicom_objects import Objects
from pipeline.commands.listen.series import Failed, Series
from pipeline.commands.series_files import Known, header_of
from pipeline.imaging.tables.scan_list import documents_in


class WatchedFolder:
    """Series of a folder, whatever its folders and names; a file that belongs to no series stands for itself.

    Parameters
    ----------
    folder, results : Path
        Where scans appear, and where the objects of their results go.
    """

    def __init__(self, folder: Path, results: Path) -> None:
        self.folder, self.results = folder, results
        self._headers: dict[tuple[Path, str], tuple[str, Known]] = {}

    def series(self) -> list[Series]:
        """Group the files by the series that they state."""
        documents, groups = set(documents_in(self.folder)), dict[str, list[tuple[Path, str, Known]]]()
        for file in sorted(self.folder.rglob("*")):
            name = file.relative_to(self.folder).as_posix()
            if file.is_dir() or file.name.startswith(".") or name in documents or self.results in file.parents:
                continue
            try:
                stat = file.stat()
                state = f"{stat.st_size} {stat.st_mtime_ns}"
                series, known = self._header(file, state)
            except OSError:  # moved away, or closed to this user
                continue
            groups.setdefault(series or f"{name} {state}", []).append((file, state, known))
        return [
            Series(name, state="; ".join(state for _, state, _ in group), files=files, **group[0][2])
            for name, group in groups.items()
            if (files := tuple(file for file, _, _ in group))
        ]

    def _header(self, file: Path, state: str) -> tuple[str, Known]:
        """Read the series of a file and what it states, once while the file stays as it is."""
        if (file, state) not in self._headers:
            self._headers[file, state] = header_of(file)
        return self._headers[file, state]

    def fetch(self, series: Series, folder: Path) -> None:
        """Link the files into a folder."""
        for number, file in enumerate(series.files):
            (folder / f"{number:06}{''.join(file.suffixes[-2:])}").symlink_to(file.resolve())

    def store(self, series: Series, objects: Objects, name: str) -> None:
        """Write the objects as files that are complete or absent."""
        try:
            for kind, one in objects.of_kind.items():
                final = self.results / f"{name}_{kind}.dcm"
                partial = final.with_suffix(".partial")
                with partial.open("wb") as stream:
                    one.save_as(stream, enforce_file_format=True)
                    stream.flush()
                    os.fsync(stream.fileno())
                partial.replace(final)
        except OSError as error:
            raise Failed(f"{self.results} cannot be written to ({error.strerror})") from error
