"""How long the page takes to build, and how large it becomes: the whole pipeline on drawn images, all sections.

    python benchmarks/page.py --into /tmp/page            # 500 cases, minutes to set up, then seconds
    python benchmarks/page.py --into /tmp/page --profile  # and where the time goes

Half of the images hold a bright square; there are three sites, one of which is the test set. The stages train timm's
doll-size network, so that the tables are those of real stages; the page is then built three times in one process.
"""

import argparse
import cProfile
import os
import pstats
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image
from trials import ROOT, pipeline

from pipeline import paths
from pipeline.__main__ import main as front_door

SITES = ("north", "south", "west")
FOLDS = ["0", "1", "2", "final"]
CHANGES = {
    "cohort": {"path": "data/raw/drawn", "public": True, "classes": ["empty", "square"], "positive": "square"},
    "preprocess": {"image_size": 64},
    "split": {"n_folds": 3, "folds": FOLDS, "test": "sites", "test_sites": ["west"]},
    "adapt": {"encoder": "test_efficientnet", "weights": "none"},
    "finetune": {"strategy": "probe", "views": 1},
    "calibrate": {"test": "open", "subgroups": ["sex"], "baseline": [], "prevalences": [0.1]},
    "evidence": {"fractions": [0.5], "draws": 1, "shots": [1], "episodes": 5},
    "release": {"name": "drawn_squares"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    arguments = parser.parse_args()
    folder = arguments.into.resolve()
    if not (folder / paths.REPORT).exists():
        set_up(folder, arguments.cases)
    os.chdir(folder)
    seconds = [build() for _ in range(3)]
    size = paths.REPORT.stat().st_size
    print(f"{arguments.cases} cases: {min(seconds):.2f} s (best of 3; first {seconds[0]:.2f} s), {size / 1e6:.1f} MB")
    if arguments.profile:
        with cProfile.Profile() as profile:
            build()
        pstats.Stats(profile).sort_stats("cumulative").print_stats(25)


def set_up(folder: Path, cases: int) -> None:
    """Draw the images and run every stage once."""
    draw(folder / "data/raw/drawn", cases)
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values = {
        name: value | CHANGES.get(name, {}) if isinstance(value, dict) else value for name, value in values.items()
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    each = [words for fold in FOLDS for words in (("adapt", "--fold", fold), ("finetune", "--fold", fold))]
    singles = [(name,) for name in ("calibrate", "evidence", "explain", "release", "report")]
    for words in (("cohort",), ("preprocess",), ("split",), *each, *singles):
        pipeline(folder, *words)


def draw(folder: Path, cases: int) -> None:
    """Draw noise, with a square in every other image, and write cohort.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    draws, rows = np.random.default_rng(0), []
    for number in range(cases):
        pixels = draws.normal(90 + 10 * (number % 3), 20, (64, 64))
        if number // 3 % 2:
            row, column = draws.integers(4, 44, 2)
            pixels[row : row + 14, column : column + 14] += 25
        name = f"{number:04d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        label = ("empty", "square")[number // 3 % 2]
        rows.append((name, f"p{number}", name, label, SITES[number % 3], "fm"[number % 2]))
    columns = ["case_id", "patient_id", "image", "label", "site", "sex"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "cohort.csv", index=False)


def build() -> float:
    """Build the page once; returns the seconds it took."""
    start = time.perf_counter()
    front_door(["report"])
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
