"""Processor time and memory of the computations whose cost grew with the square of the cases, one process each.

    OMP_NUM_THREADS=1 python benchmarks/scale_pieces.py --cases 500 2000 8000
    OMP_NUM_THREADS=1 python benchmarks/scale_pieces.py --cases 500 2000 --code ../earlier

Simulated features of 192 numbers, two cases of each patient. Seconds are user and system time of the computation, MiB
what it added to the peak of the process, and the value shows that two versions of the code agree.
"""

import argparse
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=[*PIECES])
    parser.add_argument("--code", type=Path, default=ROOT, help="checkout whose code runs")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        measure(arguments.pieces[0], arguments.cases[0])
        return
    for piece in arguments.pieces:
        for cases in arguments.cases:
            words = [sys.executable, __file__, "--run", "--pieces", piece, "--cases", str(cases)]
            subprocess.run(words, env=os.environ | {"PYTHONPATH": str(arguments.code)}, check=True)


def measure(piece: str, cases: int) -> None:
    compute = PIECES[piece](np.random.default_rng(0), cases)
    before = resource.getrusage(resource.RUSAGE_SELF)
    value = compute()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    added = (after.ru_maxrss - before.ru_maxrss) / 1024
    print(f"{piece:14} {cases:6} {seconds:8.2f} s {added:8.0f} MiB  {value!r}", flush=True)


def patients_of(cases):
    return np.char.add("case-", (np.arange(cases) // 2).astype(str))


def discrepancy(rng, cases):
    """Compare one site with the others, with 1,000 replicates, through the table of one arm."""
    from pipeline.metrics.bootstrap import Bootstrap
    from pipeline.stages.evidence.statistics import embedding

    features, sites = rng.normal(size=(cases, WIDTH)), np.array(["north", "south"])[np.arange(cases) // 2 % 2]
    embedding._a_distance = lambda *_: lambda weights: weights[:, 0]
    if hasattr(embedding, "MEASURES"):
        embedding.MEASURES["a_distance"] = embedding._a_distance
    bootstrap = Bootstrap(1000, 0.95, 0)
    return lambda: embedding.domain_distances({"a": features}, patients_of(cases), sites, bootstrap)["upper"].iloc[0]


def alignment(rng, cases):
    from pipeline.stages.evidence.learners.similarity import linear_cka

    features = rng.normal(size=(cases, WIDTH))
    return lambda: round(linear_cka(features, features[:, :100] + rng.normal(size=(cases, 100))), 12)


def few_shots(rng, cases):
    from pipeline.stages.evidence.learners.few_shot import Episodes, Pool, episode_scores

    features, labels = rng.normal(size=(cases, WIDTH)), np.arange(cases) // 2 % 2
    support, query = slice(cases * 4 // 5), slice(cases * 4 // 5, None)
    pools = [Pool(features[part], labels[part], patients_of(cases)[part]) for part in (support, query)]
    return lambda: round(float(episode_scores(*pools, Episodes(2, [1, 5, 10], 20, 0))["probe", 10][..., 1].mean()), 9)


def duplicates(rng, cases):
    from pipeline.stages.split.leakage import near_duplicates

    rows, columns = np.mgrid[:32, :32] / 32
    coarse, signs = np.zeros((cases, 32, 32)), np.zeros((cases, 64), dtype=bool)
    for case in range(cases):
        across, down, phase, size = rng.normal(size=(4, 3, 1, 1))
        coarse[case] = (size * np.sin(2 * np.pi * (across * rows + down * columns + phase))).sum(axis=0)
        small = coarse[case].reshape(8, 4, 8, 4).mean(axis=(1, 3)).ravel()
        signs[case] = small > np.median(small)
    images = (110 + 40 * coarse + rng.normal(0, 4, coarse.shape)).clip(0, 255).round().reshape(cases, -1)
    images[-50:], signs[-50:] = images[:50] // 2 + 60, signs[:50]
    table = pd.DataFrame({"case": [f"{case:06}" for case in range(cases)], "patient": patients_of(cases)})
    table["perceptual_hash"] = [f"{int(''.join('01'[bit] for bit in row), 2):016x}" for row in signs]
    planted = {(f"{case:06}", f"{cases - 50 + case:06}") for case in range(50)}

    def count():
        found = near_duplicates(table, images.astype(np.float32))
        pairs = set(zip(found["case"], found["other"], strict=True))
        return f"{len(pairs & planted)} of 50 planted, {len(pairs - planted)} others"

    return count


def updates(rng, cases):
    from pipeline.metrics.calibrators.updating import recalibration_curve

    probabilities = rng.dirichlet([0.6, 0.6], cases)
    labels = (rng.random(cases) < probabilities[:, 1] ** 0.7).astype(np.int64)
    sizes = {"sizes": (5, 10, 20, 40, 80), "draws": 10, "seed": 0}
    return lambda: round(
        recalibration_curve(probabilities, labels, patients_of(cases), ["a", "b"], **sizes)["slope"].mean(), 6
    )


def weights(rng, cases):
    from pipeline.metrics.bootstrap import cluster_weights

    return lambda: int(cluster_weights(patients_of(cases), 1000, 0)[:, 0].sum())


PIECES = {
    "discrepancy": discrepancy,
    "alignment": alignment,
    "few shots": few_shots,
    "duplicates": duplicates,
    "updates": updates,
    "weights": weights,
}

if __name__ == "__main__":
    main()
