"""Find the images that a source names, and give each a safe place below the folder of the new cohort."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.stages.cohort.importers.found import BadSource, Import

CURE = "name a folder that holds all images with --root FOLDER"


@dataclass(frozen=True)
class Places:
    """Look up image paths, which are relative to a folder or absolute.

    Attributes
    ----------
    folder : Path
        Relative paths start here.
    root : Path or None
        Folder that holds all images, after all links are resolved. With None, the paths must stay below `folder`, but
        links may lead anywhere.
    """

    folder: Path
    root: Path | None = None

    def __post_init__(self) -> None:
        if self.root is not None and not self.root.is_dir():
            raise BadSource(f"--root: {self.root} is no folder")

    def locate(self, name: str) -> tuple[Path, str]:
        """Return the path of an image, and its place relative to `folder`, or to `root` if there is one.

        Raises
        ------
        BadSource
            If the image lies outside.
        """
        path = self.folder / name
        if self.root is None:
            below = os.path.relpath(os.path.abspath(path), os.path.abspath(self.folder))  # keeps links as they are
            if Path(below).parts[:1] in ((), ("..",)):
                raise BadSource(f"{name} lies outside {self.folder}; {CURE}")
            return path, below if Path(name).is_absolute() or ".." in Path(name).parts else name
        self.check([path])
        root = self.root.resolve()
        named = path.parent.resolve() / path.name  # keeps the name and ending of a link
        place = named if named.is_relative_to(root) else path.resolve()
        return path, str(place.relative_to(root))

    def take(self, found: Import, path: Path, row: dict[str, str]) -> None:
        """Add an image to `found`, or leave it out with the reason; raise BadSource if a file lies outside `root`."""
        before = len(found.cases)
        found.take(path, row)
        self.check(
            source for case in found.cases[before:] for source in case.parts.values() if isinstance(source, Path)
        )

    def check(self, files: Iterable[Path]) -> None:
        """Raise BadSource if a file lies outside `root` after all links are resolved."""
        if self.root is None:
            return
        for file in files:
            if not file.resolve().is_relative_to(self.root.resolve()):
                where = "" if file.resolve() == file.absolute() else f" (it leads to {file.resolve()})"
                raise BadSource(f"{file}{where} lies outside --root {self.root}; {CURE}")

    def files(self) -> list[Path]:
        """List all files and links below `folder`; links to folders are followed only if they lead below `root`."""
        return sorted(self._files(self.folder))

    def _files(self, folder: Path) -> Iterable[Path]:
        for path in folder.iterdir():
            if not path.is_dir() or (path.is_symlink() and not self._may_follow(path)):
                yield path
            else:
                yield from self._files(path)

    def _may_follow(self, link: Path) -> bool:
        if self.root is None or link.parent.resolve().is_relative_to(link.resolve()):  # the latter has no end
            return False
        self.check([link])
        return True
