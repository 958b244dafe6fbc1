"""Say in one sentence why a path cannot be read."""

from pathlib import Path


def in_utf8(name: str) -> str:
    r"""Write a name that is not UTF-8, as old archives bring them, with its odd bytes as \x codes.

    >>> in_utf8("K\udcf6ln.png")
    'K\\xf6ln.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def access_error(path: Path, error: OSError) -> str:
    """Name a path, why it cannot be read, and the cure.

    >>> access_error(Path("a.csv"), PermissionError(13, "Permission denied"))
    'a.csv cannot be read (permission denied); ask its owner for read access'
    """
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist; check the path"
    cure = "ask its owner for read access" if isinstance(error, PermissionError) else "check the path and the disk"
    return f"{path} cannot be read ({(error.strerror or type(error).__name__).lower()}); {cure}"
