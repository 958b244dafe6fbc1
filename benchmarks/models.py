"""The default portfolio beside a plain MONAI script, on the same folds of four sets.

    python benchmarks/models.py train  covid wbc brain demo --presets standard --seeds 0 1 2 --into /tmp/models
    python benchmarks/models.py script covid wbc brain demo --into /tmp/models
    python benchmarks/models.py table  --into /tmp/models

`train` cross-validates the portfolio; each member's own predictions are kept beside their mean. `script` runs
plain_monai.py on folds 0 to 2: ten epochs, trained on the role `train`, and evaluated on `validation` and `held_out`
after each. Its row "stopped" takes the epoch with the lowest log-loss on `validation`, as a competent user would; the
row "oracle" takes the epoch with the best AUC on the evaluated cases themselves, which nobody could.

COVID-CT stands here without its test set. A share of the training cases, e.g. `--fraction 0.25`, is drawn by patient.
Results stand in INTO and are not computed again. Seconds are those of a processor core.
"""

import argparse
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from cohorts import FOLDS, NO_TEST, link, write_demo
from evaluating import LEVEL, Runs, interval, print_row
from finetune import arrangement_of
from numpy.typing import NDArray
from trials import DATA, ROOT, Arrangement, adapt_once, configure, pipeline, set_up

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import cluster_weights, estimate

Floats = NDArray[np.float64]
OF_SCRIPT = FOLDS[:3]
METRICS = {"AUC": discrimination.macro_auc, "log-loss": discrimination.log_loss}
KEYS = ["set", "method", "seed", "fraction"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "script", "table"):
        one = commands.add_parser(name)
        one.add_argument("--into", type=Path, required=True)
        if name != "table":
            one.add_argument("sets", nargs="+", choices=SETS)
            one.add_argument("--fraction", type=float, default=1.0)
            one.add_argument("--folds", nargs="+", default=list(FOLDS if name == "train" else OF_SCRIPT))
    commands.choices["train"].add_argument("--presets", nargs="+", default=["standard"])
    commands.choices["train"].add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    commands.choices["script"].add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    arguments.into = arguments.into.resolve()
    {"train": train, "script": script, "table": table}[arguments.command](arguments)


def brain() -> Arrangement:
    """Cross-validate on the slices of brain tumours, each of which counts as a patient."""
    changes = {"cohort": {"path": "data/raw/brain", "public": True}, "split": NO_TEST}
    return Arrangement("brain", "brain", changes, FOLDS, "held_out", write=write_brain)


def write_brain(folder: Path) -> None:
    """Write cohort.csv with links to the images."""
    source, into = DATA / "brain_tumour_mri", folder / "data/raw/brain"
    table = pd.read_csv(source / "labels.csv")
    for file in table["file"]:
        link(source / file, into / "images" / file)
    rows = table.rename(columns={"file": "case_id"}).assign(image="images/" + table["file"], site="kaggle")
    rows.to_csv(into / "cohort.csv", index=False)


def demo() -> Arrangement:
    """Cross-validate on the development cases of the demo."""
    return Arrangement("demo", "demo", {}, FOLDS, "held_out", write=write_demo)


SETS: dict[str, Callable[[], Arrangement]] = {
    "covid": partial(arrangement_of, "validation", FOLDS),
    "wbc": partial(arrangement_of, "wbc", FOLDS),
    "brain": brain,
    "demo": demo,
}


def train(arguments: argparse.Namespace) -> None:
    """Cross-validate the portfolio of each preset and seed."""
    for seed in arguments.seeds:
        for name in arguments.sets:
            for preset in arguments.presets:
                for fold in arguments.folds:
                    train_fold(arguments.into, name, preset, seed=seed, fold=fold, fraction=arguments.fraction)


def train_fold(into: Path, name: str, preset: str, *, seed: int, fold: str, fraction: float) -> None:
    """Train a fold, and append the logits of the portfolio and of its members, unless they stand there."""
    file, key = into / "portfolio.csv", dict(zip(KEYS, (name, preset, seed, fraction), strict=True))
    if stands(file, key | {"fold": fold}):
        return
    folder = prepared(into, name, fraction, seed={"seed": seed, "finetune": {"preset": preset}})
    before = core_seconds()
    adapt_once(folder, fold)
    pipeline(folder, "finetune", "--fold", fold)
    took = core_seconds() - before
    joint = pd.read_csv(folder / f"data/folds/{fold}/predictions.csv", dtype={"label": str}).assign(member="")
    members = pd.read_csv(folder / f"data/folds/{fold}/members.csv", dtype={"label": str})
    rows = pd.concat([joint, members])
    rows = rows[rows["role"] == "held_out"]
    rows["method"] = [f"{preset} {member}".strip() for member in rows["member"]]
    classes = classes_of(folder)
    rows["truth"] = rows["label"].map(classes.index)
    for column, value in (key | {"fold": fold, "seconds": round(took, 1)}).items():
        if column != "method":
            rows[column] = value
    append(rows, file)
    print(f"{name} {preset} seed {seed} fold {fold}: {took:.0f} s", flush=True)


def prepared(into: Path, name: str, fraction: float, seed: dict[str, object]) -> Path:
    """Set up the folder of a set, and split it; with a share of the training patients if wanted."""
    arrangement = SETS[name]()
    folder = into / (name if fraction == 1 else f"{name}-{fraction:g}")
    if not (folder / "data/prepared/index.csv").exists():
        set_up(folder, arrangement)
    configure(folder, arrangement.changes, seed)
    pipeline(folder, "split")
    if fraction < 1:
        for fold in FOLDS:
            keep_share(folder / f"data/split/{fold}.csv", fraction)
    return folder


def keep_share(file: Path, fraction: float) -> None:
    """Leave a share of the training patients in the table of a fold, the same in every run, each class in its share."""
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    learning = table["role"].isin(["train", "validation"])
    patients = table[learning].drop_duplicates("patient").sort_values("patient")
    kept = patients.groupby(["label", "role"]).sample(frac=fraction, random_state=0)["patient"]
    table[~learning | table["patient"].isin(kept)].to_csv(file, index=False)


def script(arguments: argparse.Namespace) -> None:
    """Run the plain script on each set, on one core."""
    for name in arguments.sets:
        file = arguments.into / f"script-{name}-{arguments.fraction:g}.csv"
        if file.exists():
            continue
        folder = prepared(arguments.into, name, arguments.fraction, seed={"seed": 0})
        part = file.with_suffix(".part")
        command = [sys.executable, str(ROOT / "benchmarks/plain_monai.py"), str(folder), "--validate", "--workers", "0"]
        command += ["--epochs", str(arguments.epochs), "--out", str(part), "--folds", *arguments.folds]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})
        part.rename(file)


def stands(file: Path, key: dict[str, object]) -> bool:
    if not file.exists():
        return False
    rows = pd.read_csv(file, dtype={"fold": str})
    return bool((rows[list(key)] == list(key.values())).all(axis=1).any())


def append(rows: pd.DataFrame, file: Path) -> None:
    """Append rows to the table; sets differ in their number of classes."""
    known = [pd.read_csv(file, dtype={"fold": str, "label": str})] if file.exists() else []
    pd.concat([*known, rows]).to_csv(file, index=False)


def classes_of(folder: Path) -> list[str]:
    found: list[str] = pd.read_json(folder / "data/cohort/cohort.json", typ="series")["classes"]
    return found


def core_seconds() -> float:
    """Seconds of processor cores that ended child processes took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(arguments: argparse.Namespace) -> None:
    """Print the metrics of every method, and paired differences to the script, on the folds that both have."""
    ours = pd.read_csv(arguments.into / "portfolio.csv", dtype={"fold": str})
    print_row("set", "fraction", "method", "seeds", *METRICS, "s a fold", "AUC - oracle", "log-loss - stopped")
    print_row(*["---"] * (7 + len(METRICS)))
    for (name, fraction), part in ours.groupby(["set", "fraction"], sort=False):
        columns = [f"logit_{number}" for number in range(1 + int(part["truth"].max()))]
        file = arguments.into / f"script-{name}-{fraction:g}.csv"
        rows = [one for _, one in part.groupby("method", sort=False)]
        if file.exists():
            patients = part.drop_duplicates("case").set_index("case")["patient"]
            rows += chosen_epochs(pd.read_csv(file, dtype={"fold": str}), columns, patients)
        show(name, fraction, pd.concat(rows), columns)


def chosen_epochs(rows: pd.DataFrame, columns: list[str], patients: "pd.Series[str]") -> list[pd.DataFrame]:
    """Choose the script's epoch: one for each fold by its validation cases, and the best one on the evaluated cases."""
    rows = rows.assign(seed=0, patient=rows["case"].map(patients))
    held, validation = (rows[rows["role"] == role] for role in ("held_out", "validation"))
    losses = validation.groupby(["fold", "epoch"]).apply(lambda one: value("log-loss", one, columns))
    stopped = dict(losses.groupby("fold").idxmin().tolist())
    best = held.groupby("epoch").apply(lambda one: value("AUC", one, columns)).idxmax()
    return [
        held[held["epoch"] == held["fold"].map(stopped)].assign(method="script stopped"),
        held[held["epoch"] == best].assign(method="script oracle"),
    ]


def value(metric: str, rows: pd.DataFrame, columns: list[str]) -> float:
    weights = np.ones((1, len(rows)))
    return float(METRICS[metric](probabilities(rows, columns), rows["truth"].to_numpy(int), weights)[0])


def probabilities(rows: pd.DataFrame, columns: list[str]) -> Floats:
    logits = rows[columns].to_numpy(float)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def show(name: str, fraction: float, rows: pd.DataFrame, columns: list[str]) -> None:
    """Print a row for each method, over the cases of all folds and over those that the script has."""
    of_script = rows[rows["method"] == "script oracle"]["case"]
    for cases in (rows["case"].drop_duplicates(), of_script) if len(of_script) else (rows["case"].drop_duplicates(),):
        shown = rows[rows["case"].isin(cases)]
        complete = shown[shown.groupby(["method", "seed"])["case"].transform("size") == len(cases)]
        if complete.empty:
            continue
        runs = runs_of(complete, columns)
        for method in runs.probabilities:
            own = complete[complete["method"] == method]
            cells = [cell(runs, metric, method) for metric in METRICS]
            seconds = own.drop_duplicates(["seed", "fold"])["seconds"].mean()
            differences = [
                cell(runs, metric, method, minus) if minus in runs.probabilities and minus != method else ""
                for metric, minus in (("AUC", "script oracle"), ("log-loss", "script stopped"))
            ]
            seeds = len(runs.probabilities[method])
            print_row(f"{name}, {len(cases)} cases", fraction, method, seeds, *cells, f"{seconds:.0f}", *differences)


def runs_of(rows: pd.DataFrame, columns: list[str]) -> Runs:
    """Put the predictions of all runs into the same order of cases."""
    first = rows.drop_duplicates("case").sort_values("case")
    found: dict[str, dict[int, Floats]] = {}
    for (method, seed), one in rows.groupby(["method", "seed"], sort=False):
        found.setdefault(str(method), {})[int(seed)] = probabilities(one.sort_values("case"), columns)
    weights = cluster_weights(first["patient"].to_numpy(str), 1000, np.random.default_rng(0))
    return Runs(first["truth"].to_numpy(int), weights, found)


def cell(runs: Runs, metric: str, method: str, minus: str | None = None) -> str:
    if minus is None:
        found, deviation = runs.estimate(METRICS[metric], method), runs.deviation(METRICS[metric], method)
        spread = f" ± {deviation:.3f}" if len(runs.probabilities[method]) > 1 else ""
        return f"{found.value:.3f}{spread}{interval(found)}"
    seeds = list(runs.probabilities[method])

    def difference(weights: Floats) -> Floats:
        return runs.mean(METRICS[metric], method, None, seeds, weights) - METRICS[metric](
            runs.probabilities[minus][0], runs.labels, weights
        )

    found = estimate(difference, runs.weights, LEVEL)
    return f"{found.value:+.3f}{interval(found)}"


if __name__ == "__main__":
    main()
