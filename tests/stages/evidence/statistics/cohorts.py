"""Simulated cohorts of which the truth is known: probes that learn from random features, and planted curves."""

import itertools

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn import config_context
from sklearn.linear_model import LogisticRegression

from pipeline.metrics.questions import both_ways
from pipeline.stages.evidence.statistics.runs import Key, Runs, Trajectory

ARMS = ("adapted", "imagenet")
FOLDS = 5


def probed(
    seed, n=100, features=10, signal=0.0, shared=0.5, fractions=(0.5, 1.0), draws=2, n_sites=3, external=50, better=""
):
    """Train logistic regressions on features of two arms that are equally good: useless ones where `signal` is 0.

    `shared` is the share of the variance of the features that the arms have in common; the features of an arm that is
    `better` tell much more.

    Returns
    -------
    internal, domains : Runs
    """
    rng = np.random.default_rng(seed)
    total = n + external
    events = rng.permutation(total) < total // 2
    fold, site = (assigned(rng, events, parts) for parts in (FOLDS, n_sites))
    fold[n:], site[n:] = -1, n_sites
    common = rng.normal(size=(total, features))
    own = {arm: np.sqrt(shared) * common + np.sqrt(1 - shared) * rng.normal(size=common.shape) for arm in ARMS}
    own = {
        arm: x + (signal + 2 * (arm == better)) * (events[:, None] - 0.5) * (np.arange(features) < 5)
        for arm, x in own.items()
    }
    known = np.arange(total) < n
    orders = [rng.permutation(n) for _ in range(draws)]
    keys = [Key("probe", arm, f, d) for arm in ARMS for f in fractions for d in range(1 if f == 1 else draws)]
    inside = {key: np.zeros((n, 2)) for key in keys}
    for key in keys:
        for k in range(FOLDS):
            rows = nested(orders[key.draw], fold[:n] != k, events, key.fraction)
            inside[key][fold[:n] == k] = fitted(own[key.arm], events, rows, np.flatnonzero(fold == k))
    outside = {}
    for key in (key for key in keys if key.fraction == 1):
        parts = [
            fitted(own[key.arm], events, np.flatnonzero(known & (site != s)), np.flatnonzero(site == s))
            for s in range(n_sites + (external > 0))
        ]
        outside[key] = np.concatenate(parts)
    order = np.concatenate([np.flatnonzero(site == s) for s in range(n_sites + (external > 0))])
    names, labelled = np.arange(total).astype(str), {key: key.fraction * n * (1 - 1 / FOLDS) for key in keys}
    sites = np.array([*(f"s{s}" for s in range(n_sites)), "far"])[site]
    truth = events.astype(np.int64)
    left_out = np.where(site == n_sites, "final", np.char.add("without-", sites))
    return (
        Runs(names[:n], names[:n], fold[:n].astype(str), truth[:n], sites[:n], inside, labelled),
        Runs(names[order], names[order], left_out[order], truth[order], sites[order], outside, labelled),
    )


def assigned(rng, events, parts):
    """Assign cases to folds, or to sites, of equal size and prevalence."""
    found = np.zeros(len(events), dtype=int)
    for kind in (events, ~events):
        found[kind] = rng.permutation(np.arange(kind.sum()) % parts)
    return found


def nested(order, allowed, events, fraction):
    """Take the first of an order, of events and of the others, so that a smaller fraction is part of a larger."""
    left = order[allowed[order]]
    kinds = [left[events[left] == kind] for kind in (False, True)]
    return np.concatenate([kind[: max(2, round(fraction * len(kind)))] for kind in kinds])


def fitted(x, events, rows, evaluated):
    scale = x[rows].std(axis=0)
    with config_context(assume_finite=True, skip_parameter_validation=True):  # a third of the time
        probe = LogisticRegression(C=0.1, solver="newton-cholesky").fit(x[rows] / scale, events[rows])
        return probe.predict_proba(x[evaluated] / scale)


def planted(seed, n=500, patients=400, ratio=4.0, fractions=(0.0625, 0.125, 0.25, 0.5, 1.0), draws=3, best=0.93):
    """Draw predictions of AUC `best` - 1.6 / sqrt(patients); the first arm has the AUC of `ratio` times the patients.

    Scores are normal with an effect of the case that all predictions share, and noise of each by itself.
    """
    rng = np.random.default_rng(seed)
    events, case = rng.random(n) < 0.4, rng.normal(size=n)
    probabilities, labelled = {}, {}
    for arm, times in zip(ARMS, (ratio, 1), strict=True):
        for fraction in fractions:
            for number in range(1 if fraction == 1 else draws):
                key = Key("probe", arm, fraction, number)
                labelled[key] = fraction * patients
                probabilities[key] = scored(rng, events, best - 1.6 / np.sqrt(times * labelled[key]), case)
    names = np.arange(n).astype(str)
    folds = (np.arange(n) % FOLDS).astype(str)
    return Runs(names, names, folds, events.astype(np.int64), np.full(n, "a"), probabilities, labelled)


def scored(rng, events, auc, case=0.0, alike=0.7):
    """Draw probabilities (n, 2) whose scores have a true AUC: two normal distributions sqrt(2) probit(auc) apart."""
    scores = np.sqrt(alike) * case + np.sqrt(1 - alike) * rng.normal(size=len(events))
    if np.ndim(case) == 0:
        scores = scores / np.sqrt(1 - alike)
    return both_ways(expit(scores + np.sqrt(2) * norm.ppf(auc) * events))


def with_gap(seed, n=300, inside=0.85, outside=0.75, n_sites=3):
    """Draw predictions out of fold of one AUC, and predictions of the same cases, left out by site, of another."""
    rng = np.random.default_rng(seed)
    events, names, site = rng.random(n) < 0.4, np.arange(n).astype(str), np.arange(n) % n_sites
    truth, sites, folds = events.astype(np.int64), np.char.add("s", site.astype(str)), rng.integers(FOLDS, size=n)
    keys = [Key("probe", arm, 1.0, 0) for arm in ARMS]
    case = rng.normal(size=n)
    internal, domains = ({key: scored(rng, events, auc, case) for key in keys} for auc in (inside, outside))
    labelled = dict.fromkeys(keys, 0.8 * n)
    left_out = np.char.add("without-", sites)
    return (
        Runs(names, names, folds.astype(str), truth, sites, internal, labelled),
        Runs(names, names, left_out, truth, sites, domains, labelled),
    )


def trained(seed, folds=5, held_out=40, chance=0.0, faster=1.0, gap=0.0, rise=0.015, tau=3.0, epochs=20):
    """Draw the trainings of two arms, of which "adapted" fits `faster` times as fast and overfits by `gap` nats less.

    The mean training loss falls by exp(-epoch / tau); the test loss lies above it, by `rise` more every epoch. `chance`
    is what a training has of its own: the spread of ln tau between trainings, and of the test loss.

    Returns
    -------
    list of Trajectory
    """
    rng = np.random.default_rng(seed)
    fold_of = np.arange(folds * held_out) % folds
    patients, ease = np.arange(len(fold_of)).astype(str), rng.normal(0, 0.4, len(fold_of))
    each = np.arange(epochs)
    found = []
    for fold, arm in itertools.product(range(folds), ARMS):
        own, mine = arm == ARMS[0], fold_of == fold
        time = tau / (faster if own else 1) * np.exp(chance * rng.normal())
        train = 0.1 + 0.5 * np.exp(-each / time)
        above = 0.15 + rise * each + (0 if own else gap) + 0.05 * chance * (2 * rng.normal() + rng.normal(size=epochs))
        own_losses, test = (train[:, None] + ease[side] for side in (~mine, mine))
        test = test + above[:, None] + rng.normal(0, 0.15, test.shape)
        passes = 100.0 * (each + 1)
        found.append(
            Trajectory(arm, str(fold), passes, passes, train, own_losses, patients[~mine], test, patients[mine])
        )
    return found
