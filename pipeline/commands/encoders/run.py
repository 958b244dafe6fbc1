"""Compare pretrained encoders by transferability scores and a linear probe of their frozen features."""

import argparse
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline import paths, prepared, runtime
from pipeline.commands.encoders.listing import as_text
from pipeline.commands.numbers import refuse_cohort
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import count_parameters, inference
from pipeline.learning.models.encoder_catalogue import CATALOGUE
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.models.probe import out_of_fold_logits
from pipeline.learning.models.state_files import BadWeights
from pipeline.learning.models.weights import WHEELS, pretrained_network
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.frozen import Case, frozen_views, mean_features
from pipeline.learning.training.transferability import h_score, log_me
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import log_loss, macro_auc
from pipeline.params import load
from pipeline.paths import Role
from pipeline.progress import progress
from pipeline.schema import Params
from pipeline.seeds import seed_for

COMPARABLE = 3  # fewer encoders have no order worth comparing
Floats = NDArray[np.float64]
Row = dict[str, object]


@dataclass(frozen=True)
class Candidate:
    """An encoder and its weights, in the notation of `adapt.encoder`, `adapt.weights` and `adapt.weights_sha256`."""

    encoder: str
    weights: str
    sha256: str | None


@dataclass(frozen=True)
class Development:
    """The training and validation cases of one fold: case ids, class indices and patients, all (n,)."""

    fold: str
    cases: list[str]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    n_classes: int


@dataclass(frozen=True)
class Probed:
    """A row of the table, and the out-of-fold probabilities (n, n_classes) of the probe behind it."""

    row: Row
    probabilities: Floats


def run(arguments: argparse.Namespace) -> None:
    """Print a row for each encoder, by descending LogME, and one for each pair; write the tables to --out."""
    if arguments.list:
        print(as_text())
        return
    params = load()
    cases = development_cases(params)
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    if params.adapt.filter_depth > 1 and (geometry.kind == "image" or geometry.channels > geometry.windows):
        raise UserError("adapt.filter_depth above 1 needs volumes; set it to 1, or use preprocess.instances: isotropic")
    configured = Candidate(params.adapt.encoder, params.adapt.weights, params.adapt.weights_sha256)
    candidates = list(dict.fromkeys([configured, *map(candidate_of, arguments.candidates)]))
    networks = [network_of(candidate, geometry, params) for candidate in candidates]  # build all before any computation
    found = [probed(candidate, network, cases, params) for candidate, network in zip(candidates, networks, strict=True)]
    table = pd.DataFrame([one.row for one in found]).sort_values("logme", ascending=False, kind="stable")
    pairs = pd.DataFrame([pair_of(one, other, cases, params) for one, other in combinations(found, 2)])
    print(f"{len(cases.cases)} development cases of {len(set(cases.patients))} patients, fold {cases.fold}")
    print(in_columns(table))
    print(describe_agreement(table))
    if len(pairs):
        pairs = pairs.sort_values("log_loss", kind="stable")
        print("\nmean of the probabilities of two probes; gain in log-loss over the better one, paired by patient")
        print(in_columns(pairs))
    if arguments.out:
        out = Path(arguments.out)
        paths.write_table(table, out)
        if len(pairs):
            paths.write_table(pairs, out.with_stem(f"{out.stem}-pairs"))


def candidate_of(words: str) -> Candidate:
    """Parse NAME=WEIGHTS#SHA256; the default weights are those of the catalogue, or of a package."""
    encoder, _, rest = words.partition("=")
    weights, *sha256 = re.split(r"#(?=[0-9a-f]{64}$)", rest)
    default = "catalogue" if encoder in CATALOGUE and encoder not in WHEELS else "pip"
    return Candidate(encoder, weights or default, next(iter(sha256), None))


def development_cases(params: Params) -> Development:
    """List the labelled training and validation cases of the first fold."""
    if not params.split.folds:
        raise UserError("split.folds is empty; name at least one fold, on whose cases the encoders are compared")
    fold = params.split.folds[0]
    require({paths.COHORT_FACTS: "cohort", paths.GEOMETRY: "preprocess", paths.split(fold): "split"})
    table = paths.read_table(paths.split(fold))
    table = table[table["role"].isin([Role.TRAIN, Role.VALIDATION])]
    require({prepared.pack_of(paths.PREPARED_CASES, case): "preprocess" for case in table["case"]})
    facts = paths.read_json(paths.COHORT_FACTS)
    refuse_cohort(facts, "encoders")
    classes = facts["classes"]
    for name in classes:
        if table.loc[table["label"] == name, "patient"].nunique() < 2:
            raise UserError(
                f"{paths.split(fold)}: class '{name}' has fewer than two patients to train or validate on, too few "
                "to compare encoders; list only the other classes in cohort.classes"
            )
    labels = np.array([classes.index(label) for label in table["label"]])
    return Development(
        fold=fold,
        cases=table["case"].tolist(),
        labels=labels,
        patients=table["patient"].to_numpy(dtype=str),
        n_classes=len(classes),
    )


def require(stage_of: dict[Path, str]) -> None:
    """Raise a `UserError` with the stage to run if a file is missing."""
    for file, stage in stage_of.items():
        if not file.exists():
            raise UserError(f"{file} does not exist; run `dvc repro {stage}`")


def network_of(candidate: Candidate, geometry: Geometry, params: Params) -> Classifier:
    """Build the network that `finetune` would start from without adaptation."""
    torch.manual_seed(seed_for(params.seed, "encoders", candidate.encoder))  # of random weights
    try:
        network, _ = pretrained_network(
            candidate.encoder,
            candidate.weights,
            candidate.sha256,
            in_channels=geometry.channels,
            colour=geometry.colour,
            pooled_stages=params.finetune.pooled_stages,
            filter_depth=params.adapt.filter_depth,
        )
    except (UnknownEncoder, BadWeights) as error:
        how = "; on the command line, append #SHA256" if "weights_sha256" in str(error) else ""
        raise UserError(f"encoder {candidate.encoder}={candidate.weights}: {error}{how}") from error
    inference(network)
    return network


def probed(candidate: Candidate, network: Classifier, cases: Development, params: Params) -> Probed:
    """Compute the features of an encoder, its transferability scores and the metrics of the probe."""
    started = time.perf_counter()
    features = frozen_features(network, cases.cases, candidate.encoder)
    computed = time.perf_counter()
    scores = {"logme": log_me(features, cases.labels), "h_score": h_score(features, cases.labels)}
    scored = time.perf_counter()
    probabilities = probe_probabilities(features, cases, params)
    row = {
        "encoder": candidate.encoder,
        "weights": candidate.weights,
        "width": network.encoder.width,
        "parameters_m": count_parameters(network.encoder) / 1e6,
        **scores,
        **with_errors(drawn_metrics(probabilities, cases, params)),
        "seconds_per_case": (computed - started) / len(cases.cases),
        "feature_seconds": computed - started,
        "score_seconds": scored - computed,
    }
    return Probed(row, probabilities)


def pair_of(one: Probed, other: Probed, cases: Development, params: Params) -> Row:
    """Compute the metrics of the mean of two probes' probabilities, and its paired gain over the better probe."""
    mean, *single = (
        drawn_metrics(probabilities, cases, params)
        for probabilities in ((one.probabilities + other.probabilities) / 2, one.probabilities, other.probabilities)
    )
    gain = min((drawn["log_loss"] for drawn in single), key=lambda losses: float(losses[0])) - mean["log_loss"]
    rows = (one.row, other.row)
    return {
        "encoders": " + ".join(f"{row['encoder']}={row['weights']}" for row in rows),
        **with_errors({**mean, "gain": gain}),
        "seconds_per_case": sum(float(str(row["seconds_per_case"])) for row in rows),
    }


def in_columns(table: pd.DataFrame) -> str:
    """Lay out a table for the terminal."""
    text: str = table.to_string(index=False, float_format=lambda value: f"{value:.3f}")
    return text


def frozen_features(network: Classifier, cases: list[str], encoder: str) -> Floats:
    """Compute the features (n, width) of the unaugmented cases, averaged over their instances as in `finetune`."""
    network.to(make_accelerator(runtime.device()).device)
    last = len(network.encoder.stages)
    stored = [Case("", {case: partial(stored_view, case)}) for case in cases]
    counted = partial(progress, doing=f"features of {encoder}")
    maps, pooled = frozen_views(network, stored, last, progress=counted)
    features = mean_features(network, maps[0], pooled[0], last)
    network.cpu()
    if not np.isfinite(features).all():
        raise UserError(f"encoder {encoder}: its features are not finite; get its weights from their source again")
    return features


def stored_view(case: str) -> torch.Tensor:
    """Read an unaugmented case as one view (1, P, H, W)."""
    return torch.from_numpy(np.array(prepared.read_channels(case)))[None]


def probe_probabilities(features: Floats, cases: Development, params: Params) -> Floats:
    """Predict each case by a probe that was fitted without its patient: (n, n_classes)."""
    seed, balanced = seed_for(params.seed, "encoders", "probe"), params.finetune.class_weights == "balanced"
    try:
        logits = out_of_fold_logits(
            features, cases.labels, cases.patients, n_classes=cases.n_classes, balanced=balanced, seed=seed
        )
    except ValueError as error:
        raise UserError(f"{paths.split(cases.fold)}: {error}; list only the other classes in cohort.classes") from error
    probabilities: Floats = softmax(logits, axis=1)
    return probabilities


def drawn_metrics(probabilities: Floats, cases: Development, params: Params) -> dict[str, Floats]:
    """Compute log-loss and AUC of all cases, followed by those of bootstrap samples of patients: each (1 + B,)."""
    drawn_by = seed_for(params.seed, "encoders", "bootstrap")
    weights = cluster_weights(cases.patients, params.calibrate.n_bootstrap, drawn_by)
    metrics = {"log_loss": log_loss, "auc": macro_auc}
    return {name: np.asarray(metric(probabilities, cases.labels, weights)) for name, metric in metrics.items()}


def with_errors(drawn: Mapping[str, Floats]) -> dict[str, float]:
    """Give each metric and its standard error, the standard deviation over the bootstrap samples."""
    found: dict[str, float] = {}
    for name, values in drawn.items():
        found |= {name: float(values[0]), f"{name}_se": float(np.nanstd(values[1:], ddof=1))}
    return found


def describe_agreement(table: pd.DataFrame) -> str:
    """Describe how well LogME and H-score order the encoders in comparison with the log-loss of the probe."""
    if len(table) < COMPARABLE:
        return f"fewer than {COMPARABLE} encoders: too few to compare the order by score with the order by log-loss"
    logme, h = (table[score].corr(-table["log_loss"], method="kendall") for score in ("logme", "h_score"))
    return (
        f"agreement with the order by log-loss, Kendall's tau: LogME {logme:.2f}, H-score {h:.2f} (1: same order, "
        "-1: reverse order)\nwith few encoders, and for differences within the standard errors, this is weak evidence"
    )
