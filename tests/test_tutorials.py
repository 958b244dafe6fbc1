"""Every command of the tutorials runs as it stands there, on small images and small settings."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.clones import edit, fresh_clone
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
BLOCK = re.compile(r"^```\n((?:medadapt|python|sed|git|make|echo).*?)^```", re.MULTILINE | re.DOTALL)
SMALL = {
    "preprocess": {"image_size": 32, "slices": 2},
    "adapt": {"encoder": "test_efficientnet", "weights": "none"},
    "evidence": {"fractions": [0.5], "draws": 1, "episodes": 2, "shots": [1]},
    "calibrate": {"n_bootstrap": 100},
    "release": {"exports": []},
}
LEAK = "13 patients of the official test set"  # the tutorial says that `plan` stops there


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDADAPT_KEYS", str(tmp_path / "keys"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "project"))
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@b")
    folder = fresh_clone(tmp_path / "project")
    edit(folder / "params.yaml", SMALL)
    return folder


def commands_of(page):
    """List the commands of a tutorial, without the installation."""
    text = (ROOT / "docs/tutorials" / page).read_text()
    return [line for block in BLOCK.findall(text) for line in block.strip().split("\n") if not line.startswith("make")]


def follow(folder, commands):
    """Run commands one after the other; return what each printed with its exit code."""
    found = []
    for command in commands:
        done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
        found.append((command, done.returncode, done.stdout + done.stderr))
    return found


def write_images(folder: Path) -> None:
    """Write images of 24 patients in the folders and with the table of COVID-CT; one patient is on both sides."""
    generator, rows = np.random.default_rng(0), []
    for number in range(48):
        label, patient = number % 2, number // 4 * 2 + number % 2
        name = "Images/CT_COVID/2020.01.24.919183-p27-132.png" if number == 1 else f"Images/{label}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 150 + 100 * label, (40, 40), np.uint8)).save(folder / name)
        split = "test" if patient > 17 or number == 0 else "train"
        rows.append({"file": name, "split": split, "label": label, "patient": f"Patient {patient}"})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)


def test_the_tutorial_of_png_files_can_be_followed_to_its_end(project):
    write_images(project.parent / "covid_ct")
    commands = commands_of("pngs.md")
    assert len(commands) > 12
    found = follow(project, commands)
    plans = [code for command, code, _ in found if command == "medadapt plan"]
    assert plans == [1, 0]
    assert [(command, said) for command, code, said in found if code and command != "medadapt plan"] == []
    assert "covid" in found[-1][2] and "model status: candidate" in found[-1][2]


def test_the_tutorial_of_a_dicom_export_can_be_followed_to_its_end(project):
    shutil.copy(ROOT / "data/demo/recipe.yaml", project / "data/demo")  # as many patients as the tutorial names
    commands = commands_of("dicom.md")
    assert len(commands) > 8
    found = follow(project, commands)
    assert [(command, said) for command, code, said in found if code] == []


def write_cells(folder: Path) -> None:
    """Write images and tables of two laboratories; the fifth class has one image in the first."""
    generator = np.random.default_rng(0)
    for number, (site, side, classes) in enumerate((("1", 40, [*"1234" * 6, "5"]), ("2", 60, [*"12345" * 3]))):
        (folder / f"dataset{site}").mkdir(parents=True)
        for image, label in enumerate(classes, start=1):
            pixels = generator.integers(0, 60 + 36 * int(label) - 20 * number, (side, side, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"dataset{site}/{image:03d}.png")
        table = pd.DataFrame({"image ID": range(1, len(classes) + 1), "class": classes})
        table.to_csv(folder / f"Class Labels of Dataset {site}.csv", index=False, lineterminator="\r\n")


def test_the_tutorial_of_two_laboratories_can_be_followed_to_its_end(project):
    write_cells(project.parent / "cells")
    commands = commands_of("two-sites.md")
    assert len(commands) > 12
    found = follow(project, commands)
    assert [code for command, code, _ in found if command == "medadapt plan"] == [1, 0]
    assert [(command, said) for command, code, said in found if code and command != "medadapt plan"] == []
    runs = [said for command, _, said in found if command == "medadapt run"]
    assert ["external validation" in said for said in runs] == [False, True, False]
