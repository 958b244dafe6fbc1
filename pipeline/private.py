"""Keep what holds original names of patients and files readable by its owner only."""

from contextlib import suppress
from pathlib import Path

STATE_OF_DVC = Path(".cache")  # as in .dvc/config


def keep_state_private() -> None:
    """Let only its owner read the state of DVC, which holds the original names of files.

    DVC would keep it in a folder of the machine that all accounts can read; `.dvc/config` puts it into the project.
    """
    if Path(".dvc").is_dir():
        make_private(STATE_OF_DVC)


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can read, or take the rights of others away."""
    with suppress(OSError):  # a project that cannot be written, or that belongs to another user
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
