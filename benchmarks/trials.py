"""The methods that the benchmarks compare, and one training with one of them, in a folder of its own."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("MEDADAPT_TEST_DATA", ROOT.parent / "shared" / "data"))
Changes = Mapping[str, Any]

MODULE = ("-m", "pipeline")
ORACLE = "oracle"
# Of params.adapt. Strengths: of shares the default; of the loss terms what their size on standardised features asks.
METHODS: dict[str, Changes] = {
    "none": {"method": "none", "strength": 0.0},
    "adabn": {"method": "adabn", "strength": 0.5},
    "adabn_per_site": {"method": "adabn_per_site", "strength": 0.5},
    "tent": {"method": "adabn", "strength": 0.5, "test_time_steps": 3},
    "nyul": {"method": "nyul", "strength": 1.0},
    "histogram": {"method": "histogram", "strength": 1.0},
    "combat": {"method": "combat", "strength": 1.0},
    "simclr": {"method": "simclr", "strength": 0.5},
    "vicreg": {"method": "vicreg", "strength": 0.5},
    "byol": {"method": "byol", "strength": 0.5},
    "coral": {"method": "coral", "strength": 1.0},
    "mmd": {"method": "mmd", "strength": 1.0},
    "dann": {"method": "dann", "strength": 1.0},
    "mcc": {"method": "mcc", "strength": 0.1},
    "auto": {"method": "auto", "strength": 0.5},
    ORACLE: {"method": "none", "strength": 0.0},  # another arrangement of the cohort, see `cohorts`
}


class Failed(RuntimeError):
    """A stage that ended with an error; the message is what it said last."""


@dataclass(frozen=True)
class Arrangement:
    """Who is trained on and who is evaluated.

    Attributes
    ----------
    name : str
    folder : str
        Below INTO; holds the prepared cohort. Arrangements may share it.
    changes : mapping
        Of params.yaml, by section; the rest is as in the repository.
    folds : sequence of str
        Which are trained.
    evaluated : {"test", "held_out"}
        The role whose predictions are kept.
    site : str or None
        Of the evaluated cases; None for any.
    """

    name: str
    folder: str
    changes: Changes
    folds: Sequence[str] = ("final",)
    evaluated: str = "test"
    site: str | None = None
    write: Callable[[Path], None] = field(default=lambda folder: None, compare=False)


def run_all(
    into: Path,
    arrangements_of: Callable[[str], Sequence[Arrangement]],
    methods: Mapping[str, Changes],
    seeds: list[int],
    section: str = "adapt",
) -> pd.DataFrame:
    """Train what INTO/results.csv does not hold yet, and give all that it holds; name what failed and go on.

    Methods are changes of one section of params.yaml.
    """
    into = into.resolve()
    file = into / "results.csv"
    for seed, method in itertools.product(seeds, methods):
        for arrangement in arrangements_of(method):
            if stands(file, method, seed, arrangement):
                continue
            try:
                rows = train(into, arrangement, {section: methods[method]}, seed).assign(method=method, seed=seed)
            except Failed as failure:
                print(f"seed {seed} {method}, {arrangement.name}: FAILED: {failure}", flush=True)
                continue
            rows.to_csv(file, mode="a", header=not file.exists(), index=False)
            print(f"seed {seed} {method}, {arrangement.name}: {rows['seconds'].iloc[0]:.0f} s", flush=True)
    if not file.exists():
        sys.exit("nothing was trained")
    return pd.read_csv(file)


def stands(file: Path, method: str, seed: int, arrangement: Arrangement) -> bool:
    if not file.exists():
        return False
    rows = pd.read_csv(file)
    return bool((rows[["method", "seed", "arrangement"]] == [method, seed, arrangement.name]).all(axis=1).any())


def train(into: Path, arrangement: Arrangement, changes: Changes, seed: int) -> pd.DataFrame:
    """Adapt and fine-tune each fold of an arrangement once, and give the logits of the evaluated cases."""
    folder = into / arrangement.folder
    if not (folder / "data/prepared/index.csv").exists():
        set_up(folder, arrangement)
    configure(folder, arrangement.changes, {"seed": seed, **changes})
    start = time.perf_counter()
    pipeline(folder, "split")
    for fold in arrangement.folds:
        adapt_once(folder, fold)
        pipeline(folder, "finetune", "--fold", fold)
    seconds = time.perf_counter() - start
    parts = [evaluated_in(folder, fold, arrangement) for fold in arrangement.folds]
    return pd.concat(parts).assign(arrangement=arrangement.name, seconds=round(seconds, 1))


def adapt_once(folder: Path, fold: str) -> None:
    """Adapt a fold, unless that was done with the same parameters and seed."""
    values = yaml.safe_load((folder / "params.yaml").read_text())
    asked = json.dumps([values["seed"], values["adapt"], values["finetune"]["pooled_stages"]])
    done = folder / "data/scratch" / f"adapted-{fold}.json"
    if not done.exists() or done.read_text() != asked:
        pipeline(folder, "adapt", "--fold", fold)
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(asked)


def set_up(folder: Path, arrangement: Arrangement) -> None:
    """Write the cohort, check and prepare it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    arrangement.write(folder)
    configure(folder, arrangement.changes)
    for stage in ("cohort", "preprocess"):
        pipeline(folder, stage)


def configure(folder: Path, *changes: Changes) -> None:
    """Write params.yaml: the repository's, with changes by section."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["calibrate"] |= {"subgroups": [], "baseline": []}  # the demo's
    values["cohort"]["roots"] = [str(DATA)]  # images are linked, not copied
    for section, change in itertools.chain.from_iterable(one.items() for one in changes):
        values[section] = values[section] | change if isinstance(change, Mapping) else change
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def evaluated_in(folder: Path, fold: str, arrangement: Arrangement) -> pd.DataFrame:
    """Read the evaluated cases of a fold: case, patient, truth, logit_0, ..., and which method adapted it."""
    table = pd.read_csv(folder / f"data/folds/{fold}/predictions.csv", dtype={"site": str, "label": str})
    table = table[table["role"] == arrangement.evaluated]
    if arrangement.site is not None:
        table = table[table["site"] == arrangement.site]
    classes = json.loads((folder / "data/cohort/cohort.json").read_text())["classes"]
    chosen = json.loads((folder / f"data/adapted/{fold}/adaptation.json").read_text())["method"]
    logits = table.filter(regex=r"^logit_\d+$")
    truth = table["label"].map(classes.index)
    return table[["case", "patient"]].assign(truth=truth, **logits, chosen=chosen)


def pipeline(folder: Path, *words: str, threads: int | None = None, program: Sequence[str] = MODULE) -> str:
    """Run a stage or command in `folder`, with the code that stands there, or else here; give what it printed."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    command = [sys.executable, *program, *words]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if run.returncode:
        last = run.stderr.strip().splitlines()[-1:] or [f"exit status {run.returncode}"]
        raise Failed(f"{' '.join(words)}: {last[0]}")
    return run.stdout
