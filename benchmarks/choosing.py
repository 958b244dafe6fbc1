"""Compare scores that choose a method of adaptation without labels of the new hospital, and where choices hurt.

    python benchmarks/choosing.py measure covid brain --into /tmp/shift
    python benchmarks/choosing.py table --into /tmp/shift

Each shift of planted_shifts.py makes a new hospital of the held-out patients of folds 0 and 1: one half of them is seen
without labels, the other half is evaluated. Each candidate is measured by linear probes on images of half the rows and
columns, otherwise as `adapt.method: auto` does.
A rule sees labels of the training cases alone; its regret is the log-loss of its choice minus that of the candidate
which the labels of the evaluated half would have chosen. "Gated": the choice must be better than no adaptation by more
than the standard error of its score over patients.
"""

import argparse
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from aligned_features import ALIGNMENTS, Features, calibrated_logits, self_trained
from evaluating import print_row
from label_free_scores import OF_DRAWS, SCORES, Found
from models import SETS, classes_of, prepared
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import softmax
from shift import CONDITIONS, images_of

from pipeline import paths
from pipeline.imaging.geometry import Geometry
from pipeline.learning.training.validators import (
    deep_embedded_validation,
    log_losses,
)
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import macro_auc
from pipeline.params import load
from pipeline.prepared import read_channels
from pipeline.stages.adapt.adapting import AdaptationPlan, Images, adapt, features_of
from pipeline.stages.adapt.candidates import Source, probe_logits, probe_of
from pipeline.stages.adapt.methods.combat import fit_combat
from pipeline.stages.adapt.setup import make_plan, pretrained

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
NONE = "none"
OF_ENCODER = {
    "adabn": 0.5,
    "nyul": 0.5,
    "histogram": 0.5,
}  # candidates that change the encoder or its input, by strength
OF_FEATURES = {"combat, half": 0.5, "combat": 1.0}
SELF_TRAINED = (NONE, "combat")  # candidates from which self-training starts
OLD, NEW = "source", "new"
DRAWS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("measure", "table"):
        commands.add_parser(name).add_argument("--into", type=Path, required=True)
    commands.choices["measure"].add_argument("sets", nargs="+", choices=SETS)
    commands.choices["measure"].add_argument("--folds", nargs="+", default=["0", "1"])
    arguments = parser.parse_args()
    into = arguments.into.resolve()
    if arguments.command == "table":
        table(into)
        return
    for name, fold in itertools.product(arguments.sets, arguments.folds):
        measure(into, name, fold)


@dataclass(frozen=True)
class Hospital:
    """One fold of a set, and the planted images of the half of its held-out patients that is seen, and of the other.

    Attributes
    ----------
    plan : AdaptationPlan
        For no adaptation; reads the planted images.
    training, target, evaluated : Images
    source : Source
    """

    plan: AdaptationPlan
    training: Images
    target: Images
    evaluated: Images
    source: Source


def measure(into: Path, name: str, fold: str) -> None:
    """Measure every candidate at every new hospital that is made of a fold, and keep the predictions."""
    folder = prepared(into, name, 1.0, seed={"seed": 0})
    os.chdir(folder)
    cases = paths.read_table(paths.split(fold))
    held = cases[cases["role"] == "held_out"].reset_index(drop=True)
    half = np.isin(held["patient"], np.unique(held["patient"])[::2])
    classes = classes_of(folder)
    of_training: dict[str, Floats] = {}
    for shift, severity in CONDITIONS:
        file = into / f"choosing/{name}-{fold}-{shift}-{severity}.npz"
        if file.exists():
            continue
        images = images_of(folder, held, shift, severity).numpy()
        hospital = hospital_of(cases, held, half, dict(zip(held["case"], images, strict=True)), fold)
        found = {}
        for candidate, features in features_of_candidates(hospital, of_training):
            for key, value in predictions(features, hospital.source).items():
                found[f"{candidate}/{key}"] = value
            if candidate in SELF_TRAINED:
                found |= of_self_training(features, hospital.source, found, candidate)
        truth = held["label"].map(classes.index).to_numpy(int)
        evaluated = {"truth": truth[~half], "patients": held["patient"].to_numpy(str)[~half]}
        seen = {"seen_patients": held["patient"].to_numpy(str)[half]}
        file.parent.mkdir(exist_ok=True)
        np.savez(file, labels=hospital.source.labels, **evaluated, **seen, **found)
        print(f"{name}, fold {fold}, {shift} {severity + 1}", flush=True)


def hospital_of(
    cases: pd.DataFrame, held: pd.DataFrame, half: NDArray[np.bool_], images: Mapping[str, NDArray[np.uint8]], fold: str
) -> Hospital:
    """Make a new hospital of the held-out patients of a fold."""
    params, geometry = load(), Geometry.from_json(paths.read_json(paths.GEOMETRY))
    classes: list[str] = json.loads(paths.COHORT_FACTS.read_text())["classes"]
    training = cases[cases["role"].isin(["train", "validation"])]
    start, _ = pretrained(params.adapt, geometry, params.finetune.pooled_stages)
    plan = make_plan(
        cases, start=start, settings=params.adapt, geometry=geometry, seed=0, stage="adapt", fold=fold, key=""
    )

    def read(case: str) -> NDArray[np.uint8]:
        return halved(images[case] if case in images else read_channels(case))

    trained, target = of_site(training, OLD), of_site(held[half], NEW)
    plan = replace(plan, training=trained, seen=joined(trained, target), views=replace(plan.views, load=read))
    labels = training["label"].map(classes.index).to_numpy(int)
    source = Source(labels, trained.patients, len(classes), balanced=True, seed=0)
    return Hospital(plan, trained, target, of_site(held[~half], NEW), source)


def halved(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average squares of 2 x 2 pixels of channels (P, H, W), H and W even."""
    count, height, width = channels.shape
    return channels.reshape(count, height // 2, 2, width // 2, 2).mean(axis=(2, 4)).round().astype(np.uint8)


def of_site(cases: pd.DataFrame, site: str) -> Images:
    columns = (cases[name].to_numpy(dtype=str) for name in ("case", "patient"))
    return Images(*columns, np.full(len(cases), site), np.zeros((len(cases), 0)))


def joined(one: Images, other: Images) -> Images:
    fields = ("cases", "patients", "sites", "covariates")
    return Images(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in fields))


def features_of_candidates(hospital: Hospital, of_training: dict[str, Floats]) -> "list[tuple[str, Features]]":
    """Compute the features under each candidate; those of training cases once unless the target changes them."""
    found: list[tuple[str, Features]] = []
    for method, strength in {NONE: 0.0, **OF_ENCODER}.items():
        plan = hospital.plan.with_method(method, strength)
        network, _, _ = adapt(plan)
        if method == "adabn" or method not in of_training:
            of_training[method] = features_of(network, hospital.training, plan)
        others = (features_of(network, images, plan) for images in (hospital.target, hospital.evaluated))
        found.append((method, (of_training[method], *others)))
    plain = found[0][1]
    for name, strength in OF_FEATURES.items():
        sites = [images.sites for images in (hospital.training, hospital.target, hospital.evaluated)]
        combat = fit_combat(np.concatenate(plain[:2]), np.concatenate(sites[:2]), None, strength)
        found.append((name, tuple(combat.apply(*pair) for pair in zip(plain, sites, strict=True))))  # type: ignore[arg-type]
    found += [(name, align(plain, hospital.source)) for name, align in ALIGNMENTS.items()]
    return found


def predictions(features: Features, source: Source) -> dict[str, Floats]:
    """Predict by a probe for each part of the source: source (n, K) out of fold, target (3, m, K), evaluated (j, K).

    `risk` is deep embedded validation, `reverse` the loss of source cases by probes of the target's predicted classes.
    """
    training, target, evaluated = features
    logits = np.zeros((len(training), source.n_classes))
    of_target, of_evaluated, risks = [], [], []
    for train, held_out in source.parts():
        probe = probe_of(training[train], source.some(train))
        logits[held_out] = probe_logits(probe, training[held_out])
        of_target.append(probe_logits(probe, target))
        of_evaluated.append(probe_logits(probe, evaluated))
        losses = log_losses(logits[held_out], source.labels[held_out])
        risks.append(deep_embedded_validation(training[train], training[held_out], target, losses))
    return {
        "source": logits,
        "target": np.array(of_target),
        "evaluated": np.mean(of_evaluated, axis=0),
        "risk": np.array(np.mean(risks)),
        "reverse": np.array(reverse_loss(training, target, np.mean(of_target, axis=0), source)),
        "hopkins": np.array(hopkins(target)),
    }


def of_self_training(features: Features, source: Source, found: Found, start: str) -> dict[str, NDArray]:
    """Predict the evaluated cases after self-training; what chooses without labels is that of its start."""
    sure = calibrated_logits(features, source)
    evaluated = [self_trained(features, source, train, sure) for train, _ in source.parts()]
    name = f"{start}, self-training"
    own = {key.replace(f"{start}/", f"{name}/"): value for key, value in found.items() if key.startswith(f"{start}/")}
    return own | {f"{name}/evaluated": np.mean(evaluated, axis=0)}


def reverse_loss(training: Floats, target: Floats, logits: Floats, source: Source) -> float:
    """Log-loss of source cases by a probe that learned the predicted classes of the target (Zhong et al. 2010)."""
    guessed = logits.argmax(axis=1)
    if min(np.bincount(guessed, minlength=source.n_classes)) < 2:
        return float("inf")
    names = np.array([str(number) for number in range(len(guessed))])
    probe = probe_of(target, Source(guessed, names, source.n_classes, balanced=True, seed=0))
    return float(log_losses(probe_logits(probe, training), source.labels).mean())


def hopkins(features: Floats) -> float:
    """Hopkins's statistic of clustering in [0, 1], on standardised features: distances of uniform points to cases."""
    rng = np.random.default_rng(0)
    scaled = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    tree = cKDTree(scaled)
    drawn = rng.uniform(scaled.min(axis=0), scaled.max(axis=0), scaled.shape)
    of_cases, of_drawn = tree.query(scaled, k=2)[0][:, 1].sum(), tree.query(drawn)[0].sum()
    return float(of_drawn / (of_drawn + of_cases))


def table(into: Path) -> None:
    """Print, for each rule, how good its choices are: in log-loss and AUC against none, and where they hurt."""
    places = {file.stem: np.load(file) for file in sorted((into / "choosing").glob("*.npz"))}
    print(f"{len(places)} new hospitals\n")
    print_row("rule", "log-loss - none", "AUC - none", "regret", "worse beyond chance", "better beyond chance", "none")
    print_row(*["---"] * 7)
    first = next(iter(places.values()))
    names = [key.removesuffix("/risk") for key in first if key.endswith("/risk")]
    for name in names:
        show(f"always {name}", dict.fromkeys(places, name), places, names)
    show("labels of the evaluated half", {place: best(found, names) for place, found in places.items()}, places, names)
    for rule in SCORES:
        show(rule, {place: chosen(found, names, rule, False) for place, found in places.items()}, places, names)
    for rule in OF_DRAWS:
        picks = {place: chosen(found, names, rule, True) for place, found in places.items()}
        show(f"{rule}, gated", picks, places, names)


def losses_of(found: Found, candidate: str) -> Floats:
    return log_losses(found[f"{candidate}/evaluated"], found["truth"])


def best(found: Found, names: list[str]) -> str:
    return min(names, key=lambda name: losses_of(found, name).mean())


def chosen(found: Found, names: list[str], rule: str, gated: bool) -> str:
    """Choose the candidate with the best score; gated: none, unless its gain exceeds its standard error."""
    everyone = np.arange(found[f"{NONE}/target"].shape[1])
    scores = {name: SCORES[rule](found, name, everyone) for name in names}
    pick = max(scores, key=lambda name: scores[name])
    if not gated or pick == NONE:
        return pick
    patients, rng = found["seen_patients"], np.random.default_rng(0)
    unique = np.unique(patients)
    gains = []
    for _ in range(50):
        drawn = rng.choice(unique, len(unique))
        rows = np.concatenate([np.flatnonzero(patients == one) for one in drawn])
        gains.append(SCORES[rule](found, pick, rows) - SCORES[rule](found, NONE, rows))
    return pick if scores[pick] - scores[NONE] > np.std(gains, ddof=1) else NONE


def show(rule: str, picks: Mapping[str, str], places: Mapping[str, Found], names: list[str]) -> None:
    """Print the row of a rule; intervals of single hospitals are over patients."""
    gains, aucs, regrets, worse, better = [], [], [], 0, 0
    for place, pick in picks.items():
        found = places[place]
        weights = cluster_weights(found["patients"], DRAWS, np.random.default_rng(0))
        difference = losses_of(found, pick) - losses_of(found, NONE)
        low, high = np.quantile((weights @ difference / weights.sum(axis=1))[1:], [0.025, 0.975])
        worse, better = worse + (low > 0), better + (high < 0)
        gains.append(difference.mean())
        regrets.append(losses_of(found, pick).mean() - losses_of(found, best(found, names)).mean())
        one = np.ones((1, len(found["truth"])))
        of = [macro_auc(softmax(found[f"{name}/evaluated"], axis=1), found["truth"], one)[0] for name in (pick, NONE)]
        aucs.append(of[0] - of[1])
    kept = sum(pick == NONE for pick in picks.values())
    cells = (f"{np.mean(gains):+.3f}", f"{np.mean(aucs):+.3f}", f"{np.mean(regrets):.3f}")
    print_row(rule, *cells, worse, better, f"{kept} of {len(picks)}")


if __name__ == "__main__":
    main()
