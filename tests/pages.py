"""The shell blocks of the documentation, as commands that can be run."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.clones import edit, fresh_clone
from tests.conftest import ROOT

FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = ("medadapt", "dvc", "git", "make", "python", "torchrun", "docker", "pip", "sed", "echo")


def blocks_of(page: Path, language: str) -> list[str]:
    """List the fenced blocks of a page in a language; one without a language shows a file or an output."""
    return [block for named, block in FENCED.findall(page.read_text()) if named == language]


def settings_of(page: Path) -> Iterator[dict]:
    """Read the YAML blocks of a page, which are parts of params.yaml."""
    return map(yaml.safe_load, blocks_of(page, "yaml"))


def commands_of(block: str) -> Iterator[str]:
    """Split a shell block into its commands; a command goes on after a backslash and inside quotes."""
    command = ""
    for line in block.split("\n"):
        command += line + "\n"
        try:
            words = shlex.split(command, comments=True)
        except ValueError:  # a quotation is not closed
            continue
        if not line.endswith("\\"):
            if words:
                yield command.strip()
            command = ""
    assert not command.strip(), f"not a whole command: {command}"


@dataclass
class Ran:
    """A command that ended, or was stopped where it showed that it works."""

    command: str
    code: int
    said: str


@dataclass
class Reader:
    """Somebody in a folder who types what a page says."""

    folder: Path
    environment: dict[str, str]
    ran: list[Ran] = field(default_factory=list)

    def types(self, command: str, until: str | None = None) -> Ran:
        """Run a command to its end, or press Ctrl+C when it prints `until`."""
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        said = []
        with subprocess.Popen(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, stdout=pipe, stderr=both, text=True
        ) as process:
            for line in process.stdout or ():
                said.append(line)
                if until is not None and until in line:
                    time.sleep(1)
                    process.send_signal(signal.SIGINT)
        self.ran.append(Ran(command, process.returncode, "".join(said)))
        return self.ran[-1]

    def failed(self, besides: Sequence[str] = ()) -> list[Ran]:
        """List the commands that did not end with 0, without those that the page says may stop."""
        return [one for one in self.ran if one.code and one.command not in besides]


def newcomer(folder: Path, programs: Path, settings: dict) -> Reader:
    """Clone with small settings and with the environment that `make env` would build."""
    fresh_clone(folder)
    edit(folder / "params.yaml", settings)
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(programs)
    (folder / ".venv/.installed").touch()
    own = {"MEDADAPT_KEYS": str(folder.parent / "keys"), "MEDADAPT_WORKERS": "1", "PYTHONPATH": str(ROOT)}
    git = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return Reader(folder, {**os.environ, **own, **git, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"})
