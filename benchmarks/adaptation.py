"""Every adaptation method on a cohort whose external site is locked, over several seeds, beside no adaptation.

    python benchmarks/adaptation.py demo --into /tmp/adaptation
    python benchmarks/adaptation.py demo --into /tmp/adaptation --methods none adabn coral --seeds 0 1 2

Trains the final model only (`adapt --fold final`, `finetune --fold final`) and judges it on the locked site, without
calibration. Differences to `none` are paired by patient and by seed; their intervals draw patients. Rows are written
to INTO/results.csv as they come, and what stands there is not run again. The demo is simulated and its external site
has been looked at often: this shows that the methods work and what they cost, not which is best for anybody's data.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, recall_score, roc_auc_score

ROOT = Path(__file__).resolve().parent.parent
# Strength of each method: of the shares the default; of the loss terms what their size on standardised features asks.
METHODS = {
    "none": 0.0,
    "adabn": 0.5,
    "simclr": 0.5,
    "vicreg": 0.5,
    "byol": 0.5,
    "coral": 1.0,
    "mmd": 1.0,
    "dann": 1.0,
    "mcc": 0.1,
}
DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", choices=["demo"])
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments = parser.parse_args()
    folder = arguments.into
    if not (folder / "data/prepared/index.csv").exists():
        set_up(folder)
    for seed in arguments.seeds:
        for method in arguments.methods:
            if not done(folder, method, seed):
                train(folder, method, seed)
    print_table(pd.read_csv(folder / "results.csv"))


def set_up(folder: Path) -> None:
    """Copy what a run needs and prepare the cohort once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "data/demo", folder / "data/demo", dirs_exist_ok=True)
    pipeline(folder, "cohort")
    pipeline(folder, "preprocess")


def done(folder: Path, method: str, seed: int) -> bool:
    file = folder / "results.csv"
    return file.exists() and ((rows := pd.read_csv(file))["method"].eq(method) & rows["seed"].eq(seed)).any()


def train(folder: Path, method: str, seed: int) -> None:
    """Adapt and fine-tune once, and keep the forecasts for the locked site."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["seed"] = seed
    values["adapt"].update(method=method, strength=METHODS[method])
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    start = time.perf_counter()
    for stage in ("split", "adapt --fold final", "finetune --fold final"):
        pipeline(folder, *stage.split())
    seconds = time.perf_counter() - start
    table = pd.read_csv(folder / "data/folds/final/predictions.csv")
    table = table[table["role"] == "locked"]
    classes = json.loads((folder / "data/cohort/cohort.json").read_text())["classes"]
    kept = len(pd.read_csv(folder / "data/folds/final/history.csv").query("best")) > 1
    rows = table[["case", "patient", "logit_0", "logit_1"]].assign(
        truth=[classes.index(label) for label in table["label"]],
        method=method,
        seed=seed,
        seconds=seconds,
        trained=kept,
    )
    file = folder / "results.csv"
    rows.to_csv(file, mode="a", header=not file.exists(), index=False)
    print(f"seed {seed} {method}: AUC {roc_auc_score(rows['truth'], margin(rows)):.3f}, {seconds:.0f} s", flush=True)


def pipeline(folder: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", *words]
    subprocess.run(command, cwd=folder, check=True, env=environment, capture_output=True)


def margin(rows: pd.DataFrame) -> np.ndarray:
    return (rows["logit_1"] - rows["logit_0"]).to_numpy()


def figures(rows: pd.DataFrame) -> dict[str, float]:
    """Judge the forecasts of one run."""
    truth, score = rows["truth"].to_numpy(), margin(rows)
    logits = rows[["logit_0", "logit_1"]].to_numpy()
    return {
        "AUC": roc_auc_score(truth, score),
        "log-loss": log_loss(truth, np.exp(log_softmax(logits, axis=1))[:, 1], labels=[0, 1]),
        "slope": float(LogisticRegression(C=np.inf).fit(score[:, None], truth).coef_[0, 0]),
        "worst recall": min(recall_score(truth, score > 0, average=None, labels=[0, 1], zero_division=0)),
    }


def print_table(rows: pd.DataFrame) -> None:
    names = ["AUC", "log-loss", "slope", "worst recall"]
    print(f"| method | seeds | {' | '.join(names)} | AUC - none (95 %) | log-loss - none (95 %) | s |")
    print("|" + "---|" * (len(names) + 5))
    for method, group in rows.groupby("method", sort=False):
        runs = pd.DataFrame([figures(run) for _, run in group.groupby("seed")])
        cells = [f"{runs[name].mean():.3f} ± {runs[name].std():.3f}" for name in names]
        differences = [paired(rows, str(method), name) if method != "none" else "" for name in names[:2]]
        print(f"| {method} | {len(runs)} | {' | '.join(cells + differences)} | {group['seconds'].median():.0f} |")


def paired(rows: pd.DataFrame, method: str, figure: str) -> str:
    """Difference to `none`, averaged over seeds, with its interval over draws of patients."""
    both = [rows[rows["method"] == name].set_index(["seed", "case"]).sort_index() for name in (method, "none")]
    patients = sorted(set(rows["patient"]))
    rng = np.random.default_rng(0)
    draws = []
    for number in range(DRAWS + 1):
        drawn = patients if number == 0 else rng.choice(patients, len(patients))
        weight = pd.Series(drawn).value_counts()
        difference = []
        for seed in sorted(set(rows.loc[rows["method"] == method, "seed"])):
            parts = [part.loc[seed] for part in both]
            chosen = [
                part.loc[np.repeat(part.index, part["patient"].map(weight).fillna(0).astype(int))] for part in parts
            ]
            if chosen[0]["truth"].nunique() == 2:
                values = [simple(part, figure) for part in chosen]
                difference.append(values[0] - values[1])
        draws.append(np.mean(difference))
    low, high = np.nanpercentile(draws[1:], [2.5, 97.5])
    return f"{draws[0]:+.3f} ({low:+.3f} to {high:+.3f})"


def simple(rows: pd.DataFrame, figure: str) -> float:
    truth, score = rows["truth"].to_numpy(), margin(rows)
    if figure == "AUC":
        return float(roc_auc_score(truth, score))
    return float(log_loss(truth, 1 / (1 + np.exp(-score)), labels=[0, 1]))


if __name__ == "__main__":
    main()
