"""Measure how often the prediction intervals of a regression contain the truth, in simulated cohorts.

Each cohort has features, a number that depends on some of them, noise that grows with the number, and patients with
several images. As in the pipeline, models of five folds predict the held-out cases, `fit_values` fits line and
intervals on them, and they are applied to 1,000 new patients: to the outputs of the model that is refitted on all
patients, which is a little better than those of the folds, and to those of a model of one fold.

    python benchmarks/regression_intervals.py [cohorts]
"""

import sys

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold

from pipeline.metrics.regression.intervals import fit_values

WIDTH, COVERAGE, NEW, PENALTY = 10, 0.9, 1000, 30


def draw(rng, patients, repeated):
    """Draw features, numbers and patients; a share of them has a second image."""
    of_case = np.sort(np.concatenate([np.arange(patients), np.arange(round(patients * repeated))]))
    features = rng.normal(size=(patients, WIDTH))
    clean = 20 + features[:, :5].sum(axis=1) * 3
    number = clean + rng.normal(size=patients) * np.clip(0.25 * clean, 1, None)
    seen = features[of_case] + rng.normal(0, 0.3, (len(of_case), WIDTH))
    return seen, number[of_case], of_case.astype(str)


def coverage_of(seed, patients, repeated):
    """Give the share of new patients whose images all lie in their intervals: refitted model, model of a fold."""
    rng = np.random.default_rng(seed)
    features, true, names = draw(rng, patients, repeated)
    outputs = np.empty(len(true))
    for train, held in GroupKFold(5, shuffle=True, random_state=seed).split(features, true, names):
        of_fold = Ridge(PENALTY).fit(features[train], true[train])
        outputs[held] = of_fold.predict(features[held])
    line, intervals = fit_values(outputs, true, names, COVERAGE)
    new, truth, whose = draw(rng, NEW, repeated)
    shares = []
    for model in (Ridge(PENALTY).fit(features, true), of_fold):
        lower, upper = intervals.of(line.apply(model.predict(new)))
        inside = np.ones(NEW, dtype=bool)
        np.logical_and.at(inside, whose.astype(int), (lower <= truth) & (truth <= upper))
        shares.append(inside.mean())
    return shares


def main(cohorts=500):
    """Print a line for each size of cohort."""
    for patients, repeated in ((30, 0.0), (60, 0.3), (100, 0.0), (100, 0.3), (300, 0.3)):
        found = np.array([coverage_of(seed, patients, repeated) for seed in range(cohorts)])
        (refit, fold), errors = found.mean(axis=0), found.std(axis=0, ddof=1) / np.sqrt(cohorts)
        print(
            f"{patients} patients, {repeated:.0%} with two images, {COVERAGE} promised: refitted model {refit:.3f} "
            f"(standard error {errors[0]:.4f}), model of a fold {fold:.3f} ({errors[1]:.4f})"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
