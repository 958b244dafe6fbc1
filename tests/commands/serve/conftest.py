"""A served page, as the command line starts it."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.commands.predict.conftest import limited  # noqa: F401 - a fixture
from tests.conftest import ROOT

MIB = 2**20


@dataclass
class Served:
    """A process that serves, its address and token, and the folder in which it may leave something."""

    process: Any
    address: str
    token: str
    scratch: Path

    def send(self, files, *, names=None, **headers):
        """Send files as the page does."""
        contents = [file if isinstance(file, bytes) else file.read_bytes() for file in files]
        named = names or [file.name for file in files]
        listed = json.dumps([[name, len(content)] for name, content in zip(named, contents, strict=True)])
        return self.post(b"\n".join([listed.encode(), b"".join(contents)]), **headers)

    def post(self, body, **headers):
        asked = {"X-Token": self.token} | {name.replace("_", "-"): value for name, value in headers.items()}
        return requests.post(f"{self.address}/answer", data=body, headers=asked, timeout=120)

    def left(self):
        """List what lies in the folder of uploads, beside its lock."""
        return [file for file in self.scratch.rglob("*") if file.is_file() and file.name != "lock"]

    def memory(self):
        """Largest resident memory of the process so far, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s*(\d+)", status)[1]) // 1024


def started(bundle, scratch, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "pipeline", "serve", str(bundle), *words]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in process.stdout:
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", line):
            return Served(process, found[1], found[2], scratch)
    raise RuntimeError("the server ended before it told its address")


@pytest.fixture(scope="module")
def served(limited, tmp_path_factory):  # noqa: F811 - the fixture
    """Serve the bundle with limits; uploads of up to 64 MiB."""
    one = started(limited[0], tmp_path_factory.mktemp("uploads"), "--max-upload", str(64 / 1024))
    yield one
    one.process.terminate()
    one.process.wait(timeout=60)
    deadline = time.time() + 10
    while list(one.scratch.iterdir()) and time.time() < deadline:
        time.sleep(0.1)
    assert not list(one.scratch.iterdir()), "uploads were left on the disk"
