"""A project of its own in an empty folder: a few images of two sites, a tiny encoder, seconds to run."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from PIL import Image

from pipeline import paths
from tests.conftest import ROOT, TINY_ENCODER


def write_images(folder, patients=24, seed=0):
    """Bright blobs are ill; the site called outside is darker; every third patient has two images."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        site = ["inside", "next door", "outside"][patient % 3]
        ill = patient // 3 % 2 == 1
        for image in range(1 + (patient % 4 == 0)):
            pixels = rng.normal(60 if site == "outside" else 90, 15, (40, 48))
            if ill:
                row, column = rng.integers(8, 24, 2)
                pixels[row : row + 12, column : column + 12] += 90
            name = f"Doe_{patient:02d}_{image}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
            label = "ill" if ill else "well"
            rows.append((name, f"Jane Doe {patient}", name, label, site, "test" if site == "outside" else ""))
    table = pd.DataFrame(rows, columns=["case_id", "patient_id", "image", "label", "site", "split"])
    table.to_csv(folder / "cohort.csv", index=False)
    return table


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Change into a project with images; returns a function that writes params.yaml with changes."""
    return lay_out(tmp_path / "project", monkeypatch)


def lay_out(root, monkeypatch, patients=24):
    (root / "data" / "raw" / "clinic").mkdir(parents=True)
    write_images(root / "data" / "raw" / "clinic", patients)
    shutil.copy(ROOT / "dvc.yaml", root)
    torch.manual_seed(0)
    torch.save(timm.create_model(TINY_ENCODER).state_dict(), root / "weights.pt")
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["cohort"] = {"path": "data/raw/clinic", "public": False, "classes": ["well", "ill"], "positive": "ill"}
    values["preprocess"]["image_size"] = 32
    values["split"].update(n_folds=3, folds=[0, 1, 2, "final"], test="given", test_sites=[], validation_fraction=0.3)
    values["adapt"].update(encoder=TINY_ENCODER, weights="weights.pt")
    values["finetune"].update(strategy="lp_ft", epochs=2, views=1, trainable_stages=1)  # auto is tested by itself
    values["calibrate"].update(n_bootstrap=100, test="open", method="temperature", per_patient="none")
    values["calibrate"].update(subgroups=[], baseline=[])
    values["release"].update(name="ill_or_well", description="Ill or well.")
    values["release"].update(exports=[])  # tested by themselves: they take seconds
    values["evidence"].update(fractions=[0.5], draws=1, episodes=2, shots=[1])
    monkeypatch.chdir(root)
    monkeypatch.setenv("MEDADAPT_BACKEND", "threading")

    def write(**changes):
        for dotted, value in changes.items():
            section, key = dotted.split("__")
            values[section][key] = value
        (root / "params.yaml").write_text(yaml.safe_dump(values))
        return root

    write()
    return write


def write_status():
    """Stand in for release where there is no network to release."""
    unleaked = {"name": "no leak", "passed": True, "verdict": "Passed: no leak was found", "short_by": 0.0}
    events = {"name": "events", "passed": False, "verdict": "Failed: 12 events, 100 required", "short_by": 88.0}
    gates = [unleaked | {"detail": "none"}, events | {"detail": "12, not 100"}]
    bundle = paths.bundle("ill_or_well")
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / "STATUS").write_text("\n".join(["candidate", *map(json.dumps, gates)]) + "\n")
