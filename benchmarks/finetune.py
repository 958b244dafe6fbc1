"""Recipes of fine-tuning side by side, and the one that was chosen on images that took no part in the choice.

    python benchmarks/finetune.py validation --into /tmp/validation        # which recipe? COVID-CT, no test set
    python benchmarks/finetune.py official   --into /tmp/official --open   # its official test set, three seeds
    python benchmarks/finetune.py grouped    --into /tmp/grouped           # all of COVID-CT, 5 folds by patient
    python benchmarks/finetune.py wbc        --into /tmp/wbc               # blood cells of dataset1, 5 folds

`validation` leaves the official test set out of the cohort, so that nothing of it is read, and compares recipes on the
patient-grouped folds of the rest. `official` trains RECIPE on all development cases, once for each seed, and looks at
the test set; each seed is an opening. Runs stand in INTO/results.csv and are not repeated. Images: see covid_ct.py.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from cohorts import CELLS, FOLDS, LEFT_OUT, NO_TEST, write_wbc
from covid_ct import COHORT, SPLITS, write_cohort
from evaluating import LEVEL, Runs, gather, interval, print_differences, print_row
from numpy.typing import NDArray
from trials import Arrangement, Changes, run_all

from pipeline.metrics import discrimination
from pipeline.metrics.bootstrap import estimate

Floats = NDArray[np.float64]

RECIPES: dict[str, Changes] = {  # of params.finetune; the rest is the default
    "knn": {"strategy": "knn"},
    "probe": {"strategy": "probe"},
    "last_stage": {"strategy": "last_stage"},
    "lp_ft": {"strategy": "lp_ft"},
    "gradual": {"strategy": "gradual"},
    "lp_ft ema": {"strategy": "lp_ft", "average": "ema"},
    "lp_ft soup": {"strategy": "lp_ft", "average": "soup"},
    "lp_ft mixup": {"strategy": "lp_ft", "mix": "mixup"},
    "lp_ft mirror": {"strategy": "lp_ft", "tta": ["mirror"]},
    "lp_ft 4 stages": {"strategy": "lp_ft", "trainable_stages": 4},
    "auto": {"strategy": "auto"},
    "portfolio": {"strategy": "portfolio"},
}
RECIPE = "portfolio"  # the default, chosen on the folds of the development cases: models.py, ablation.py
SEEDS = [0, 1, 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["validation", "official", "grouped", "wbc"])
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, help="all of them for validation, else the chosen one")
    parser.add_argument("--folds", nargs="+", default=list(FOLDS))
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--open", action="store_true", help="look at the official test set, and count it")
    arguments = parser.parse_args()
    if (arguments.what == "official") != arguments.open:
        parser.error("official opens the test set once for each seed, and nothing else does: --open")
    arrangement = arrangement_of(arguments.what, tuple(arguments.folds))
    names = arguments.recipes or (list(RECIPES) if arguments.what == "validation" else [RECIPE])
    seeds = arguments.seeds or (SEEDS if arguments.what == "official" else [0])
    recipes = {name: RECIPES[name] for name in names}
    rows = run_all(arguments.into, lambda recipe: [arrangement], recipes, seeds, section="finetune")
    show(rows[rows["method"].isin(names)], names[0])


def arrangement_of(what: str, folds: tuple[str, ...]) -> Arrangement:
    """Say who is trained on and who is evaluated."""
    if what == "wbc":
        cohort = {"path": "data/raw/wbc", "public": True, "positive": None}
        cohort["classes"] = [name for name in CELLS.values() if name != LEFT_OUT]
        changes: Changes = {"cohort": cohort, "preprocess": {"image_size": 128}, "split": NO_TEST}
        return Arrangement(what, what, changes, folds, "held_out", write=write_dataset1)
    covid: Changes = {"cohort": COHORT}
    if what == "official":
        given = covid | {"split": SPLITS["official"]}
        return Arrangement(what, what, given, ("final",), write=partial(write_cohort, pool=None))
    with_test = what == "grouped"
    write = partial(write_cohort, pool=None, with_test=with_test, as_development=with_test)
    return Arrangement(what, what, covid | {"split": NO_TEST}, folds, "held_out", write=write)


def write_dataset1(folder: Path) -> None:
    """Write the blood cells of the first laboratory alone."""
    write_wbc(folder, "dataset1", half=None)
    file = folder / "data/raw/wbc/cohort.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    table[table["site"] == "dataset1"].to_csv(file, index=False)


def show(rows: pd.DataFrame, reference: str) -> None:
    """Print metrics of each recipe and seed, and paired differences to the first."""
    for patients, _ in rows.groupby("arrangement"):
        print(f"\n{patients}: {rows['case'].nunique()} cases of {rows['patient'].nunique()} patients\n")
    runs = gather(rows)
    seconds = rows.drop_duplicates(["method", "seed"]).set_index(["method", "seed"])["seconds"]
    print_row("recipe", "seed", *METRICS, "s, busy machine")
    print_row(*["---"] * (len(METRICS) + 3))
    for recipe, by_seed in runs.probabilities.items():
        for seed in by_seed:
            cells = [cell(runs, metric, recipe, seed) for metric in METRICS]
            print_row(recipe, seed, *cells, f"{seconds[recipe, seed]:.0f}")
    print()
    print_differences(runs, [reference])


def cell(runs: Runs, metric: str, recipe: str, seed: int) -> str:
    probabilities = runs.probabilities[recipe][seed]
    found = estimate(lambda weights: METRICS[metric](probabilities, runs.labels, weights), runs.weights, LEVEL)
    return f"{found.value:.3f}{interval(found)}"


def accuracy(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Share of cases whose most probable class is theirs."""
    return weights @ (probabilities.argmax(axis=1) == labels) / weights.sum(axis=1)


def f1(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """F1 of the last class."""
    last = probabilities.shape[1] - 1
    called, true = probabilities.argmax(axis=1) == last, labels == last
    return 2 * (weights @ (called & true)) / (weights @ called + weights @ true)


def balanced_accuracy(probabilities: Floats, labels: NDArray[np.int64], weights: Floats) -> Floats:
    """Mean recall of the classes."""
    right = probabilities.argmax(axis=1) == labels
    recalls = [weights @ (right & (labels == label)) / (weights @ (labels == label)) for label in np.unique(labels)]
    return np.asarray(np.mean(recalls, axis=0))


METRICS = {
    "AUC": discrimination.macro_auc,
    "accuracy": accuracy,
    "F1": f1,
    "balanced accuracy": balanced_accuracy,
    "log-loss": discrimination.log_loss,
}


if __name__ == "__main__":
    sys.exit(main())
