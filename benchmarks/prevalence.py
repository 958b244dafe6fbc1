"""Measure whether the correction of prevalences without labels pays, and where a change of the scanner misleads it.

    python benchmarks/prevalence.py --into /tmp/shift

Reads what `choosing.py measure covid` wrote: probes without adaptation, calibrated by a temperature on source cases out
of fold. A hospital is a draw of 40 of the evaluated half with a planted prevalence, on images as they are and under
each shift. `predict --site-prevalence` also refuses scans that are out of distribution, which this table leaves out.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from choosing import NONE
from evaluating import print_row
from label_free_scores import temperature
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.learning.training.validators import log_losses
from pipeline.metrics.prevalence import estimate_prevalences

Floats = NDArray[np.float64]
PATIENTS, DRAWS = 40, 20
PREVALENCES = (0.1, 0.3, 0.5, 0.7, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True)
    into = parser.parse_args().into
    print_row("images", "prevalence", "written", "log-loss", "as written - as it is", "maximum likelihood - as it is")
    print_row(*["---"] * 6)
    found: dict[str, list[Floats]] = {}
    for file in sorted((into / "choosing").glob("covid-*.npz")):
        _, _, shift, severity = file.stem.split("-")
        if severity == "1":
            found.setdefault(shift, []).append(hospitals(dict(np.load(file))))
    for shift in sorted(found, key=lambda one: one != "clean"):
        rows = np.mean(found[shift], axis=0)
        for prevalence, (written, before, guarded, always) in zip(PREVALENCES, rows, strict=True):
            cells = (f"{written:.0%}", f"{before:.3f}", f"{guarded - before:+.3f}", f"{always - before:+.3f}")
            print_row(shift, prevalence, *cells)


def hospitals(known: Mapping[str, NDArray]) -> Floats:  # type: ignore[type-arg]
    """Return for each prevalence the share of draws with a correction, and the log-loss as it is, guarded, always."""
    source, labels = known[f"{NONE}/source"], known["labels"]
    t = temperature(source, labels)
    calibrated = softmax(source / t, axis=1)
    prior = np.bincount(labels) / len(labels)
    reference = [calibrated[labels == number].T for number in range(2)]
    rng, truth = np.random.default_rng(0), known["truth"]
    probabilities = softmax(known[f"{NONE}/evaluated"] / t, axis=1)
    names = np.arange(PATIENTS).astype(str)
    table = []
    for prevalence in PREVALENCES:
        rows = []
        for _ in range(DRAWS):
            ill = round(PATIENTS * prevalence)
            drawn = np.concatenate(
                [
                    rng.choice(np.flatnonzero(truth == 1), ill),
                    rng.choice(np.flatnonzero(truth == 0), PATIENTS - ill),
                ]
            )
            here = probabilities[drawn]
            one = estimate_prevalences(here, names, prior, reference, of_images=prior)
            moved = (np.maximum(shares, 0.5 / PATIENTS) for shares in (prior, one.nearest_to(prior), one.shares))
            losses = [log_losses(np.log(here * shares / prior), truth[drawn]).mean() for shares in moved]
            written = one.differ and one.fits
            rows.append([written, losses[0], losses[int(written)], losses[2]])
        table.append(np.mean(rows, axis=0))
    return np.array(table)


if __name__ == "__main__":
    main()
