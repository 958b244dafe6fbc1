"""How long until a good model stands: side by side with a plain MONAI script, and against the number of cases.

    python benchmarks/speed.py peer  PROJECT --into /tmp/speed --epochs 20
    python benchmarks/speed.py cases PROJECT --into /tmp/cost --sizes 100 200 400 800
    python benchmarks/speed.py folds PROJECT --into /tmp/side

PROJECT is a folder whose data/ holds cohort, prepared and split, and for `cases` adapted; it is copied, without
anything that a training could go on from, and left as it is. The code is that which stands here, the parameters are
the project's, and those that it does not know have the values of the repository.

`peer` runs `adapt` and `finetune` for every fold, one after the other, each in a process of its own, and then
`plain_monai.py` on the same folds; AUC is the mean of the folds' out-of-fold macro AUCs. Seconds are of the wall clock,
imports included. The peer needs as long as all its folds took for as many epochs as it needs. Its table stays in INTO
and is not made again.

`cases` trains one fold with more and more cases, taken at random or repeated, always for the same number of epochs,
and lays a least-squares line through the seconds. Sizes take turns, so that a noisy machine is noisy for all; medians
count.

`folds` trains all folds one after the other, each with all cores, and as many side by side as there are cores, each
with one; the two take turns.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from scipy.special import softmax
from trials import ROOT, Changes, Failed, pipeline

from pipeline import paths, prepared
from pipeline.metrics.discrimination import macro_auc

TRAINED = ("train", "validation")
PARTS = ("cohort", "prepared", "split", "adapted")
GOAL = 0.05  # largest deviation from a line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True, metavar="peer, cases or folds")
    peer, cases, folds = (commands.add_parser(name) for name in ("peer", "cases", "folds"))
    for door in (peer, cases, folds):
        door.add_argument("project", type=Path)
        door.add_argument("--into", type=Path, required=True)
    peer.add_argument("--folds", nargs="+", default=["0", "1", "2", "3", "4"])
    peer.add_argument("--epochs", type=int, default=10, help="of the peer")
    cases.add_argument("--fold", default="0")
    cases.add_argument("--sizes", nargs="+", type=int, default=[100, 200, 400, 800])
    cases.add_argument("--rounds", type=int, default=3)
    cases.add_argument("--epochs", type=int, default=5, help="exactly")
    cases.add_argument("--strategy", default="lp_ft")
    folds.add_argument("--folds", nargs="+", default=["0", "1", "2", "3"])
    folds.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.project, arguments.into = arguments.project.resolve(), arguments.into.resolve()
    try:
        {"peer": compare, "cases": cost, "folds": side_by_side}[arguments.what](arguments)
    except Failed as failure:
        sys.exit(f"error: {failure}")


def copy(project: Path, folder: Path, changes: Changes) -> None:
    """Copy what a fold is trained from, and write params.yaml with some changes."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in PARTS:
        if (project / "data" / part).exists():
            shutil.copytree(project / "data" / part, folder / "data" / part)
    shutil.copy(ROOT / "dvc.yaml", folder)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for more in (yaml.safe_load((project / "params.yaml").read_text()), changes):
        values |= {name: values[name] | new if isinstance(new, Mapping) else new for name, new in more.items()}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


# --- against a plain MONAI script -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reached:
    """An AUC, after so many epochs of each fold and so many seconds in all."""

    epoch: int
    auc: float
    seconds: float


def compare(arguments: argparse.Namespace) -> None:
    """Train our folds and the peer's, and print who gets where in which time."""
    folder, file = arguments.into / "ours", arguments.into / "plain_monai.csv"
    copy(arguments.project, folder, {})
    seconds = {stage: seconds_of(folder, stage, arguments.folds) for stage in ("adapt", "finetune")}
    auc = our_auc(folder, arguments.folds)
    curve = peers_curve(file, arguments)
    print_comparison(auc, seconds, curve)


def seconds_of(folder: Path, stage: str, folds: Sequence[str]) -> float:
    """Run a stage for every fold, one after the other, with nothing left of earlier runs."""
    shutil.rmtree(folder / "data/scratch", ignore_errors=True)
    start = time.perf_counter()
    for fold in folds:
        pipeline(folder, stage, "--fold", fold)
    return time.perf_counter() - start


def our_auc(folder: Path, folds: Sequence[str]) -> float:
    classes = json.loads((folder / "data/cohort/cohort.json").read_text())["classes"]
    tables = [pd.read_csv(folder / f"data/folds/{fold}/predictions.csv", dtype={"label": str}) for fold in folds]
    held_out = [table[table["role"] == "held_out"] for table in tables]
    return float(np.mean([auc_of(table, table["label"].map(classes.index)) for table in held_out]))


def auc_of(table: pd.DataFrame, truth: pd.Series) -> float:
    """Compute the macro AUC of the logits in a table; `truth` holds numbers of classes."""
    probabilities = softmax(table.filter(regex=r"^logit_\d+$").to_numpy(), axis=1)
    return float(macro_auc(probabilities, truth.to_numpy(), np.ones((1, len(table))))[0])


def peers_curve(file: Path, arguments: argparse.Namespace) -> list[Reached]:
    """Run the peer, unless its table is there; its mean AUC and its seconds after each epoch."""
    if not file.exists():
        unfinished = file.with_suffix(".unfinished.csv")
        command = [sys.executable, str(ROOT / "benchmarks/plain_monai.py"), str(arguments.project)]
        command += ["--folds", *arguments.folds, "--epochs", str(arguments.epochs), "--out", str(unfinished)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        unfinished.rename(file)
    table = pd.read_csv(file, dtype={"fold": str})
    if set(table["fold"]) != set(arguments.folds):
        sys.exit(
            f"{file} holds the folds {', '.join(sorted(set(table['fold'])))}; delete it, or name these with --folds"
        )
    folds = table.groupby(["epoch", "fold"])
    aucs = folds.apply(lambda cases: auc_of(cases, cases["truth"]), include_groups=False)
    by_epoch = pd.DataFrame({"auc": aucs, "seconds": folds["seconds"].first()}).groupby("epoch")
    return [
        Reached(int(str(epoch)), float(rows["auc"].mean()), float(rows["seconds"].sum())) for epoch, rows in by_epoch
    ]


def print_comparison(auc: float, seconds: Mapping[str, float], curve: list[Reached]) -> None:
    """Print a table, and the ratio of the seconds to the same AUC."""
    ours, alone = sum(seconds.values()), seconds["finetune"]
    best, last = max(curve, key=lambda one: one.auc), curve[-1]
    reached = next((one for one in curve if one.auc >= auc), None)
    print("\n| | mean out-of-fold AUC | seconds |\n|---|---|---|")
    print(f"| medadapt, adapt and finetune | {auc:.3f} | {ours:.0f} (finetune alone {alone:.0f}) |")
    print(f"| plain MONAI at its best, epoch {best.epoch} | {best.auc:.3f} | {best.seconds:.0f} |")
    if reached:
        print(
            f"| plain MONAI when it reaches ours, epoch {reached.epoch} | {reached.auc:.3f} | {reached.seconds:.0f} |"
        )
        print(f"\nRatio {reached.seconds / ours:.1f} (to finetune alone {reached.seconds / alone:.1f}).")
    else:
        ratio = f"ratio above {last.seconds / ours:.1f} (to finetune alone {last.seconds / alone:.1f})"
        print(f"\nPlain MONAI: not reached in {last.epoch} epochs, {last.seconds:.0f} s; {ratio}.")


# --- against the number of cases --------------------------------------------------------------------------------------


def cost(arguments: argparse.Namespace) -> None:
    """Train one fold with several numbers of cases, and print how far the seconds are from a line."""
    fixed = {"strategy": arguments.strategy, "epochs": arguments.epochs, "patience": arguments.epochs}
    folder, fold = arguments.into / "cases", arguments.fold
    copy(arguments.project, folder, {"finetune": fixed})
    table = pd.read_csv(folder / f"data/split/{fold}.csv", dtype=str, keep_default_na=False)
    tables = {size: with_cases(table, size) for size in arguments.sizes}
    store_copies(folder, {case for some in tables.values() for case in some["case"]})
    seconds: dict[int, list[float]] = {size: [] for size in tables}
    for number, size in itertools.product(range(arguments.rounds), tables):
        tables[size].to_csv(folder / f"data/split/{fold}.csv", index=False)
        seconds[size].append(seconds_of(folder, "finetune", [fold]))
        print(f"round {number + 1}, {size} cases: {seconds[size][-1]:.1f} s", flush=True)
    counts = [int(some["role"].isin(TRAINED).sum()) for some in tables.values()]  # rounded in each role and class
    print_line(np.array(counts), np.array([statistics.median(some) for some in seconds.values()]))


def with_cases(table: pd.DataFrame, size: int) -> pd.DataFrame:
    """Take about `size` training cases at random, each role and class in its share; all others of the table stay."""
    is_trained = table["role"].isin(TRAINED)
    groups = table[is_trained].sample(frac=1, random_state=0).groupby(["role", "label"])
    taken = [repeated(rows, round(size * len(rows) / is_trained.sum())) for _, rows in groups]
    return pd.concat([*taken, table[~is_trained]])


def store_copies(folder: Path, cases: set[str]) -> None:
    """Store the channels of all cases; those of a copy, `case-...-3`, are those of its case."""
    with contextlib.chdir(folder):
        channels = [prepared.as_npy(prepared.read_channels("-".join(case.split("-")[:2]))) for case in sorted(cases)]
        numbers = {case: number for number, case in enumerate(sorted(cases))}
        prepared.write_arrays(paths.PREPARED_CASES, numbers, channels.__getitem__)


def repeated(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """Take `count` rows, over and over again where there are fewer; a repeated case is another case and patient."""
    turn = np.arange(count) // len(rows)
    taken = rows.iloc[np.arange(count) % len(rows)].copy()
    suffix = np.where(turn > 0, [f"-{number}" for number in turn], "")
    return taken.assign(case=taken["case"] + suffix, patient=taken["patient"] + suffix)


def print_line(sizes: NDArray[np.int64], seconds: NDArray[np.float64]) -> None:
    """Print the seconds beside those of the least-squares line, and the largest deviation."""
    slope, start = np.polyfit(sizes, seconds, 1)
    line = start + slope * sizes
    deviations = seconds / line - 1
    print("\n| training cases | seconds | line | deviation |\n|---|---|---|---|")
    for size, found, expected, deviation in zip(sizes, seconds, line, deviations, strict=True):
        print(f"| {size} | {found:.1f} | {expected:.1f} | {deviation:+.1%} |")
    print(
        f"\n{start:.1f} s and {1000 * slope:.1f} ms for each case; largest deviation {abs(deviations).max():.1%}",
        end="",
    )
    print(f" (goal: {GOAL:.0%}).")


# --- folds side by side -----------------------------------------------------------------------------------------------


def side_by_side(arguments: argparse.Namespace) -> None:
    """Train the folds in both ways, in turns, and print the ratio of their seconds."""
    folder, cores = arguments.into / "folds", len(os.sched_getaffinity(0))
    copy(arguments.project, folder, {})
    ways = {"one after the other": (1, cores), "side by side": (cores, 1)}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number, (way, (at_a_time, threads)) in itertools.product(range(arguments.rounds), ways.items()):
        shutil.rmtree(folder / "data/scratch", ignore_errors=True)
        start = time.perf_counter()
        with ThreadPoolExecutor(at_a_time) as pool:
            jobs = [
                pool.submit(pipeline, folder, "finetune", "--fold", fold, threads=threads) for fold in arguments.folds
            ]
            for job in jobs:
                job.result()
        seconds[way].append(time.perf_counter() - start)
        print(f"round {number + 1}, {way}: {seconds[way][-1]:.1f} s", flush=True)
    ratios = [beside / after for after, beside in zip(*seconds.values(), strict=True)]
    middle, spread = statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"\n{len(arguments.folds)} folds, {cores} cores: side by side / one after the other {middle:.2f} ({spread}).")


if __name__ == "__main__":
    main()
