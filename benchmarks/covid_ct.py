"""COVID-CT through the whole pipeline, in a clone of its own; or methods compared on its development cases alone.

    python benchmarks/covid_ct.py official --into /tmp/official           # the official split and test set
    python benchmarks/covid_ct.py grouped  --into /tmp/grouped            # an honest one: test set by patient
    python benchmarks/covid_ct.py official --into /tmp/official --open    # now look at the test set, and count it
    python benchmarks/covid_ct.py grouped  --into /tmp/luna --pool luna --method simclr --epochs 12
    python benchmarks/covid_ct.py validation    --into /tmp/validation --pool luna --method none adabn simclr
    python benchmarks/covid_ct.py arms     --into /tmp/arms  --pool luna --method none adabn simclr --open

The images are not ours to ship: they are looked for in ../shared/data, or where MEDADAPT_TEST_DATA says.
The official split puts 13 patients of its test set into development too, and two images of it stand there under the
other label; it runs only because they are named here, and every metric of the test set is stamped with it.

`validation` leaves the official test set out of the cohort, so that nothing of it is read, and compares methods by
probes on the patient-grouped folds of the rest. `arms` trains one probe of each method on all of the development cases
and opens the official test set once for each. The runs of both stand in INTO/results.csv and are not repeated. `--pool
luna` adds 125 lung slices of LUNA16, one of each scan, as unlabelled images of a second site.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import yaml
from cohorts import FOLDS, NO_TEST, link
from evaluating import gather, print_differences, print_metrics
from trials import DATA, METHODS, ORACLE, ROOT, Arrangement, Changes, pipeline, run_all

SOURCE = DATA / "covid_ct" / "labels.csv"
LEAKS = [
    "05c0c64c2713",
    "22b4ef20b153",
    "259474a08b91",
    "41c1de434a31",
    "61cd4da252fc",
    "6998f1538016",
    "6c7305606d93",
    "6fe091470e2b",
    "7459045a1113",
    "8944f9d27353",
    "bb91d0eb8191",
    "c342a72af54e",
    "db115e6ad3b3",
]
DUPLICATES = ["case-cd82f9b41a71", "case-12bc43200eb9"]  # non-COVID in train, the same images COVID in the test set
COHORT: dict[str, object] = {
    "path": "data/raw/covid_ct",
    "public": True,
    "classes": ["noncovid", "covid"],
    "positive": "covid",
}
SPLITS: dict[str, Changes] = {
    "official": {
        "test": "given",
        "test_sites": [],
        "allow_leaks": [*(f"patient-{leak}" for leak in LEAKS), *DUPLICATES],
    },
    "grouped": {"test": "patients", "test_sites": [], "test_fraction": 0.25, "allow_leaks": []},
}
# Chosen by patient-grouped cross-validation of the development cases alone, before the test set was opened; see
# docs/results/how-good.md. The rest is the default.
RECIPE = {"trainable_stages": 4, "views": 8}
RELEASE = {
    "name": "covid_ct_classification",
    "description": "COVID-19 against other findings on single chest CT slices (COVID-CT).",
}
CARD = Path(__file__).with_name("covid_ct_card.yaml")
COMPARED = ("validation", "arms")
VALIDATION = {"strategy": "probe", "views": 2}


def main() -> None:
    arguments = parse()
    if not SOURCE.exists():
        sys.exit(f"{SOURCE} is not there; MEDADAPT_TEST_DATA names the folder that holds covid_ct/")
    folder = arguments.into = arguments.into.resolve()
    if arguments.split in COMPARED:
        compare(folder, arguments)
        return
    if not folder.exists():
        subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
        write_cohort(folder, arguments.pool)
    refuse_other_pool(folder, arguments.pool)
    configure(folder / "params.yaml", arguments)
    subprocess.run([sys.executable, "-m", "dvc", "repro"], cwd=folder, check=True, env=environment(folder))
    show(folder)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=[*SPLITS, *COMPARED])
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--open", action="store_true", help="show the metrics of the test set, and count it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pool", choices=["luna"], help="unlabelled images to add")
    methods = [method for method in METHODS if method != ORACLE]
    parser.add_argument(
        "--method", nargs="+", choices=methods, default=[], help="of adaptation; several for validation"
    )
    parser.add_argument("--strength", type=float, help="of that method")
    parser.add_argument("--epochs", type=int, help="of the methods that go on training without labels, at most")
    arguments = parser.parse_args()
    if arguments.split == "validation" and arguments.open:
        parser.error("validation never opens the test set")
    if arguments.split == "arms" and not arguments.open:
        parser.error("arms opens the test set once for each method; say --open")
    if arguments.split not in COMPARED and len(arguments.method) > 1:
        parser.error("several methods are compared by validation and arms alone")
    if not arguments.method and given("", arguments):
        parser.error("--strength and --epochs belong to a --method")
    return arguments


def compare(folder: Path, arguments: argparse.Namespace) -> None:
    """Compare methods by probes: out of fold on development cases (validation), or on the official test set (arms)."""
    arms = arguments.split == "arms"
    arrangement = Arrangement(
        arguments.split,
        "",
        {"cohort": COHORT, "split": SPLITS["official"] if arms else NO_TEST, "finetune": VALIDATION},
        ("final",) if arms else FOLDS,
        "test" if arms else "held_out",
        write=partial(write_cohort, pool=arguments.pool, with_test=arms),
    )
    names = arguments.method or ["none"]
    methods = {name_of(name, arguments): {**METHODS[name], **given(name, arguments)} for name in names}
    refuse_other_pool(folder, arguments.pool)
    rows = run_all(folder, lambda method: [arrangement], methods, [arguments.seed])
    runs = gather(rows)
    evaluated = "cases of the official test set" if arms else "development cases, out of fold"
    print(f"\nCOVID-CT, {len(runs.labels)} {evaluated}, probes; pool: {arguments.pool or 'none'}\n")
    print_metrics(rows, runs)
    print()
    print_differences(runs, ["none"])


def name_of(method: str, arguments: argparse.Namespace) -> str:
    """Name a run after its method and what of it was set by hand."""
    return " ".join([method, *(f"{key} {value:g}" for key, value in given(method, arguments).items())])


def given(method: str, arguments: argparse.Namespace) -> dict[str, float]:
    """List the parameters of a method that were set by hand; `none` has none."""
    if method == "none":
        return {}
    return {key: value for key in ("strength", "epochs") if (value := getattr(arguments, key)) is not None}


def write_cohort(folder: Path, pool: str | None, with_test: bool = True, as_development: bool = False) -> None:
    """Import the images, with the pool if there is one, without the test set or with it among all others if wanted."""
    columns = ["--image", "file", "--patient", "patient", "--split", "split", "--rename", "0=noncovid", "1=covid"]
    cohort = Path(str(COHORT["path"]))
    pipeline(folder, "import", "csv", str(SOURCE), "--into", str(cohort), "--link", *columns)
    file = folder / cohort / "cohort.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    if not with_test:
        table = table[table["split"] != "test"]
    if as_development:
        table["split"] = "development"
    if pool:
        table = pd.concat([table.assign(site="papers"), luna_slices(file.parent)])
    table.to_csv(file, index=False)


def luna_slices(cohort: Path) -> pd.DataFrame:
    """Link the slices of LUNA below a cohort's images, and give their rows; a scan is a patient."""
    files = sorted((DATA / "luna_slices").glob("*.png"))
    for file in files:
        link(file, cohort / "images" / "luna" / file.name)
    rows = [(f"luna/{file.name}", file.name.partition(".mhd")[0], f"images/luna/{file.name}") for file in files]
    return pd.DataFrame(rows, columns=["case_id", "patient_id", "image"]).assign(
        label="", site="luna", split="unlabelled"
    )


def refuse_other_pool(folder: Path, pool: str | None) -> None:
    """Stop where the folder was set up with another pool, so that no table mixes the two."""
    file = folder / str(COHORT["path"]) / "cohort.csv"
    if not file.exists():
        return
    sites = pd.read_csv(file, dtype=str, keep_default_na=False)["site"]
    if (pool == "luna") != (sites == "luna").any():
        sys.exit(f"{folder} was set up {'without' if pool else 'with'} --pool luna; name another folder with --into")


def configure(file: Path, arguments: argparse.Namespace) -> None:
    """Set what differs from the demo."""
    values = yaml.safe_load(file.read_text())
    values["seed"] = arguments.seed
    values["cohort"] = COHORT
    values["split"].update(SPLITS[arguments.split])
    for method in arguments.method:
        values["adapt"] |= {**METHODS[method], **given(method, arguments)}
    values["finetune"].update(RECIPE)
    values["calibrate"] |= {"test": "open" if arguments.open else "closed", "subgroups": [], "baseline": []}
    values["release"].update(RELEASE)
    values["report"]["title"] = f"COVID-CT, {arguments.split} split"
    file.write_text(yaml.safe_dump(values, sort_keys=False))
    card = file.parent / str(COHORT["path"]) / "card.yaml"
    card.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CARD, card)


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}


def show(folder: Path) -> None:
    """Print the pooled metrics as a table."""
    names = ("auc", "accuracy", "sensitivity", "specificity", "log_loss", "brier", "calibration_slope", "ece")
    print("| set | n | " + " | ".join(names) + " |")
    print("|" + "---|" * (len(names) + 2))
    for file in sorted((folder / "data/metrics/pooled").glob("*.json")):
        metrics = json.loads(file.read_text())
        cells = [f"{v['value']:.3f} ({v['lower']:.3f} to {v['upper']:.3f})" for v in (metrics[name] for name in names)]
        print(f"| {file.stem.replace('_', ', ')} | {metrics['n']} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
