"""Several lesions of one image: a case each, with a mask of its own, and the patient stays the unit."""

import numpy as np
import pandas as pd
from PIL import Image

from pipeline import paths
from pipeline.__main__ import main
from tests.stages.clinic import RAW
from tests.stages.running import FOLDS, refusal, run


def write_two_lesions(folder, patients=30):
    """One image of each patient with two lesions, each with a mask and a class of its own."""
    rng, rows = np.random.default_rng(0), []
    for patient in range(patients):
        pixels = rng.normal(80, 15, (60, 60)) + np.kron(rng.normal(0, 25, (5, 5)), np.ones((12, 12)))
        for lesion, (row, column) in enumerate([(8, 8), (35, 35)]):
            ill, mask = rng.random() < 0.5, np.zeros((60, 60), np.uint8)
            pixels[row : row + 12, column : column + 12] += 60 * ill
            mask[row : row + 12, column : column + 12] = 1
            Image.fromarray(mask).save(folder / f"m{patient}_{lesion}.png")
            site = ["inside", "next door", "outside"][patient % 3]
            known = (f"p{patient}", f"i{patient}.png", f"m{patient}_{lesion}.png", ["well", "ill"][ill], site)
            rows.append((f"c{patient}_{lesion}", *known, "test" if site == "outside" else ""))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"i{patient}.png")
    columns = ["case_id", "patient_id", "image", "mask", "label", "site", "split"]
    table = pd.DataFrame(rows, columns=columns)
    table.to_csv(folder / "cohort.csv", index=False)
    return table


def test_two_lesions_of_one_image_are_two_cases_of_one_patient(project, capsys):
    write = project
    write_two_lesions(write(preprocess__mask="crop", preprocess__mask_margin_mm=3.0) / RAW)
    run("cohort", "preprocess", "split")
    folds = [pd.read_csv(paths.split(fold)) for fold in FOLDS]
    assert all(one.groupby("patient")["role"].nunique().max() == 1 for one in folds) and len(folds[0]) == 60
    assert pd.read_csv(paths.DUPLICATES).empty
    write(preprocess__mask="none")
    run("cohort", "preprocess")
    assert "labels contradict, one patient" in refusal(capsys, "split")


def test_import_takes_two_masks_of_one_image(project, tmp_path, capsys):
    write_two_lesions(tmp_path, patients=4)
    source = f"import csv {tmp_path}/cohort.csv --patient patient_id --mask mask --into data/raw/lesions"
    project()
    assert main(source.split()) == 0
    table = pd.read_csv("data/raw/lesions/cohort.csv")
    assert len(table) == 8 and table["case_id"].is_unique and table["image"].nunique() == 4
    assert "i0.png#2" in set(table["case_id"]) and table["mask"].nunique() == 8
    assert main(f"{source}2 --link".split()) == 0
    refused = f"import csv {tmp_path}/cohort.csv --patient patient_id --into data/raw/other"
    assert "name a mask of its own" in refusal(capsys, refused)
