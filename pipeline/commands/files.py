"""Check the files that a user names, before any work is done."""

from pathlib import Path

from pipeline.errors import UserError
from pipeline.imaging.reading.access import access_error


def check_readable(path: str | Path, option: str = "") -> None:
    """Check that a file can be opened, or a folder listed.

    Raises
    ------
    UserError
        If it is missing, or this user may not read it.
    """
    try:
        if (found := Path(path)).is_dir():
            next(found.iterdir(), None)
        else:
            found.open("rb").close()
    except OSError as error:
        raise UserError(f"{option and option + ': '}{access_error(Path(path), error)}") from error
