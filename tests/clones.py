"""A small project in a folder of its own, as a newcomer has it after cloning."""

import os
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.conftest import ROOT

RECIPE = {"north": {"development": 10}, "south": {"development": 8}, "harbour": {"test": 6, "unlabelled": 2}}
CHANGES = {
    "preprocess": {"image_size": 64, "slices": 4},
    "split": {"n_folds": 3, "folds": [0, 1, "final"]},
    "finetune": {"full": {"epochs": 2, "sides": [48, 64], "instances": 2}},
    "calibrate": {"n_bootstrap": 200},
}


# A release names the commit of its code, which hangs on when it was made.
DATED = dict.fromkeys(["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"], "2026-01-01T00:00:00Z")


def edit(file: Path, changes: dict) -> None:
    values = yaml.safe_load(file.read_text())
    for section, entries in changes.items():
        values[section].update(entries)
    file.write_text(yaml.safe_dump(values, sort_keys=False))


def fresh_clone(folder: Path) -> Path:
    """The working tree as git would hand it to somebody else, with a smaller cohort."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("data/metrics", "data/folds", "data/openings", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    recipe = yaml.safe_load((folder / "data/demo/recipe.yaml").read_text())
    for site, patients in RECIPE.items():
        recipe["sites"][site]["patients"] = patients
    (folder / "data/demo/recipe.yaml").write_text(yaml.safe_dump(recipe))
    edit(folder / "params.yaml", CHANGES)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, env={**os.environ, **DATED})
    return folder
