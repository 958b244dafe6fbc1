"""The cohorts on which methods of adaptation are compared, each with an external site as the test set.

A cohort is arranged in one or more ways; together they evaluate each labelled case of the external site once. In a
further arrangement, the oracle's, those cases are assigned to five patient-grouped folds together with the development
cases: what labels of the external site would give. (Each of its five models sees a fifth fewer development cases than
the final model of the others, so it is rather too low.)
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from trials import DATA, ROOT, Arrangement, Changes

FOLDS = tuple("01234")
NO_TEST = {"test": "none", "test_sites": [], "allow_leaks": []}


@dataclass(frozen=True)
class Cohort:
    """A cohort, the arrangements that evaluate its external site, and the oracle's."""

    about: str
    evaluated: tuple[Arrangement, ...]
    oracle: Arrangement


def demo() -> Cohort:
    """Give the simulated head MRI of the repository; the site harbour is external."""
    site = "harbour"
    return Cohort(
        f"Simulated head MRI: two sites developed on, {site} evaluated (and looked at often).",
        (Arrangement("test", "demo", {}, site=site, write=write_demo),),
        Arrangement("oracle", "demo", {"split": NO_TEST}, FOLDS, "held_out", site, write_demo),
    )


def write_demo(folder: Path) -> None:
    shutil.copytree(ROOT / "data/demo", folder / "data/demo", dirs_exist_ok=True)


CELLS = {"1": "neutrophil", "2": "lymphocyte", "3": "monocyte", "4": "eosinophil", "5": "basophil"}
LEFT_OUT = "basophil"


def wbc(known: str = "dataset1", external: str = "dataset2") -> Cohort:
    """Give the white blood cells of two laboratories, one of which is external.

    One half of it stands there unlabelled while the other is the test set; then they change places. So each cell
    of it is evaluated once, by a model that never saw it.
    """
    cohort = {"path": "data/raw/wbc", "public": True, "positive": None}
    cohort["classes"] = [name for name in CELLS.values() if name != LEFT_OUT]
    given: Changes = {
        "cohort": cohort,
        "preprocess": {"image_size": 128},
        "split": {"test": "given", "test_sites": [], "allow_leaks": []},
    }
    halves = [
        Arrangement(name, f"wbc_{known}_{name}", given, write=partial(write_wbc, known=known, half=half))
        for half, name in enumerate(("first", "second"))
    ]
    whole = Arrangement(
        "oracle",
        f"wbc_{known}_oracle",
        {**given, "split": NO_TEST},
        FOLDS,
        "held_out",
        external,
        partial(write_wbc, known=known, half=None),
    )
    return Cohort(
        f"White blood cells of two laboratories (labels partly by the set's authors): {known} developed on, {external} "
        "evaluated in two halves, by two models, predictions pooled; each cell counts as a patient. No basophils: "
        "dataset1 has a single one, which can be neither assigned to folds nor learnt.",
        tuple(halves),
        whole,
    )


def write_wbc(folder: Path, known: str, half: int | None) -> None:
    """Write cohort.csv with links to the images; of the external set, `half` is the test set, the other unlabelled.

    Parameters
    ----------
    known : str
        The set that is developed on.
    half : {0, 1} or None
        None develops on all of the external set, too.
    """
    source = DATA / "wbc_two_source"
    if not source.exists():
        sys.exit(f"{source} is not there; MEDADAPT_TEST_DATA names the folder above it")
    into = folder / "data/raw/wbc"
    rows = []
    for site in ("dataset1", "dataset2"):
        labels = pd.read_csv(source / f"Class Labels of Dataset {site[-1]}.csv", names=["image", "label"], header=0)
        for number, label in labels.itertuples(index=False):
            name = f"{site}/{number:03d}.png"
            link(source / name, into / "images" / name)
            split = "development" if site == known or half is None else ("unlabelled", "test")[half_of(name) == half]
            rows.append((name, f"images/{name}", CELLS[str(label)], site, split))
    pd.DataFrame(rows, columns=["case_id", "image", "label", "site", "split"]).to_csv(into / "cohort.csv", index=False)


def half_of(name: str) -> int:
    """Assign an image to half 0 or 1 by a hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] % 2


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.symlink_to(source.resolve())


def describe(into: Path, cohort: Cohort) -> None:
    """Print what the cohort is, and what the audit refused because its class is not one of cohort.classes."""
    folders = [into / arrangement.folder for arrangement in (*cohort.evaluated, cohort.oracle)]
    data = next(folder / "data/cohort" for folder in folders if (folder / "data/cohort/audit.csv").exists())
    audit = pd.read_csv(data / "audit.csv")
    refused = audit[(audit["check"] == "label") & (audit["action"] == "refused")]
    classes = ", ".join(json.loads((data / "cohort.json").read_text())["classes"])
    print(f"\n{cohort.about}\nClasses: {classes}.", end="")
    if len(refused):
        print(f" Neither trained on nor evaluated: {len(refused)} images of other classes.", end="")
    print("\n")


COHORTS: dict[str, Callable[[], Cohort]] = {
    "demo": demo,
    "wbc": wbc,
    "wbc_reversed": partial(wbc, known="dataset2", external="dataset1"),
}
