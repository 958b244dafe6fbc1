"""Act as a user who owns nothing here."""

import codecs
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534
for name in ("cp437", "utf-8-sig"):  # imported late, when the other user may not be allowed to read root's Python
    codecs.lookup(name)


@contextmanager
def another_user() -> Iterator[None]:
    """Become another user within the context; without root stay the same one, for whom mode 0 is closed as well."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can enter and only its owner can write to; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="medadapt-test-"))
    folder.chmod(0o755)
    yield folder
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o700)
    shutil.rmtree(folder)
