"""Outputs of folds that `split.folds` no longer names; DVC leaves them where they are."""

import shutil
from collections.abc import Collection
from pathlib import Path

from pipeline import paths


def former_outputs(folds: Collection[str]) -> list[Path]:
    """List what adapt, finetune and calibrate wrote for other folds than `folds`."""
    folders = [path for folder in (paths.ADAPTED, paths.FOLDS) for path in folder.glob("*") if path.is_dir()]
    return sorted(path for path in [*folders, *paths.METRICS_OF_FOLDS.glob("*.json")] if path.stem not in folds)


def remove_former_outputs(folds: Collection[str], assigned: Collection[str]) -> list[str]:
    """Remove these outputs, and the tables of roles of other folds than `assigned`; return the names of the folds."""
    tables = [
        file
        for file in paths.SPLIT.glob("*.csv")
        if file not in (paths.DUPLICATES, paths.COUNTS) and file.stem not in assigned
    ]
    removed = [*former_outputs(folds), *tables]
    for path in removed:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return sorted({path.stem for path in removed})
