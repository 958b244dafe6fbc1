"""How processor time, memory and files grow with the number of cases, stage by stage.

    OMP_NUM_THREADS=1 python benchmarks/scale.py /tmp/scale --cases 500 2000
    OMP_NUM_THREADS=1 python benchmarks/scale.py /tmp/scale --cases 8000 --stages cohort preprocess split
    OMP_NUM_THREADS=1 python benchmarks/scale.py /tmp/scale --cases 500 2000 --code ../earlier --name earlier
    OMP_NUM_THREADS=1 python benchmarks/scale.py /tmp/scale --cases 8000 --stages cohort preprocess split --more 80

Cases are simulated: grey images of 64 x 64 pixels, two of each patient, two classes, four sites of which one is the
test set. They are prepared at 32 pixels and go through a tiny encoder with random weights, AdaBN and a linear probe,
so that all but the encoder weighs. Each stage is a process of its own without DVC; user and system seconds are those of
it and its workers, imports included. Results are kept in INTO/results.csv; what stands there is not run again. With
--more, the stages run once more after so many cases were added, and the patients in another fold are counted.
"""

import argparse
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from trials import ROOT, configure

FOLDS = ("0", "1", "final")
TRAINING = [f"{stage} --fold {fold}" for fold in FOLDS for stage in ("adapt", "finetune")]
STAGES = ["cohort", "preprocess", "split", *TRAINING, "calibrate", "evidence", "explain", "release", "report"]
CHANGES = {
    "cohort": {"path": "data/raw/scale", "public": True, "classes": ["well", "ill"], "positive": "ill"},
    "preprocess": {"image_size": 32},
    "split": {"folds": [*FOLDS], "test": "given", "test_sites": []},
    "adapt": {"encoder": "test_efficientnet", "weights": "none", "method": "adabn"},
    "finetune": {"strategy": "probe"},
    "calibrate": {"test": "open"},
    "evidence": {"budget": 0},
    "release": {"name": "scale"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("into", type=Path)
    parser.add_argument("--cases", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--stages", nargs="+", default=STAGES, help="a stage, or all of its folds")
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout whose code runs")
    parser.add_argument("--name", default="here", help="of this code in the table")
    parser.add_argument("--more", type=int, default=0, help="cases that are added after the stages ran")
    arguments = parser.parse_args()
    stages = [stage for stage in STAGES if {stage, stage.split()[0]} & set(arguments.stages)]
    results = arguments.into / "results.csv"
    for cases in arguments.cases:
        folder = arguments.into / f"{arguments.name}-{cases}"
        if not (folder / "params.yaml").exists():
            set_up(folder, cases, arguments.code)
        for stage in stages:
            if not stands(results, arguments.name, stage, cases):
                row = {"code": arguments.name, "stage": stage, "cases": cases, **measure(folder, stage, arguments.code)}
                pd.DataFrame([row]).to_csv(results, mode="a", header=not results.exists(), index=False)
        if arguments.more:
            grow(folder, cases, arguments.more, stages, arguments.code)
    table = pd.read_csv(results)
    print(summary(table[table["code"] == arguments.name]).to_string())


def set_up(folder: Path, cases: int, code: Path) -> None:
    """Write the images, cohort.csv, params.yaml and dvc.yaml."""
    images = folder / CHANGES["cohort"]["path"]
    images.mkdir(parents=True)
    (folder / "dvc.yaml").write_text((code / "dvc.yaml").read_text())
    draw(images, range(cases), np.random.default_rng(0)).to_csv(images / "cohort.csv", index=False)
    configure(folder, CHANGES)


def draw(images: Path, cases: range, rng: np.random.Generator) -> pd.DataFrame:
    """Write the images of some cases, and return their rows of cohort.csv."""
    rows = []
    for case in cases:
        patient, ill = case // 2, case // 2 % 8 // 4 == 1
        site = patient % 4
        Image.fromarray(image_of(rng, ill, site)).save(images / f"{case}.png")
        split = "test" if site == 3 else ""
        rows.append((case, patient, f"{case}.png", ("well", "ill")[ill], f"site {site}", split))
    return pd.DataFrame(rows, columns=["case_id", "patient_id", "image", "label", "site", "split"])


def grow(folder: Path, cases: int, more: int, stages: list[str], code: Path) -> None:
    """Add cases, run the stages again, and print their seconds and how many former patients changed their fold."""
    images, before = folder / CHANGES["cohort"]["path"], fold_of_patients(folder)
    added = draw(images, range(cases, cases + more), np.random.default_rng(1))
    added.to_csv(images / "cohort.csv", mode="a", header=False, index=False)
    for stage in stages:
        print(f"{more} more than {cases}: {stage}", measure(folder, stage, code), flush=True)
    after = fold_of_patients(folder)
    print(f"{(before != after[before.index]).sum()} of {len(before)} patients in another fold")


def fold_of_patients(folder: Path) -> pd.Series:
    tables = [pd.read_csv(folder / f"data/split/{fold}.csv", dtype=str) for fold in range(5)]
    held_out = [table[table["role"] == "held_out"].assign(fold=fold) for fold, table in enumerate(tables)]
    return pd.concat(held_out).groupby("patient")["fold"].first()


def image_of(rng: np.random.Generator, ill: bool, site: int) -> np.ndarray:
    """Simulate an image: waves of random direction and noise; a bright square where ill, a grey level of the site."""
    rows, columns = np.mgrid[:64, :64] / 64
    waves = sum(
        rng.normal() * np.sin(2 * np.pi * (rng.normal(0, 3) * rows + rng.normal(0, 3) * columns + rng.random()))
        for _ in range(6)
    )
    image = 90 + 10 * site + 20 * waves + rng.normal(0, 15, (64, 64))
    if ill:
        row, column = rng.integers(8, 40, 2)
        image[row : row + 16, column : column + 16] += 60
    return image.clip(0, 255).astype(np.uint8)


def measure(folder: Path, stage: str, code: Path) -> dict[str, float]:
    """Run a stage; give its processor seconds, peak memory, and the files and bytes that it added."""
    before, files, size = resource.getrusage(resource.RUSAGE_CHILDREN), *stored(folder)
    place = {"PYTHONPATH": str(code), "MEDADAPT_WORKERS": "1", "MEDADAPT_KEYS": str(folder / "keys")}
    words = [sys.executable, "-m", "pipeline", *stage.split()]
    process = subprocess.Popen(words, cwd=folder, env=os.environ | place, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{folder}: {stage} ended with status {status}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    files, size = (now - then for now, then in zip(stored(folder), (files, size), strict=True))
    return {"seconds": round(seconds, 2), "mib": used.ru_maxrss // 1024, "files": files, "kib": size // 1024}


def stored(folder: Path) -> tuple[int, int]:
    """Count the files below a folder, and the bytes of their blocks."""
    found = [os.lstat(os.path.join(at, name)) for at, _, names in os.walk(folder) for name in names]
    return len(found), sum(512 * one.st_blocks for one in found)


def stands(results: Path, name: str, stage: str, cases: int) -> bool:
    if not results.exists():
        return False
    return bool((pd.read_csv(results)[["code", "stage", "cases"]] == [name, stage, cases]).all(axis=1).any())


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Arrange the seconds by stage and number of cases, with the exponent between the two largest numbers."""
    wide = table.pivot_table("seconds", "stage", "cases", sort=False)
    if len(wide.columns) > 1:
        few, many = wide.columns[-2:]
        wide["exponent"] = np.log(wide[many] / wide[few]) / math.log(many / few)
    last = table.sort_values("cases").groupby("stage", sort=False).last()
    return wide.round(2).join(last[["mib", "files", "kib"]])


if __name__ == "__main__":
    main()
