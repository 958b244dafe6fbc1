"""Every shell block of README, how-to and reference runs as it stands there, on small scans and small settings."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pages import PAGES, Reader, blocks_of, commands_of, newcomer
from tests.scenes import SCENES

pytestmark = pytest.mark.slow
SMALL = {
    "preprocess": {"image_size": 32, "slices": 2},
    "split": {"n_folds": 3, "folds": [0, 1, "final"]},
    "adapt": {"encoder": "test_efficientnet", "weights": "none"},
    "finetune": {"strategy": "probe"},
    "evidence": {"fractions": [0.5], "draws": 1, "episodes": 2, "shots": [1]},
    "calibrate": {"n_bootstrap": 100},
    "release": {"exports": []},
}
NEW_SITE = "needs scans or labels of a new site, and a model of more patients; tests/commands/predict gives this option"
NOT_RUN = {  # part of a command: why
    "make test": "runs this test, too",
    "medadapt encoders tf_efficientnet_lite1": "needs pretrained weights of hundreds of megabytes",
    "docker build": "downloads a base image and packages",
    "docker run": "needs the image of `docker build`",
    "MEDADAPT_ARCHIVE_USER": "credentials of an archive",
    "medadapt listen model.zip --archive": "needs the archive of a hospital; tests/commands/listen starts one",
    "HttpBindAddresses": "starts an archive on a port of this machine; tests/commands/listen starts one",
    "python application/application": "needs MONAI Deploy's SDK; tests/commands/package runs it where there is one",
    "--site-adapt": NEW_SITE,
    "--site-prevalence": NEW_SITE,
    "--site-recalibrate": NEW_SITE,
    "--adaptation": NEW_SITE,
    "--calibration": NEW_SITE,
}
UNTIL = {"medadapt serve": "open http://127.0.0.1"}  # commands without an end are stopped when they say this
ELSEWHERE = ("tutorials", "results", "decisions")  # tests/test_tutorials.py; benchmarks of hours
FOLLOWED = {page.name: page for page in PAGES if page.parent.name not in ELSEWHERE and blocks_of(page, "sh")}


@pytest.fixture(scope="module")
def left_by(warm, tmp_path_factory):
    """A function that follows a page, once, from where README ends, and returns who followed it."""
    top, readers = tmp_path_factory.mktemp("pages"), {}

    def follow(name: str) -> Reader:
        if name not in readers:
            place = top / name
            if name == "README.md":
                readers[name] = newcomer(place / "project", warm, SMALL)
            else:
                before = follow("README.md")
                shutil.copytree(before.folder.parent, place, symlinks=True)
                readers[name] = Reader(place / "project", before.environment)
            follow_blocks(FOLLOWED[name], readers[name], lambda page: follow(page).folder)
        return readers[name]

    return follow


def follow_blocks(page: Path, reader: Reader, left_by) -> None:
    """Type the commands of each block after its inputs were laid out."""
    scene = SCENES[page.name](reader, left_by) if page.name in SCENES else iter(())
    for block in blocks_of(page, "sh"):
        next(scene, None)
        for command in commands_of(block):
            if not any(one in words_of(command) for one in NOT_RUN):
                reader.types(command, next((said for one, said in UNTIL.items() if command.startswith(one)), None))


def words_of(command: str) -> str:
    """Take the comment off a command."""
    return " ".join(shlex.split(command, comments=True))


@pytest.mark.parametrize("name", FOLLOWED)
def test_every_command_of_a_page_does_what_the_page_says(left_by, name):
    reader = left_by(name)
    assert reader.ran or name == "choose-an-encoder.md"
    assert [(one.command, one.said[-3000:]) for one in reader.failed()] == []


def test_what_does_not_run_is_on_the_pages_and_can_be_parsed():
    printed = [
        command for page in FOLLOWED.values() for block in blocks_of(page, "sh") for command in commands_of(block)
    ]
    for part in NOT_RUN:
        found = [command for command in printed if part in words_of(command)]
        assert found, f"no page has {part!r} any more"
        for command in found:
            assert subprocess.run(["bash", "-n", "-c", command]).returncode == 0
