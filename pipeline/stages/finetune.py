"""finetune@k: probe, then train the last stages from it; score what was held out. No figures are made here."""

import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline import engine, paths
from pipeline.imaging.geometry import Geometry, reference_passes
from pipeline.imaging.views import training_view
from pipeline.learning.alignment import Alignment, Target
from pipeline.learning.classifier import Activations, Classifier
from pipeline.learning.encoder import build_encoder, inference
from pipeline.learning.loop import Cases, Epoch, Recipe, class_weights, first_trained_stage, fit, make_accelerator
from pipeline.learning.methods.coral import Coral
from pipeline.learning.methods.dann import Dann
from pipeline.learning.methods.mcc import Mcc
from pipeline.learning.methods.mmd import Mmd
from pipeline.learning.probe import Probe, fit_probe
from pipeline.params import Finetune, Params, seed_for
from pipeline.paths import Role
from pipeline.refusal import Refusal

log = logging.getLogger(__name__)

TERMS: dict[str, Callable[[Classifier, int, int], nn.Module]] = {  # of the network, its sites and the training steps
    "coral": lambda network, sites, steps: Coral(),
    "mmd": lambda network, sites, steps: Mmd(),
    "mcc": lambda network, sites, steps: Mcc(),
    "dann": lambda network, sites, steps: Dann(network.encoder.width, sites, steps),
}
ALIGNED = {"unlabelled": (Role.UNLABELLED,), "judged": (Role.UNLABELLED, Role.HELD_OUT, Role.LOCKED)}


def run(params: Params, fold: str) -> None:
    """Write the trained model of one fold, its curve, and its logits for the cases it did not train on."""
    with engine.metered(paths.cost("finetune", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        classes = paths.read_json(paths.COHORT_FACTS)["classes"]
        cases = paths.read_table(paths.split(fold))
        network, arguments = load_adapted(fold, geometry, len(classes), params.finetune.pooled_stages)
        curve = train(network, cases, classes, geometry, params, fold)
        save(network, arguments, curve, fold)
        score(network, cases[cases["role"].isin([Role.HELD_OUT, Role.LOCKED])], fold)


def load_adapted(
    fold: str, geometry: Geometry, n_classes: int, pooled_stages: int
) -> tuple[Classifier, dict[str, object]]:
    """Rebuild the adapted encoder inside a network with an untrained head."""
    record = paths.read_json(paths.adaptation(fold))
    name = record["provenance"]["encoder"]
    encoder = build_encoder(name, geometry.channels, pooled_stages=pooled_stages)
    encoder.load_state_dict(load_file(paths.adapted_encoder(fold)))
    arguments = {"encoder": name, "in_channels": geometry.channels, "n_classes": n_classes}
    arguments |= {"mean": record["mean"], "std": record["std"], "pooled_stages": pooled_stages}
    torch.manual_seed(0)  # of the attention's hidden layer
    return Classifier(**(arguments | {"encoder": encoder})).eval(), arguments


def train(
    network: Classifier, cases: pd.DataFrame, classes: list[str], geometry: Geometry, params: Params, fold: str
) -> list[Epoch]:
    """Fit the probe and, if the strategy says so, the last stages; return the training curve."""
    settings = params.finetune
    recipe = recipe_of(settings)
    accelerator = make_accelerator(engine.device())
    network.to(accelerator.device)
    first = first_trained_stage(network, recipe)
    training, inner = (cases[cases["role"] == role] for role in (Role.TRAIN, Role.INNER))
    train_cases, inner_cases = (
        Cases(*frozen_views(network, some, geometry, params, fold, views, first), labels_of(some, classes))
        for some, views in ((training, settings.views), (inner, 0))
    )
    probe = probe_of(network, train_cases, training, classes, params, fold, first)
    start_from(network, probe)
    log.info("fold %s: %d training cases, probe C = %.3g", fold, len(training), probe.penalty)
    weights = class_weights(train_cases.labels, len(classes), settings.class_weights == "balanced")
    if strategy_of(settings, len(cases), geometry, params.budget) == "probe":
        recipe = recipe_of(settings.model_copy(update={"epochs": 0}))
    alignment = alignment_of(network, cases, geometry, params, fold, first) if recipe.epochs else None
    seed = seed_for(params.seed, "finetune", fold)
    try:
        tell = partial(tell_epoch, fold)
        curve = fit(network, train_cases, inner_cases, recipe, weights, accelerator, seed, tell, alignment)
    except FloatingPointError as error:
        raise Refusal(f"fold {fold}: {error}") from error
    put_prevalence_back(network, weights)
    return curve


def tell_epoch(fold: str, epoch: Epoch) -> None:
    """Write one log line."""
    kept = " *" if epoch.best else ""
    log.info("fold %s epoch %2d: train %.4f inner %.4f%s", fold, epoch.epoch, epoch.train_loss, epoch.inner_loss, kept)


def recipe_of(settings: Finetune) -> Recipe:
    """Keep what the training loop needs of params.finetune."""
    return Recipe(**{name: getattr(settings, name) for name in Recipe.__dataclass_fields__})


def strategy_of(settings: Finetune, n_cases: int, geometry: Geometry, budget: int) -> str:
    """Resolve `auto`: fine-tune where the budget pays for it, else stay with the probe."""
    if settings.strategy != "auto":
        return settings.strategy
    return "lp_ft" if reference_passes(n_cases, geometry.image_size, geometry.slices) <= budget else "probe"


@torch.inference_mode()
def frozen_views(
    network: Classifier,
    cases: pd.DataFrame,
    geometry: Geometry,
    params: Params,
    fold: str,
    views: int,
    first: int,
) -> tuple[Tensor, Tensor]:
    """Compute the activations at the freeze boundary of each case as it is and of its augmented views, once."""
    device = network.head.weight.device
    maps, pooled = [], []
    for case in engine.progress(cases["case"], f"frozen stages of {fold}"):
        planes = np.load(paths.prepared_case(case))
        seeds = [seed_for(params.seed, "view", fold, case, number) for number in range(views)]
        stack = np.stack([planes, *(training_view(planes, seed, geometry.kind, geometry.windows) for seed in seeds)])
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            frozen = network.activations(torch.from_numpy(stack).to(device), last=first)
        maps.append(frozen.maps.half().cpu())
        pooled.append(frozen.pooled.half().cpu())
    return torch.stack(maps, dim=1), torch.stack(pooled, dim=1)


def labels_of(cases: pd.DataFrame, classes: list[str]) -> Tensor:
    """Give each case the number of its class."""
    return torch.tensor([classes.index(label) for label in cases["label"]])


def alignment_of(
    network: Classifier, cases: pd.DataFrame, geometry: Geometry, params: Params, fold: str, first: int
) -> Alignment | None:
    """Set up the loss term that `adapt@k` chose, with sites as domains; None where it chose none."""
    record = paths.read_json(paths.adaptation(fold))
    if record["method"] not in TERMS or record["strength"] == 0:
        return None
    training = cases[cases["role"] == Role.TRAIN]
    others = cases[cases["role"].isin(ALIGNED.get(record["target"], ()))]
    sites = sorted({*training["site"], *others["site"]})
    if others.empty or len(sites) < 2:
        raise Refusal(
            f"adapt.method: {record['method']} draws sites together, but there are {len(others)} unlabelled cases and "
            f"{len(sites)} site(s) to train on; mark cases as unlabelled, set adapt.target, or choose another method"
        )
    recipe = recipe_of(params.finetune)
    steps = recipe.epochs * math.ceil(len(training) / recipe.batch_size)
    device = network.head.weight.device
    unlabelled = frozen_views(network, others, geometry, params, fold, params.finetune.views, first)
    domains, target_domains = (
        torch.tensor([sites.index(site) for site in some["site"]]) for some in (training, others)
    )
    return Alignment(
        TERMS[record["method"]](network, len(sites), steps).to(device),
        record["strength"],
        Target(*unlabelled, target_domains),
        domains,
        recipe.batch_size,
        torch.Generator().manual_seed(seed_for(params.seed, "align", fold)),
    )


@torch.inference_mode()
def probe_of(
    network: Classifier, train: Cases, cases: pd.DataFrame, classes: list[str], params: Params, fold: str, first: int
) -> Probe:
    """Fit the linear probe on the mean features of every view."""
    count = len(train.maps)
    features = torch.cat(
        [
            mean_features(network, maps, pooled, first)
            for view in range(count)
            for maps, pooled in train.batches(16, view)
        ]
    )
    return fit_probe(
        features.double().cpu().numpy(),
        np.tile(train.labels.numpy(), count),
        np.tile(cases["patient"].to_numpy(dtype=str), count),
        len(classes),
        params.finetune.class_weights == "balanced",
        seed_for(params.seed, "probe", fold),
    )


def mean_features(network: Classifier, maps: Tensor, pooled: Tensor, first: int) -> Tensor:
    """Average the features of a case's instances: (B, S, C, h, w) and (B, S, w) to (B, width)."""
    device = network.head.weight.device
    return network.features(Activations(maps.to(device).float(), pooled.to(device).float()), first).mean(dim=1)


@torch.no_grad()
def start_from(network: Classifier, probe: Probe) -> None:
    """Put the probe into the network: its standardisation, and its weights as the head."""
    for place, values in (
        (network.centre, probe.centre),
        (network.spread, probe.spread),
        (network.head.weight, probe.weight),
        (network.head.bias, probe.bias),
    ):
        place.copy_(torch.from_numpy(values))


def put_prevalence_back(network: Classifier, weights: Tensor) -> None:
    """Undo the prior that class weights imply, so that logits speak of the training cases' own prevalence.

    Weighting class c by w_c is training at a prior of w_c p(c); subtracting ln w_c gives p(c) back
    (Saerens, Latinne, Decaestecker 2002, equation 4).
    """
    with torch.no_grad():
        network.head.bias.sub_(weights.log().to(network.head.bias.device))


def save(network: Classifier, arguments: dict[str, object], curve: list[Epoch], fold: str) -> None:
    """Write weights, the arguments that rebuild the network, and the training curve."""
    paths.model(fold).parent.mkdir(parents=True, exist_ok=True)
    network.cpu()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, paths.model(fold))
    paths.write_json(arguments, paths.network(fold))
    paths.write_table(pd.DataFrame([asdict(epoch) for epoch in curve]), paths.history(fold))


@torch.inference_mode()
def score(network: Classifier, cases: pd.DataFrame, fold: str) -> None:
    """Write logits, pooled features and attention, one case per forward, from the planes as stored.

    On the processor and in float32, as the released model is run, so that neither batch nor device changes a score.
    """
    inference(network)
    rows: list[NDArray[np.float32]] = []
    features, attention = [], []
    for case in engine.progress(cases["case"], f"score {fold}"):
        planes = torch.from_numpy(np.load(paths.prepared_case(case)))[None]
        of_instances = network.features(network.activations(planes))
        pooled, weights = network.attention(of_instances)
        rows.append(network.head(pooled)[0].numpy())
        features.append(pooled[0].numpy())
        attention.append(weights[0].numpy())
    # As float64, so that a text file holds every bit of them.
    logits = pd.DataFrame(
        np.array(rows, dtype=np.float64).reshape(-1, network.head.out_features),
        columns=[f"logit_{number}" for number in range(network.head.out_features)],
    )
    table = cases[["case", "patient", "site", "label", "role"]].reset_index(drop=True)
    paths.write_table(pd.concat([table, logits], axis=1), paths.predictions(fold))
    np.savez(
        paths.features(fold),
        case=table["case"].to_numpy(dtype=str),
        features=np.array(features),
        attention=np.array(attention),
    )
