"""What each lever of the default portfolio contributes: one row for each that is left out or changed.

    python benchmarks/ablation.py train covid wbc --into /tmp/ablation
    python benchmarks/ablation.py table --into /tmp/ablation

Folds 0 to 2 of the sets of models.py, one seed, preset `standard`. A lever of one member is trained with that member
alone, and averaged with the other members of the default. Levers without a parameter are taken out by without.py.
Differences are paired by patient.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from cohorts import FOLDS
from evaluating import print_row
from models import METRICS, SETS, append, cell, classes_of, core_seconds, prepared, probabilities, runs_of, stands
from trials import MODULE, adapt_once, pipeline
from without import LEVERS

Changes = dict[str, Any]
DEFAULT = "default"
ENCODER: Changes = {"encoder": "tf_efficientnet_lite2"}


def full(**changes: Any) -> Changes:
    return {"finetune": {"preset": "standard", "strategy": "full", "full": changes}}


RUNS: dict[str, Changes] = {  # what is trained: changes of params.yaml
    DEFAULT: {"finetune": {"preset": "standard"}},
    **{f"no {lever}": full() for lever in LEVERS},
    "one size, 160": full(sides=[160]),
    "one size, 224": full(sides=[224]),
    "no label smoothing": full(label_smoothing=0.0),
    "lower rates below the head": full(rate_decay=0.7),
    "strong augmentation": full(augmentation="strong"),
    "no mirror image": {"finetune": {"preset": "standard", "tta": []}},
    "no adaptation": {"finetune": {"preset": "standard"}, "adapt": {"method": "none"}},
    "two seeds": full(seeds=2),
    "probe of a second encoder": {"finetune": {"strategy": "probe", "views": 0, "tta": ["mirror"]}, "adapt": ENCODER},
    "distilled": {"finetune": {"preset": "standard", "strategy": "distilled"}},
}
PROBE, FULL = (DEFAULT, "probe"), (DEFAULT, "full")
ROWS: dict[str, list[tuple[str, str]]] = {  # which members of which runs are averaged
    DEFAULT: [PROBE, FULL],
    "without probe": [FULL],
    "without full": [PROBE],
    **{name: [PROBE, (name, "full")] for name, run in RUNS.items() if run["finetune"].get("strategy") == "full"},
    "no mirror image": [("no mirror image", "probe"), ("no mirror image", "full")],
    "no adaptation": [("no adaptation", "probe"), ("no adaptation", "full")],
    "two seeds": [PROBE, ("two seeds", "full"), ("two seeds", "full-2")],
    "and probe of a second encoder": [PROBE, FULL, ("probe of a second encoder", "probe")],
    "distilled": [("distilled", "distilled")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "table"):
        commands.add_parser(name).add_argument("--into", type=Path, required=True)
    commands.choices["train"].add_argument("sets", nargs="+", choices=SETS)
    commands.choices["train"].add_argument("--runs", nargs="+", default=list(RUNS), choices=RUNS)
    commands.choices["train"].add_argument("--folds", nargs="+", default=list(FOLDS[:3]))
    arguments = parser.parse_args()
    into = arguments.into.resolve()
    if arguments.command == "table":
        table(into)
        return
    for cohort in arguments.sets:
        for run in arguments.runs:
            for fold in arguments.folds:
                train_fold(into, cohort, run, fold)


def train_fold(into: Path, cohort: str, run: str, fold: str) -> None:
    """Train a fold, and append the logits of each member, unless they stand there."""
    file, key = into / f"ablation-{cohort}.csv", {"run": run, "fold": fold}
    if stands(file, key):
        return
    folder = prepared(into, cohort, 1.0, seed={"seed": 0, **RUNS[run]})
    before = core_seconds()
    adapt_once(folder, fold)
    program = (
        (str(Path(__file__).with_name("without.py")), lever) if (lever := run.removeprefix("no ")) in LEVERS else MODULE
    )
    pipeline(folder, "finetune", "--fold", fold, program=program)
    took = round(core_seconds() - before, 1)
    own = folder / "data/folds" / fold
    rows = pd.read_csv(own / "members.csv", dtype={"label": str})
    if rows.empty:
        only = RUNS[run]["finetune"]["strategy"]
        rows = pd.read_csv(own / "predictions.csv", dtype={"label": str}).assign(member=only)
    rows = rows[rows["role"] == "held_out"]
    truth = rows["label"].map(classes_of(folder).index)
    append(rows.assign(truth=truth, seconds=took, **key), file)
    print(f"{cohort}, {run}, fold {fold}: {took:.0f} s", flush=True)


def table(into: Path) -> None:
    """Print the metrics of each row, and its paired differences to the default."""
    print_row("set", "portfolio", *METRICS, *(f"{name} - default" for name in METRICS), "s a fold")
    print_row(*["---"] * (3 + 2 * len(METRICS)))
    for file in sorted(into.glob("ablation-*.csv")):
        rows = pd.read_csv(file, dtype={"fold": str})
        columns = [f"logit_{number}" for number in range(1 + int(rows["truth"].max()))]
        folds = rows.groupby("run")["fold"].nunique()
        rows = rows[rows["run"].isin(folds.index[folds == folds[DEFAULT]])]  # others are not complete yet
        known = set(zip(rows["run"], rows["member"], strict=True))
        averaged = [
            averages(rows, members, columns).assign(method=name, seed=0)
            for name, members in ROWS.items()
            if set(members) <= known
        ]
        runs = runs_of(pd.concat(averaged), columns)
        for name in runs.probabilities:
            cells = [cell(runs, metric, name) for metric in METRICS]
            differences = [cell(runs, metric, name, DEFAULT) if name != DEFAULT else "" for metric in METRICS]
            trained = rows[rows["run"].isin({run for run, _ in ROWS[name]})].drop_duplicates(["run", "fold"])
            seconds = trained.groupby("run")["seconds"].mean().sum()
            print_row(file.stem.removeprefix("ablation-"), name, *cells, *differences, f"{seconds:.0f}")


def averages(rows: pd.DataFrame, members: list[tuple[str, str]], columns: list[str]) -> pd.DataFrame:
    """Average the probabilities of members; the logits returned are ln of them."""
    of_members = [
        rows[(rows["run"] == run) & (rows["member"] == member)].sort_values("case") for run, member in members
    ]
    mean = sum(probabilities(one, columns) for one in of_members) / len(of_members)
    frame = of_members[0][["case", "patient", "truth"]].reset_index(drop=True)
    return frame.join(pd.DataFrame(mean, columns=columns).transform("log"))


if __name__ == "__main__":
    main()
