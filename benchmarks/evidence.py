"""How often a verdict of `evidence` is wrong where two arms are equally good, and how often intervals hold the truth.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/evidence.py                    # about half an hour on one core
    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/evidence.py verdicts --cohorts 200
    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/evidence.py ratios gaps --cohorts 100

Cohorts are simulated (`tests/stages/evidence/statistics/cohorts.py`), each with the number of its draw for a seed.
What is counted over cohorts is printed with its Monte-Carlo standard error; intervals are of 95 % from 200 replicates.

`verdicts`: logistic regressions on features of two arms that are equally good, useless or not; the share of cohorts in
which a promise is said to be kept or broken, and what it would be without the allowance for the coupling of folds
(`levels.coupling`). It should be 5 %. `ratios`: planted learning curves, the arm as good with n patients as its
reference with `ratio` times n. `trainings`: two arms' trajectories, the share of cohorts in which training is said to
be shorter or longer, overfitting less or more. `gaps`: predictions out of fold of an AUC of 0.85, of sites left out of
0.75.
"""

import argparse
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.levels import coupling
from pipeline.stages.evidence.arms import ADAPTED, IMAGENET
from pipeline.stages.evidence.statistics import differences, label_efficiency, learning_curves, stratified, verdicts
from pipeline.stages.evidence.statistics.overfitting import overfitting
from pipeline.stages.evidence.statistics.runs import Runs
from pipeline.stages.evidence.statistics.training_time import time_to_quality
from tests.stages.evidence.statistics.cohorts import planted, probed, trained, with_gap

APART = 10**6  # from the seed of a cohort to that of its replicates
REPLICATES, LEVEL, BINS = 200, 0.95, 10
COHORTS = {  # of `probed`
    "100 cases, labels random": {},
    "100 cases, 5 of 10 features tell": {"signal": 0.8},
    "100 cases, 100 features, random": {"features": 100},
    "300 cases, 5 of 50 features tell": {"n": 300, "features": 50, "signal": 0.5, "external": 100},
}
ALLOWANCES: dict[str, Callable[..., float]] = {"coupled": coupling, "as if apart": lambda *_: 1.0}
TRAININGS: dict[str, dict[str, Any]] = {  # of `trained`
    "5 folds of 40 held out, alike": {},
    "5 folds of 40, chance 0.2": {"chance": 0.2},
    "5 folds of 40, chance 0.5": {"chance": 0.5},
    "3 folds of 66, chance 0.2": {"folds": 3, "held_out": 66, "chance": 0.2},
    "5 folds of 40, chance 0.2, 3 times faster, still falling": {
        "chance": 0.2,
        "faster": 3.0,
        "rise": 0.0,
        "tau": 10.0,
    },
    "5 folds of 40, chance 0.2, gap 0.2 less": {"chance": 0.2, "gap": 0.2},
    "3 folds of 66, chance 0.2, gap 0.2 less": {"folds": 3, "held_out": 66, "chance": 0.2, "gap": 0.2},
}
CURVES = ((1.0, 500), (2.0, 500), (4.0, 500), (4.0, 200), (4.0, 2000))  # ratio, cases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=", ".join(PARTS))
    parser.add_argument("--cohorts", type=int, default=1000)
    arguments = parser.parse_args()
    for part in arguments.parts:
        print(f"\n{part}, {arguments.cohorts} cohorts\n")
        for row in PARTS[part](arguments.cohorts):
            print(row, flush=True)


def null_rates(cohorts: int) -> Iterator[str]:
    """Count verdicts other than "no evidence" where arms are equally good."""
    yield header("cohort", "folds", *(f"{number} {name}" for number, name in enumerate(verdicts.PROMISES, start=1)))
    for cohort, settings in COHORTS.items():
        both = []
        for seed in range(cohorts):
            internal, domains = probed(seed, **settings)
            both.append([wrong(internal, domains, seed, how) for how in ALLOWANCES.values()])
        for name, rows in zip(ALLOWANCES, zip(*both, strict=True), strict=True):
            found = pd.DataFrame(rows)
            yield line(cohort, name, *(share(found[one]) if one in found else "" for one in verdicts.PROMISES))


def wrong(internal: Runs, domains: Runs, seed: int, allowance: Callable[..., float]) -> dict[str, bool]:
    """Say of each promise that was evaluated whether adaptation is said to have helped or hurt."""
    with patch.object(stratified, "coupling", allowance), patch.object(differences, "coupling", allowance):
        table = verdicts_on(internal, domains, seed)
    evaluated = table[(table["comparison"] == "adaptation") & (table["verdict"] != verdicts.NOT_MEASURED)]
    return dict(zip(evaluated["name"], evaluated["verdict"] != verdicts.NO_EVIDENCE, strict=True))


def verdicts_on(internal: Runs, domains: Runs, seed: int) -> pd.DataFrame:
    """Give the verdicts on one cohort."""
    drawn = stratified.resample([internal, domains], Bootstrap(REPLICATES, LEVEL, seed + APART))
    scopes = differences.scopes_of(internal, domains, differences.EXTERNAL, drawn)
    tables = {
        "curve_differences": learning_curves.curve_differences(internal, drawn[0]),
        "differences": differences.difference_table(scopes, BINS, ["auc"]),
    }
    return verdicts.verdicts(tables)


def ratios(cohorts: int) -> Iterator[str]:
    """Recover planted label efficiencies."""
    yield header("ratio", "cases", "median", "quartiles", "interval holds it", "excludes 1", "without upper limit")
    for ratio, n in CURVES:
        rows = []
        for seed in range(cohorts):
            runs = planted(seed, n, ratio=ratio)
            (drawn,) = stratified.resample([runs], Bootstrap(REPLICATES, LEVEL, seed + APART))
            rows.append(label_efficiency.label_efficiency(runs, drawn).iloc[0])
        found = pd.DataFrame(rows).astype(dict.fromkeys(("ratio", "lower", "upper"), float))
        lower, upper = found["lower"].fillna(0), found["upper"].fillna(np.inf)
        quartiles = " to ".join(f"{end:.2f}" for end in found["ratio"].quantile([0.25, 0.75]))
        holds, excludes = (lower <= ratio) & (ratio <= upper), (lower > 1) | (upper < 1)
        counts = (share(marks) for marks in (holds, excludes, found["upper"].isna()))
        yield line(ratio, n, f"{found['ratio'].median():.2f}", quartiles, *counts)


def gaps(cohorts: int) -> Iterator[str]:
    """Recover planted gaps between cases out of fold and sites left out."""
    yield header("cases", "gap", "mean", "interval holds it")
    for n in (150, 300, 1000):
        found = pd.concat([gaps_of(*with_gap(seed, n), seed) for seed in range(cohorts)]).astype({"gap": float})
        holds = (found["gap_lower"] <= 0.1) & (found["gap_upper"] >= 0.1)
        yield line(n, 0.1, f"{found['gap'].mean():.4f}", share(holds))


def gaps_of(internal: Runs, domains: Runs, seed: int) -> pd.DataFrame:
    """Estimate the gap of one arm on one site."""
    drawn = stratified.resample([internal, domains], Bootstrap(REPLICATES, LEVEL, seed + APART))
    scopes = differences.scopes_of(internal, domains, differences.EXTERNAL, drawn)
    return differences.domain_table(scopes).iloc[:1]


def trainings(cohorts: int) -> Iterator[str]:
    """Count what is said of trainings that differ by chance, or by a planted speed and gap."""
    yield header("trainings", "shorter", "longer", "median ratio", "less overfitting", "more", "mean difference")
    for name, settings in TRAININGS.items():
        rows = []
        for seed in range(cohorts):
            drawn = (trained(seed, **settings), ADAPTED, IMAGENET, Bootstrap(REPLICATES, LEVEL, seed + APART))
            time, gap = time_to_quality(*drawn).set_index("unit").loc["passes"], overfitting(*drawn).iloc[0]
            limits = [time["lower"], time["upper"], gap["lower"], gap["upper"]]
            rows.append([time["ratio"], gap["difference"], *limits])
        found = pd.DataFrame(rows, dtype=float)
        shorter, longer, less, more = found[2] > 1, found[3] < 1, found[4] > 0, found[5] < 0
        time_said = (share(shorter), share(longer), f"{found[0].median():.2f}")
        yield line(name, *time_said, share(less), share(more), f"{found[1].mean():.3f}")


def share(marks: "pd.Series[bool]") -> str:
    """Print a share and its standard error, in per cent."""
    part = float(marks.mean())
    return f"{100 * part:.1f} ± {100 * np.sqrt(part * (1 - part) / len(marks)):.1f} %"


def header(*names: str) -> str:
    return line(*names) + "\n" + "|---" * len(names) + "|"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


PARTS: dict[str, Callable[[int], Iterator[str]]] = {
    **{"verdicts": null_rates, "ratios": ratios},
    **{"gaps": gaps, "trainings": trainings},
}

if __name__ == "__main__":
    main()
