"""finetune@k: probe, then train the last stages from it; score what was held out. No figures are made here."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline import engine, paths
from pipeline.imaging.case_views import CaseViews
from pipeline.imaging.geometry import Geometry, reference_passes
from pipeline.learning.alignment import Alignment, Target
from pipeline.learning.classifier import Classifier
from pipeline.learning.encoder import inference
from pipeline.learning.frozen import frozen_views, mean_features
from pipeline.learning.loop import Cases, Epoch, Recipe, class_weights, first_trained_stage, fit, make_accelerator
from pipeline.learning.probe import Probe, fit_probe
from pipeline.learning.terms import TERMS, alignment
from pipeline.params import Finetune, Params
from pipeline.paths import Role
from pipeline.refusal import Refusal
from pipeline.seeds import seed_for

log = logging.getLogger(__name__)

ALIGNED = {"unlabelled": (Role.UNLABELLED,), "judged": (Role.UNLABELLED, Role.HELD_OUT, Role.LOCKED)}


AROUND = ("mean", "std", "filter_depth", "harmonise", "sites", "per_site", "test_time_steps", "test_time_rate")


def run(params: Params, fold: str) -> None:
    """Write the trained model of one fold, its curve, and its logits for the cases it did not train on."""
    with engine.metered(paths.cost("finetune", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        classes = paths.read_json(paths.COHORT_FACTS)["classes"]
        cases = paths.read_table(paths.split(fold))
        network, arguments = load_adapted(fold, geometry, len(classes))
        curve = train(network, cases, classes, geometry, params, fold)
        save(network, arguments, curve, fold)
        inference(network)  # here, since what is made inside inference mode could not adapt at test time
        score(network, cases[cases["role"].isin([Role.HELD_OUT, Role.LOCKED])], fold)


def load_adapted(fold: str, geometry: Geometry, n_classes: int) -> tuple[Classifier, dict[str, object]]:
    """Rebuild the adapted encoder inside a network with an untrained head, and all that adaptation put around it."""
    record = paths.read_json(paths.adaptation(fold))
    arguments = {"encoder": record["provenance"]["encoder"], "in_channels": geometry.channels, "n_classes": n_classes}
    arguments |= {"pooled_stages": record["pooled_stages"]}
    arguments |= {name: record[name] for name in AROUND if name in record}
    torch.manual_seed(0)  # of the attention's hidden layer
    network = Classifier(**arguments)
    network.encoder.load_state_dict(load_file(paths.adapted_encoder(fold)))
    network.of_site.load_state_dict(load_file(paths.adapted_sites(fold)))
    network.at(None)
    return network.eval(), arguments


def train(
    network: Classifier, cases: pd.DataFrame, classes: list[str], geometry: Geometry, params: Params, fold: str
) -> list[Epoch]:
    """Fit the probe and, if the strategy says so, the last stages; return the training curve."""
    settings = params.finetune
    recipe = recipe_of(settings, network, len(cases), geometry, params.budget)
    accelerator = make_accelerator(engine.device())
    network.to(accelerator.device)
    first = first_trained_stage(network, recipe)
    views = CaseViews(stored, partial(seed_for, params.seed), geometry, network.filter_depth > 1)
    training, inner = (cases[cases["role"] == role] for role in (Role.TRAIN, Role.INNER))
    train_cases, inner_cases = (
        Cases(*frozen_views(network, stacks_of(some, views, fold, count), first), labels_of(some, classes))
        for some, count in ((training, settings.views), (inner, 0))
    )
    probe = probe_of(network, train_cases, training, classes, params, fold, first)
    network.start_from(probe)
    log.info("fold %s: %d training cases, probe C = %.3g", fold, len(training), probe.penalty)
    weights = class_weights(train_cases.labels, len(classes), settings.class_weights == "balanced")
    term = term_of(network, cases, views, recipe, params, fold) if recipe.epochs else None
    seed = seed_for(params.seed, "finetune", fold)
    try:
        tell = partial(tell_epoch, fold)
        curve = fit(network, train_cases, inner_cases, recipe, weights, accelerator, seed, tell, term)
    except FloatingPointError as error:
        raise Refusal(f"fold {fold}: {error}") from error
    put_prevalence_back(network, weights)
    return curve


def stored(case: str) -> NDArray[np.uint8]:
    """Read the planes of a case."""
    planes: NDArray[np.uint8] = np.load(paths.prepared_case(case), mmap_mode="r")
    return planes


def stacks_of(cases: pd.DataFrame, views: CaseViews, fold: str, count: int) -> Iterator[tuple[str, Tensor]]:
    """Give the site of each case, and the case as it is with augmented views (1 + count, P, H, W)."""
    for case, site in zip(engine.progress(cases["case"], f"frozen stages of {fold}"), cases["site"], strict=True):
        yield site, torch.from_numpy(views.augmented(case, fold, count))


def tell_epoch(fold: str, epoch: Epoch) -> None:
    """Write one log line."""
    kept = " *" if epoch.best else ""
    log.info("fold %s epoch %2d: train %.4f inner %.4f%s", fold, epoch.epoch, epoch.train_loss, epoch.inner_loss, kept)


def recipe_of(settings: Finetune, network: Classifier, n_cases: int, geometry: Geometry, budget: int) -> Recipe:
    """Keep what the training loop needs, and resolve `auto`: fine-tune where the budget pays, else stay with the probe.

    Where every site has values of its own, estimated on the encoder as adaptation left it, all of it stays frozen.
    """
    recipe = Recipe(**{name: getattr(settings, name) for name in Recipe.__dataclass_fields__})
    if network.of_site.sites:
        return replace(recipe, epochs=0, trainable_stages=0)
    pays = reference_passes(n_cases, geometry.image_size, geometry.slices) <= budget
    probe = settings.strategy == "probe" or (settings.strategy == "auto" and not pays)
    return replace(recipe, epochs=0) if probe else recipe


def labels_of(cases: pd.DataFrame, classes: list[str]) -> Tensor:
    """Give each case the number of its class."""
    return torch.tensor([classes.index(label) for label in cases["label"]])


def term_of(
    network: Classifier, cases: pd.DataFrame, views: CaseViews, recipe: Recipe, params: Params, fold: str
) -> Alignment | None:
    """Set up the loss term that `adapt@k` chose, with sites as domains; None where it chose none."""
    record = paths.read_json(paths.adaptation(fold))
    method, weight = record["method"], record["strength"]
    if method not in TERMS or weight == 0:
        return None
    training = cases[cases["role"] == Role.TRAIN]
    others = cases[cases["role"].isin(ALIGNED.get(record["target"], ()))]
    sites = sorted({*training["site"], *others["site"]})
    if others.empty or len(sites) < 2:
        raise Refusal(
            f"adapt.method: {method} draws sites together, but there are {len(others)} unlabelled cases and "
            f"{len(sites)} site(s) to train on; mark cases as unlabelled, set adapt.target, or choose another method"
        )
    first = first_trained_stage(network, recipe)
    unlabelled = frozen_views(network, stacks_of(others, views, fold, params.finetune.views), first)
    domains, of_target = (torch.tensor([sites.index(site) for site in some["site"]]) for some in (training, others))
    seed = seed_for(params.seed, "align", fold)
    return alignment(method, network, weight, Target(*unlabelled, of_target), domains, recipe, seed)


def probe_of(
    network: Classifier, train: Cases, cases: pd.DataFrame, classes: list[str], params: Params, fold: str, first: int
) -> Probe:
    """Fit the linear probe on the mean features of every view."""
    views = zip(train.maps, train.pooled, strict=True)
    features = np.concatenate([mean_features(network, maps, pooled, first) for maps, pooled in views])
    count = len(train.maps)
    return fit_probe(
        features,
        np.tile(train.labels.numpy(), count),
        np.tile(cases["patient"].to_numpy(dtype=str), count),
        len(classes),
        params.finetune.class_weights == "balanced",
        seed_for(params.seed, "probe", fold),
    )


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
    network.cpu().at(None)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, paths.model(fold))
    paths.write_json(arguments, paths.network(fold))
    paths.write_table(pd.DataFrame([asdict(epoch) for epoch in curve]), paths.history(fold))


@torch.inference_mode()
def score(network: Classifier, cases: pd.DataFrame, fold: str) -> None:
    """Write logits, pooled features and attention, one case per forward, from the planes as stored.

    On the processor and in float32, as the released model is run, so that neither batch nor device changes a score.
    """
    logits, features, attention = [], [], []
    for case, site in zip(engine.progress(cases["case"], f"score {fold}"), cases["site"], strict=True):
        network.at(site)
        found = network.look(torch.from_numpy(np.load(paths.prepared_case(case)))[None])
        logits.append(found.logits[0].numpy())
        features.append(found.features[0].numpy())
        attention.append(found.attention[0].numpy())
    # As float64, so that a text file holds every bit of them.
    columns = pd.DataFrame(
        np.array(logits, dtype=np.float64).reshape(-1, network.head.out_features),
        columns=[f"logit_{number}" for number in range(network.head.out_features)],
    )
    table = cases[["case", "patient", "site", "label", "role"]].reset_index(drop=True)
    paths.write_table(pd.concat([table, columns], axis=1), paths.predictions(fold))
    np.savez(
        paths.features(fold),
        case=table["case"].to_numpy(dtype=str),
        features=np.array(features),
        attention=np.array(attention),
    )
