"""finetune@k: from the linear probe upwards, by one recipe; score what was held out. No figures are made here."""

import hashlib
import logging
import shutil
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline import activations, engine, paths, scratch
from pipeline.imaging.batched_views import batched_views
from pipeline.imaging.case_views import CaseViews
from pipeline.imaging.geometry import REFERENCE_SIZE, Geometry
from pipeline.imaging.labels import targets_of
from pipeline.learning.alignment import Alignment, Target
from pipeline.learning.cases import FrozenCases, WholeCases
from pipeline.learning.checkpoint import Checkpoint
from pipeline.learning.classifier import Classifier
from pipeline.learning.costs import passes_of_epoch, shares_of
from pipeline.learning.encoder import inference
from pipeline.learning.finetuning import PARTS, Labelled, Setting, Trained, out_of_fold_losses
from pipeline.learning.finetuning import train as train_one
from pipeline.learning.frozen import Case, begins_with, frozen_views
from pipeline.learning.loop import make_accelerator
from pipeline.learning.recipe import Epoch, Recipe, first_trained_stage
from pipeline.learning.selection import Tried, choose
from pipeline.learning.strategies import STRATEGIES, ladder_of
from pipeline.learning.terms import TERMS, alignment
from pipeline.paths import Role
from pipeline.refusal import Refusal
from pipeline.schema import Finetune, Params
from pipeline.seeds import seed_for

log = logging.getLogger(__name__)

ALIGNED = {"unlabelled": (Role.UNLABELLED,), "judged": (Role.UNLABELLED, Role.HELD_OUT, Role.LOCKED)}
AROUND = ("mean", "std", "filter_depth", "harmonise", "sites", "per_site", "test_time_steps", "test_time_rate")


def run(params: Params, fold: str) -> None:
    """Write the trained model of one fold, its curve, and its logits for the cases it did not train on."""
    with engine.metered(paths.cost("finetune", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        facts, cases = paths.read_json(paths.COHORT_FACTS), paths.read_table(paths.split(fold))
        network, arguments = load_adapted(fold, geometry, len(facts["classes"]))
        accelerator = make_accelerator(engine.device())
        network.to(accelerator.device)
        seed = seed_for(params.seed, "finetune", fold)
        setting = Setting(facts["task"], recipe_of(params.finetune), accelerator, seed, engine.ahead)
        views = CaseViews(stored, partial(seed_for, params.seed), geometry, network.filter_depth > 1)
        every = engine.number("MEDADAPT_CHECKPOINT_SECONDS", 5)
        checkpoint = Checkpoint(paths.checkpoints(fold) / "training.pt", fingerprint(params, fold), every)
        try:
            labelled = labelled_cases(network, cases, views, facts, params.finetune, fold)
            name, tried = strategy_of(network, labelled, setting, geometry, params, fold, checkpoint)
            term = partial(term_of, network, cases, views, setting.task, params, fold)
            tell = partial(tell_epoch, fold) if accelerator.is_main_process else lambda epoch: None
            parts = (term, tell, checkpoint.of(name))
            trained = train_one(network, STRATEGIES[name], labelled, setting, *parts)
        except (FloatingPointError, ValueError) as error:
            raise Refusal(f"finetune.strategy {params.finetune.strategy}, fold {fold}: {error}") from error
        if not accelerator.is_main_process:
            return
        network.looks = params.finetune.looks
        save(network, arguments | trained.head | {"looks": network.looks}, trained, fold)
        record = {"asked": params.finetune.strategy, "strategy": name, **trained.chosen}
        paths.write_json(record | {"tried": [asdict(one) for one in tried]}, paths.recipe(fold))
        inference(network)  # here, since what is made inside inference mode could not adapt at test time
        score(network, cases[cases["role"].isin([Role.HELD_OUT, Role.LOCKED, Role.CALIBRATION])], fold)
        shutil.rmtree(paths.checkpoints(fold), ignore_errors=True)


def load_adapted(fold: str, geometry: Geometry, n_classes: int) -> tuple[Classifier, dict[str, Any]]:
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


def recipe_of(settings: Finetune) -> Recipe:
    """Keep what the training loop needs."""
    return Recipe(**{name: getattr(settings, name) for name in Recipe.__dataclass_fields__ if hasattr(settings, name)})


def labelled_cases(
    network: Classifier, cases: pd.DataFrame, views: CaseViews, facts: dict[str, Any], settings: Finetune, fold: str
) -> Labelled:
    """Run the frozen stages on the training cases with their views, and on the inner cases as they are."""
    first = boundary_of(network, settings)
    training, inner = (cases[cases["role"] == role] for role in (Role.TRAIN, Role.INNER))
    targets = [
        torch.from_numpy(targets_of(some["label"], facts["classes"], facts["task"])) for some in (training, inner)
    ]
    frozen, stopping = (
        FrozenCases(*frozen_stages(network, some, views, first, count, fold), of_some, first)
        for some, of_some, count in zip((training, inner), targets, (settings.views, 0), strict=True)
    )

    def whole() -> tuple[WholeCases, WholeCases]:
        both = zip((training, inner), targets, strict=True)
        one, two = (whole_cases(network, some, of_some, views.geometry) for some, of_some in both)
        return one, two

    return Labelled(frozen, stopping, training["patient"].to_numpy(dtype=str), whole)


def boundary_of(network: Classifier, settings: Finetune) -> int:
    """Find the stage from which on activations may change; what trains every stage needs them for its probe alone."""
    n_stages = len(network.encoder.stages)
    strategy = STRATEGIES["lp_ft" if settings.strategy == "auto" else settings.strategy]
    trained = strategy.recipe(recipe_of(settings), n_stages).trainable_stages
    return n_stages if network.of_site.sites or trained == n_stages else n_stages - trained


def frozen_stages(
    network: Classifier, cases: pd.DataFrame, views: CaseViews, first: int, count: int, fold: str
) -> tuple[Tensor, Tensor]:
    """Run the stages before `first` on views of cases; what another fold or run has made of the same is found again."""

    def draw(case: str) -> Tensor:
        return torch.from_numpy(views.augmented(case, count))

    key = hashlib.sha256((begins_with(network, first) + scratch.code_hash("imaging", "learning")).encode()).hexdigest()
    shelf = activations.Shelf(paths.ACTIVATIONS, key[:32], engine.number("MEDADAPT_CACHE_GIB", 20) * 2**30)
    todo = [
        Case(f"{views.name(case, count)}{site if network.of_site.sites else ''}", site, partial(draw, case))
        for case, site in zip(cases["case"], cases["site"], strict=True)
    ]
    progress = partial(engine.progress, doing=f"frozen stages of {fold}")
    return frozen_views(network, todo, first, shelf, activations.room, progress)


def whole_cases(network: Classifier, cases: pd.DataFrame, targets: Tensor, geometry: Geometry) -> WholeCases:
    """Keep the cases as images on the device where they fit, else read them batch by batch."""
    names = cases["case"].to_numpy(dtype=str)
    augment = partial(batched_views, kind=geometry.kind, windows=geometry.windows)

    def load(rows: Tensor) -> Tensor:
        return torch.from_numpy(np.stack([stored(names[row]) for row in rows])).to(network.device)

    def prepare(planes: Tensor) -> tuple[Tensor, Tensor]:
        found = network.activations(planes, last=0)
        return found.maps, found.pooled

    size = len(names) * geometry.planes * geometry.image_size**2
    if activations.fits_in_memory(size):
        return WholeCases(load(torch.arange(len(names))).__getitem__, prepare, augment, targets)
    return WholeCases(load, prepare, augment, targets)


def stored(case: str) -> NDArray[np.uint8]:
    """Read the planes of a case."""
    planes: NDArray[np.uint8] = np.load(paths.prepared_case(case), mmap_mode="r")
    return planes


def strategy_of(
    network: Classifier,
    labelled: Labelled,
    setting: Setting,
    geometry: Geometry,
    params: Params,
    fold: str,
    checkpoint: Checkpoint,
) -> tuple[str, list[Tried]]:
    """Take the strategy as asked for, or choose one on the training cases alone.

    Where every site has values of its own, estimated on the encoder as adaptation left it, all of it stays frozen;
    and a term that draws sites together is there to be trained with.
    """
    asked, frozen = params.finetune.strategy, bool(network.of_site.sites)
    if asked != "auto":
        return ("probe" if frozen and STRATEGIES[asked].trains else asked), []
    adapted = paths.read_json(paths.adaptation(fold))
    if adapted["method"] in TERMS and adapted["strength"]:
        return "lp_ft", []
    shares = shares_of(network.encoder, network.in_channels)
    counts = [len(part.targets) * geometry.slices for part in (labelled.train, labelled.inner)]

    def passes(name: str, epochs: int) -> float:
        recipe = STRATEGIES[name].recipe(setting.recipe, len(shares))
        first = min(labelled.train.first, first_trained_stage(network, recipe))
        rest = round(counts[0] * (PARTS - 1) / PARTS)
        return epochs * passes_of_epoch(shares, first, recipe.trainable_stages, rest, counts[1]) if recipe.epochs else 0

    def attempt(name: str) -> tuple[NDArray[np.float64], float]:
        losses, epochs = out_of_fold_losses(network, STRATEGIES[name], labelled, setting, checkpoint.of(name))
        return losses, passes(name, epochs)

    allowed = params.finetune.budget / (geometry.image_size / REFERENCE_SIZE) ** 2
    fewest = partial(passes, epochs=PARTS * min(params.finetune.patience, params.finetune.epochs))
    tell = partial(tell_tried, fold)
    names = ladder_of(setting.recipe, len(shares), frozen)
    tried = choose(names, fewest, attempt, labelled.patients, allowed, tell)
    return next((one.strategy for one in reversed(tried) if one.kept), "probe"), tried


def term_of(
    network: Classifier, cases: pd.DataFrame, views: CaseViews, task: str, params: Params, fold: str, recipe: Recipe
) -> Alignment | None:
    """Set up the loss term that `adapt@k` chose, with sites as domains; None where it chose none."""
    record = paths.read_json(paths.adaptation(fold))
    method, weight = record["method"], record["strength"]
    if method not in TERMS or weight == 0:
        return None
    if task == "multilabel":
        raise Refusal(f"adapt.method: {method} is for one class a case, and these have several; take adabn or combat")
    training = cases[cases["role"] == Role.TRAIN]
    others = cases[cases["role"].isin(ALIGNED.get(record["target"], ()))]
    sites = sorted({*training["site"], *others["site"]})
    if others.empty or len(sites) < 2:
        raise Refusal(
            f"adapt.method: {method} draws sites together, but there are {len(others)} unlabelled cases and "
            f"{len(sites)} site(s) to train on; mark cases as unlabelled, set adapt.target, or choose another method"
        )
    first = first_trained_stage(network, recipe)
    unlabelled = frozen_stages(network, others, views, first, params.finetune.views, fold)
    domains, of_target = (torch.tensor([sites.index(site) for site in some["site"]]) for some in (training, others))
    seed = seed_for(params.seed, "align", fold)
    return alignment(method, network, weight, Target(*unlabelled, of_target), domains, recipe, seed)


def fingerprint(params: Params, fold: str) -> str:
    """Hash all that a training depends on: parameters, code, and the files it reads."""
    digest = hashlib.sha256(f"{params.seed} {params.finetune!r} {torch.__version__}".encode())
    digest.update(scratch.code_hash("imaging", "learning", "stages").encode())
    files = (paths.split, paths.adapted_encoder, paths.adapted_sites, paths.adaptation)
    for file in (*(name(fold) for name in files), paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def tell_epoch(fold: str, epoch: Epoch) -> None:
    """Write one log line."""
    kept = " *" if epoch.best else ""
    log.info("fold %s epoch %2d: train %.4f inner %.4f%s", fold, epoch.epoch, epoch.train_loss, epoch.inner_loss, kept)


def tell_tried(fold: str, tried: Tried) -> None:
    """Write one log line."""
    loss = "" if tried.loss is None else f"inner cross-validated loss {tried.loss:.4f}; "
    log.info("fold %s, %s: %s%s%s", fold, tried.strategy, loss, tried.why, " *" if tried.kept else "")


def save(network: Classifier, arguments: dict[str, Any], trained: Trained, fold: str) -> None:
    """Write weights, the arguments that rebuild the network, and the training curve."""
    paths.model(fold).parent.mkdir(parents=True, exist_ok=True)
    network.cpu().at(None)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, paths.model(fold))
    paths.write_json(arguments, paths.network(fold))
    paths.write_table(pd.DataFrame([asdict(epoch) for epoch in trained.curve]), paths.history(fold))


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
        np.array(logits, dtype=np.float64).reshape(-1, network.n_classes),
        columns=[f"logit_{number}" for number in range(network.n_classes)],
    )
    table = cases[["case", "patient", "site", "label", "role"]].reset_index(drop=True)
    paths.write_table(pd.concat([table, columns], axis=1), paths.predictions(fold))
    np.savez(
        paths.features(fold),
        case=table["case"].to_numpy(dtype=str),
        features=np.array(features),
        attention=np.array(attention),
    )
