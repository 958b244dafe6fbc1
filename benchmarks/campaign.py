"""Try to break a run: kills, flipped bits, full disks, hostile images, names that leak; one table of what happened.

    python benchmarks/campaign.py --folder /tmp/campaign                        # all pieces, about an hour on two cores
    python benchmarks/campaign.py --folder /tmp/campaign --pieces flips --flips 20 --seed 3

Each piece works on a copy of this working tree with a small simulated cohort and timm's doll-size encoder. The folder
keeps the finished run for the next call. Everything random is drawn from --seed. A row of the table says how many
tries there were, how many were noticed (an error with a cure, or computed again after a warning), changed nothing,
changed a result silently, or ended in a traceback.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import campaign_images
import campaign_pieces
import yaml
from campaign_pieces import Project

ROOT = Path(__file__).parent.parent
RECIPE = {"north": {"development": 10}, "south": {"development": 8}, "harbour": {"test": 6, "unlabelled": 2}}
CHANGES = {
    "preprocess": {"image_size": 64, "slices": 4},
    "split": {"n_folds": 3, "folds": [0, 1, "final"]},
    "adapt": {"encoder": "test_efficientnet", "weights": "none", "method": "adabn"},
    "finetune": {"full": {"epochs": 3, "sides": [48, 64], "instances": 2}},  # of the portfolio, the default
    "calibrate": {"n_bootstrap": 100},
    "evidence": {"fractions": [0.5], "draws": 1, "episodes": 2, "shots": [1]},
    "release": {"exports": []},
}
OUTCOMES = ("noticed", "no effect", "silent change", "traceback")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for the copies of the project")
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=list(PIECES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--flips", type=int, default=300)
    parser.add_argument("--disks", type=int, default=20)
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MEDADAPT_KEYS": str(arguments.folder / "keys"), "DVC_NO_ANALYTICS": "1"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(ROOT)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    draws, rows = random.Random(arguments.seed), []
    for piece in arguments.pieces:
        began = time.perf_counter()
        for name, outcomes in PIECES[piece](arguments, draws):
            rows.append((piece, name, outcomes))
            print(f"{piece}: {name}: {dict(outcomes) if isinstance(outcomes, Counter) else outcomes}", flush=True)
        print(f"{piece} took {time.perf_counter() - began:.0f} s", flush=True)
    print(f"\n| piece | what | tries | {' | '.join(OUTCOMES)} |\n|---|---|---|---|---|---|---|")
    for piece, name, found in rows:
        cells = (
            [found.total(), *(found[kind] for kind in OUTCOMES)] if isinstance(found, Counter) else [found] + [""] * 4
        )
        print(f"| {piece} | {name} | {' | '.join(map(str, cells))} |")


def fresh(folder: Path) -> Project:
    """Copy the working tree with a small cohort, and make it a project of git."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.split("\n"):
        if (ROOT / name).is_file() and not name.startswith(("data/metrics", "data/folds", "data/openings", "dvc.lock")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    edit(folder / "data/demo/recipe.yaml", {"sites": {site: {"patients": people} for site, people in RECIPE.items()}})
    edit(folder / "params.yaml", CHANGES)
    same = {f"GIT_{who}_DATE": "2026-01-01T00:00:00Z" for who in ("AUTHOR", "COMMITTER")}  # releases name the commit
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "start"],
    ):
        subprocess.run(["git", *words], cwd=folder, check=True, env=os.environ | same)
    return Project(folder)


def edit(file: Path, changes: dict) -> None:
    values = yaml.safe_load(file.read_text())
    for section, entries in changes.items():
        for key, value in entries.items():
            if (
                isinstance(values[section], dict)
                and isinstance(values[section].get(key), dict)
                and isinstance(value, dict)
            ):
                values[section][key].update(value)
            else:
                values[section][key] = value
    file.write_text(yaml.safe_dump(values, sort_keys=False))


def finished(folder: Path) -> Project:
    """Return the project of an undisturbed run, which later pieces and calls share."""
    if not (folder / "whole" / "data/report/index.html").exists():
        project = fresh(folder / "whole")
        project.repro()
    return Project(folder / "whole")


def kills(arguments: argparse.Namespace, draws: random.Random):
    project = finished(arguments.folder)
    yield from campaign_pieces.kills(fresh(arguments.folder / "killed"), project.outs(), arguments.kills, draws)


def flips(arguments: argparse.Namespace, draws: random.Random):
    yield from campaign_pieces.flips(finished(arguments.folder), arguments.flips, draws)


def disks(arguments: argparse.Namespace, draws: random.Random):
    yield from campaign_pieces.disks(finished(arguments.folder), arguments.folder, arguments.disks, draws)


def images(arguments: argparse.Namespace, draws: random.Random):
    yield from campaign_images.images(arguments.folder / "images")


def names(arguments: argparse.Namespace, draws: random.Random):
    yield from campaign_pieces.names(fresh(arguments.folder / "named"), arguments.folder)


def digests(arguments: argparse.Namespace, draws: random.Random):
    yield from campaign_pieces.digests_of(finished(arguments.folder))


PIECES = {"kills": kills, "flips": flips, "disks": disks, "images": images, "names": names, "digests": digests}

if __name__ == "__main__":
    main()
