"""Processor time and memory of the computations whose cost grew with the square of the cases, each in a fork.

    OMP_NUM_THREADS=1 python benchmarks/scale_pieces.py --cases 500 2000 8000
    OMP_NUM_THREADS=1 PYTHONPATH=../earlier python benchmarks/scale_pieces.py --cases 500 2000    # an earlier checkout

Simulated features of 192 numbers, two cases of each patient. Seconds are user and system time of the computation, MiB
what it added to the peak of the process, and the value shows that two versions of the code agree.
"""

import argparse
import os
import resource

import numpy as np
import pandas as pd

from pipeline.imaging.preparation.fingerprint import perceptual_hash
from pipeline.metrics.bootstrap import Bootstrap, cluster_weights
from pipeline.metrics.calibrators.updating import recalibration_curve
from pipeline.stages.evidence.learners.few_shot import Episodes, Pool, episode_scores
from pipeline.stages.evidence.learners.similarity import linear_cka
from pipeline.stages.evidence.statistics import embedding
from pipeline.stages.split.leakage import near_duplicates

WIDTH = 192


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=[*PIECES])
    arguments = parser.parse_args()
    for piece in arguments.pieces:
        for cases in arguments.cases:
            child = os.fork()
            if not child:
                measure(piece, cases)
                os._exit(0)
            os.waitpid(child, 0)


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
    features, sites = rng.normal(size=(cases, WIDTH)), np.array(["north", "south"])[np.arange(cases) // 2 % 2]
    embedding._a_distance = lambda *_: lambda weights: weights[:, 0]
    if hasattr(embedding, "MEASURES"):
        embedding.MEASURES["a_distance"] = embedding._a_distance
    bootstrap = Bootstrap(1000, 0.95, 0)
    return lambda: embedding.domain_distances({"a": features}, patients_of(cases), sites, bootstrap)["upper"].iloc[0]


def alignment(rng, cases):

    features = rng.normal(size=(cases, WIDTH))
    return lambda: round(linear_cka(features, features[:, :100] + rng.normal(size=(cases, 100))), 12)


def few_shots(rng, cases):

    features, labels = rng.normal(size=(cases, WIDTH)), np.arange(cases) // 2 % 2
    support, query = slice(cases * 4 // 5), slice(cases * 4 // 5, None)
    pools = [Pool(features[part], labels[part], patients_of(cases)[part]) for part in (support, query)]
    return lambda: round(float(episode_scores(*pools, Episodes(2, [1, 5, 10], 20, 0))["probe", 10][..., 1].mean()), 9)


def duplicates(rng, cases):

    rows, columns = np.mgrid[:32, :32] / 32
    images = np.zeros((cases, 32, 32), dtype=np.uint8)
    for case in range(cases):
        across, down, phase, size = rng.normal(size=(4, 3, 1, 1))
        coarse = (size * np.sin(2 * np.pi * (across * rows + down * columns + phase))).sum(axis=0)
        images[case] = (110 + 40 * coarse + rng.normal(0, 4, (32, 32))).clip(0, 255).round()
    images[-50:] = images[:50] // 2 + 60
    table = pd.DataFrame({"case": [f"{case:06}" for case in range(cases)], "patient": patients_of(cases)})
    table["perceptual_hash"] = [perceptual_hash(image[None]) for image in images]
    planted = {(f"{case:06}", f"{cases - 50 + case:06}") for case in range(50)}

    def count():
        found = near_duplicates(table, images.reshape(cases, -1).astype(np.float32))
        pairs = set(zip(found["case"], found["other"], strict=True))
        return f"{len(pairs & planted)} of 50 planted, {len(pairs - planted)} others"

    return count


def updates(rng, cases):

    probabilities = rng.dirichlet([0.6, 0.6], cases)
    labels = (rng.random(cases) < probabilities[:, 1] ** 0.7).astype(np.int64)
    sizes = {"sizes": (5, 10, 20, 40, 80), "draws": 10, "seed": 0}
    return lambda: round(
        recalibration_curve(probabilities, labels, patients_of(cases), ["a", "b"], **sizes)["slope"].mean(), 6
    )


def weights(rng, cases):

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
