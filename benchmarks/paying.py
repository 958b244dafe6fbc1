"""Did transfer and adaptation pay: the stage `evidence` in full, every arm trained, in a clone of its own.

    python benchmarks/paying.py demo  --into /tmp/paying_demo  --budget 150000    # simulated head MRI, 64 px, 6 slabs
    python benchmarks/paying.py covid --into /tmp/paying_covid --budget 200000    # all of COVID-CT, 64 px, by patient

All arms see the same small images, so that training from scratch can be afforded on a processor. The demo's external
site has been looked at often and is no evidence for own data; COVID-CT names no sites, so that promise 4 has no metric.
Trainings are kept in INTO/data/scratch/evidence and are not repeated. Images: see covid_ct.py.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd
from cohorts import FOLDS, NO_TEST, write_demo
from covid_ct import COHORT, write_cohort
from trials import Arrangement, Changes, configure, pipeline, set_up

SMALL: Changes = {"preprocess": {"image_size": 64, "slices": 6}}
COVID: Changes = {"cohort": COHORT, "split": NO_TEST, "preprocess": {"image_size": 64}}
WHOLE = partial(write_cohort, pool=None, with_test=True, as_development=True)
COHORTS = {
    "demo": Arrangement("demo", "demo", SMALL, write=write_demo),
    "covid": Arrangement("covid", "covid", COVID, write=WHOLE),
}
SHOWN = {
    "verdicts": ["promise", "name", "comparison", "recipe", "metric", "value", "lower", "upper", "verdict"],
    "learning_curve": ["recipe", "arm", "metric", "fraction", "patients", "value", "lower", "upper"],
    "label_efficiency": ["recipe", "arm", "reference", "ratio", "lower", "upper"],
    "time_to_quality": ["arm", "reference", "unit", "ratio", "lower", "upper", "reached", "folds"],
    "overfitting": ["arm", "reference", "arm_gap", "reference_gap", "difference", "lower", "upper"],
    "domains": ["recipe", "arm", "site", "n", "auc", "auc_lower", "auc_upper"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", choices=COHORTS)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--budget", type=int, required=True, help="passes of a 128 x 128 image, as evidence.budget")
    arguments = parser.parse_args()
    folder, arrangement = arguments.into.resolve(), COHORTS[arguments.cohort]
    if not (folder / "data/adapted/final").exists():
        set_up(folder, arrangement)
        pipeline(folder, "split")
        for fold in (*FOLDS, "final"):
            pipeline(folder, "adapt", "--fold", fold)
    open_set = {"calibrate": {"test": "open", "subgroups": [], "baseline": []}}
    configure(folder, arrangement.changes, {"evidence": {"budget": arguments.budget}}, open_set)
    pipeline(folder, "evidence")
    show(folder)


def show(folder: Path) -> None:
    """Print the tables that docs/results/how-honest.md quotes."""
    for name, columns in SHOWN.items():
        table = pd.read_csv(folder / f"data/evidence/{name}.csv")
        table = table[table["of"].isna()] if "of" in table else table
        print(f"\n{name}\n{table[columns].round(3).to_string(index=False, na_rep='')}")


if __name__ == "__main__":
    main()
