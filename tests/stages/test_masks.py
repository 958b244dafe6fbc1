"""Masks beside the images, from the cohort to `predict`, `verify` and MONAI's `run`."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import paths
from pipeline.__main__ import main
from tests.stages.conftest import lay_out
from tests.stages.running import FOLDS, computed, run

RAW = "data/raw/clinic"
CLINIC = f"{RAW}/cohort.csv"
BUNDLE = "data/released/ill_or_well"


def add_masks(root, only=None):
    """Mark in each image a blob: large ones are ill; write masks of label 1, with a spot of label 2 beside it."""
    rng = np.random.default_rng(1)
    folder = root / RAW
    table = pd.read_csv(folder / "cohort.csv", dtype=str, keep_default_na=False)
    (folder / "masks").mkdir(exist_ok=True)
    names = []
    for row in table.to_dict("records"):
        labels = np.zeros((40, 48), dtype=np.uint8)
        size = int(rng.integers(8, 12) if row["label"] == "ill" else rng.integers(4, 9))
        top, left = rng.integers(2, 24, 2)
        labels[top : top + size, left : left + size] = 1
        labels[38, 46] = 2
        name = f"masks/{row['image'].removesuffix('.png')}_mask.png"
        Image.fromarray(labels).save(folder / name)
        names.append(name if only is None or row["label"] == only else "")
    table.assign(mask=names).to_csv(folder / "cohort.csv", index=False)


def until_released(write, **changes):
    write(cohort__mask_labels=[1], adapt__method="none", release__exports=["onnx"], **changes)
    run("cohort", "preprocess", "split")
    for fold in FOLDS:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate", "evidence", "explain", "release", "report")


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Release a model that is cropped to masks, sees them as a channel, and takes features of them."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("masks") / "project"
        write = lay_out(root, patch)
        add_masks(root)
        until_released(
            write, preprocess__mask="both", preprocess__mask_margin_mm=3.0, cohort__inputs=["mask_area", "mask_mean"]
        )
        yield root


@pytest.fixture
def project(released, monkeypatch):
    monkeypatch.chdir(released)
    return released


def test_predict_gives_the_probability_that_was_evaluated(project):
    assert main(["predict", BUNDLE, CLINIC, "--out", "found.csv"]) == 0
    found = computed("found.csv")
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False).set_index("image")
    evaluated = paths.read_table(paths.PREDICTIONS)
    expected = sorted(evaluated.loc[evaluated["scope"] == "external", "probability_1"])
    outside = table[table["site"] == "outside"]
    assert sorted(found[outside.index]) == pytest.approx(expected, abs=1e-5)
