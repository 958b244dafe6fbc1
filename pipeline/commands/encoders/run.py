"""encoders: which pretrained encoder suits these images, told from frozen features before anything is trained."""

import argparse
import re
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline import paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import count_parameters, inference
from pipeline.learning.models.families import UnknownEncoder
from pipeline.learning.models.probe import out_of_fold_logits
from pipeline.learning.models.weights import BadWeights, pretrained_network
from pipeline.learning.training.frozen import Case, frozen_views, mean_features
from pipeline.learning.training.loop import make_accelerator
from pipeline.learning.training.transferability import h_score, log_me
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import log_loss, macro_auc
from pipeline.params import load
from pipeline.paths import Role
from pipeline.schema import Params
from pipeline.seeds import seed_for

COMPARABLE = 3  # with fewer encoders there is no order to agree with
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Candidate:
    """An encoder and its weights, as `adapt.encoder`, `adapt.weights` and `adapt.weights_sha256` name them."""

    encoder: str
    weights: str
    sha256: str | None


@dataclass(frozen=True)
class Development:
    """The cases of one fold that are not evaluated: names, numbers of their classes, and patients, all (n,)."""

    fold: str
    cases: list[str]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    n_classes: int


def run(arguments: argparse.Namespace) -> None:
    """Print one row per encoder, the highest LogME first, and write them to --out."""
    params = load()
    cases = development_cases(params)
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    if params.adapt.filter_depth > 1 and (geometry.kind == "image" or geometry.channels > geometry.windows):
        raise UserError("adapt.filter_depth above 1 needs volumes; set it to 1, or preprocess.instances to isotropic")
    configured = Candidate(params.adapt.encoder, params.adapt.weights, params.adapt.weights_sha256)
    candidates = list(dict.fromkeys([configured, *map(candidate_of, arguments.candidates)]))
    networks = [network_of(candidate, geometry, params) for candidate in candidates]  # all, before any compute
    rows = [row_of(candidate, network, cases, params) for candidate, network in zip(candidates, networks, strict=True)]
    table = pd.DataFrame(rows).sort_values("logme", ascending=False, kind="stable")
    print(f"{len(cases.cases)} development cases of {len(set(cases.patients))} patients, fold {cases.fold}")
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    print(agreement(table))
    if arguments.out:
        paths.write_table(table, Path(arguments.out))


def candidate_of(words: str) -> Candidate:
    """Take NAME=WEIGHTS#SHA256 apart; weights that are not named are pip's."""
    encoder, _, rest = words.partition("=")
    weights, *sha256 = re.split(r"#(?=[0-9a-f]{64}$)", rest)
    return Candidate(encoder, weights or "pip", next(iter(sha256), None))


def development_cases(params: Params) -> Development:
    """List the labelled cases that the first fold trains on or stops by; held-out and test ones stay unseen."""
    if not params.split.folds:
        raise UserError("split.folds is empty; name the fold on whose development cases encoders are compared")
    fold = params.split.folds[0]
    need({paths.COHORT_FACTS: "cohort", paths.GEOMETRY: "preprocess", paths.split(fold): "split"})
    table = paths.read_table(paths.split(fold))
    table = table[table["role"].isin([Role.TRAIN, Role.VALIDATION])]
    need({paths.prepared_case(case): "preprocess" for case in table["case"]})
    classes = paths.read_json(paths.COHORT_FACTS)["classes"]
    for name in classes:
        if table.loc[table["label"] == name, "patient"].nunique() < 2:
            raise UserError(
                f"{paths.split(fold)}: class '{name}' has fewer than two patients to train on, too few to compare "
                "encoders; list the other classes in cohort.classes"
            )
    labels = np.array([classes.index(label) for label in table["label"]])
    return Development(fold, table["case"].tolist(), labels, table["patient"].to_numpy(dtype=str), len(classes))


def need(stage_of: dict[Path, str]) -> None:
    """Make sure that files are there, or name the stage that writes them."""
    for file, stage in stage_of.items():
        if not file.exists():
            raise UserError(f"{file} is not there yet: `dvc repro {stage}` writes it")


def network_of(candidate: Candidate, geometry: Geometry, params: Params) -> Classifier:
    """Build the network whose features `finetune` would start from, without adaptation."""
    torch.manual_seed(seed_for(params.seed, "encoders", candidate.encoder))  # of random weights
    try:
        network, _ = pretrained_network(
            candidate.encoder,
            candidate.weights,
            candidate.sha256,
            geometry.channels,
            geometry.kind == "image" and geometry.channels == 3,
            params.finetune.pooled_stages,
            params.adapt.filter_depth,
        )
    except (UnknownEncoder, BadWeights) as error:
        how = "; on the command line it stands behind the weights, as #SHA256" if "weights_sha256" in str(error) else ""
        raise UserError(f"encoder {candidate.encoder}={candidate.weights}: {error}{how}") from error
    inference(network)
    return network


def row_of(candidate: Candidate, network: Classifier, cases: Development, params: Params) -> dict[str, object]:
    """Compute an encoder's features, what the scores foretell of them, and what the probe makes of them."""
    started = time.perf_counter()
    features = frozen_features(network, cases.cases, candidate.encoder)
    computed = time.perf_counter()
    scores = {"logme": log_me(features, cases.labels), "h_score": h_score(features, cases.labels)}
    scored = time.perf_counter()
    return {
        "encoder": candidate.encoder,
        "weights": candidate.weights,
        "width": network.encoder.width,
        "parameters_m": count_parameters(network.encoder) / 1e6,
        **scores,
        **probe_metrics(features, cases, params),
        "feature_seconds": computed - started,
        "score_seconds": scored - computed,
    }


def frozen_features(network: Classifier, cases: list[str], encoder: str) -> Floats:
    """Compute the features (n, width) of each case as it is, the mean over its instances, as `finetune` does."""
    network.to(make_accelerator(runtime.device()).device)
    last = len(network.encoder.stages)
    stored = [Case(case, "", partial(stored_view, case)) for case in cases]
    progress = partial(runtime.progress, doing=f"features of {encoder}")
    maps, pooled = frozen_views(network, stored, last, progress=progress)
    features = mean_features(network, maps[0], pooled[0], last)
    network.cpu()
    if not np.isfinite(features).all():
        raise UserError(f"encoder {encoder}: its features are not finite; take its weights from their source again")
    return features


def stored_view(case: str) -> torch.Tensor:
    """Read a case as it is, its only view (1, P, H, W)."""
    return torch.from_numpy(np.load(paths.prepared_case(case)))[None]


def probe_metrics(features: Floats, cases: Development, params: Params) -> dict[str, float]:
    """Cross-validate the probe; log-loss and AUC, each with its standard error by a bootstrap of patients."""
    seed, balanced = seed_for(params.seed, "encoders", "probe"), params.finetune.class_weights == "balanced"
    try:
        logits = out_of_fold_logits(features, cases.labels, cases.patients, cases.n_classes, balanced, seed)
    except ValueError as error:
        raise UserError(f"{paths.split(cases.fold)}: {error}; list the other classes in cohort.classes") from error
    drawn_by = seed_for(params.seed, "encoders", "bootstrap")
    weights = cluster_weights(cases.patients, params.calibrate.n_bootstrap, drawn_by)
    metrics: dict[str, float] = {}
    for name, metric in (("log_loss", log_loss), ("auc", macro_auc)):
        values = metric(softmax(logits, axis=1), cases.labels, weights)
        metrics |= {name: float(values[0]), f"{name}_se": float(np.nanstd(values[1:], ddof=1))}
    return metrics


def agreement(table: pd.DataFrame) -> str:
    """Say how well the scores order the encoders as the probe's log-loss does, and what that is worth."""
    if len(table) < COMPARABLE:
        return f"fewer than {COMPARABLE} encoders: too few to tell how well the scores' order agrees with the probe's"
    logme, h = (table[score].corr(-table["log_loss"], method="kendall") for score in ("logme", "h_score"))
    return (
        f"agreement with the order by the probe's log-loss, Kendall's tau: LogME {logme:.2f}, H-score {h:.2f} "
        "(1 the same order, -1 the reverse)\na few encoders prove little, nor do differences within the standard errors"
    )
