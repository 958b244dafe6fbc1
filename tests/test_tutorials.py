"""Every command of the tutorials runs as it stands there, on small images and small settings."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.pages import blocks_of, commands_of, newcomer

pytestmark = pytest.mark.slow
SMALL = {
    "preprocess": {"image_size": 32, "slices": 2},
    "adapt": {"encoder": "test_efficientnet", "weights": "none"},
    "evidence": {"fractions": [0.5], "draws": 1, "episodes": 2, "shots": [1]},
    "calibrate": {"n_bootstrap": 100},
    "release": {"exports": []},
}
LEAK = "13 patients of the official test set"  # the tutorial says that `plan` stops there


@pytest.fixture
def reader(tmp_path, warm):
    return newcomer(tmp_path / "project", warm, SMALL)


def follow(reader, page):
    """Type every command of a tutorial."""
    for block in blocks_of(ROOT / "docs/tutorials" / page, "sh"):
        for command in commands_of(block):
            reader.types(command)
    return reader.ran


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


def test_the_tutorial_of_png_files_can_be_followed_to_its_end(reader):
    write_images(reader.folder.parent / "covid_ct")
    ran = follow(reader, "pngs.md")
    assert [one.code for one in ran if one.command == "medadapt plan"] == [1, 0]
    assert reader.failed(besides=["medadapt plan"]) == [] and len(ran) > 12
    assert "covid" in ran[-1].said and "model status: candidate" in ran[-1].said


def test_the_tutorial_of_a_dicom_export_can_be_followed_to_its_end(reader):
    shutil.copy(ROOT / "data/demo/recipe.yaml", reader.folder / "data/demo")  # as many patients as the tutorial names
    assert len(follow(reader, "dicom.md")) > 8
    assert reader.failed() == []


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


def test_the_tutorial_of_two_laboratories_can_be_followed_to_its_end(reader):
    write_cells(reader.folder.parent / "cells")
    ran = follow(reader, "two-sites.md")
    assert [one.code for one in ran if one.command == "medadapt plan"] == [1, 0]
    assert reader.failed(besides=["medadapt plan"]) == [] and len(ran) > 12
    runs = [one.said for one in ran if one.command == "medadapt run"]
    assert ["external validation" in said for said in runs] == [False, True, False]
