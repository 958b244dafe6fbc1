"""finetune@k: from the linear probe upwards, by one recipe; score what was held out. No metrics are made here."""

import logging
import shutil
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pipeline import cache, live, paths, runtime
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import REFERENCE_SIZE, Geometry
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.costs import passes_of_epoch, shares_of
from pipeline.learning.training.finetuning import PARTS, Labelled, Setting, Trained, out_of_fold_losses
from pipeline.learning.training.finetuning import train as train_one
from pipeline.learning.training.loop import make_accelerator
from pipeline.learning.training.recipe import Epoch, first_trained_stage
from pipeline.learning.training.selection import Tried, choose
from pipeline.learning.training.strategies import STRATEGIES, search_of
from pipeline.paths import Role
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.finetune.fold_data import alignment_of, labelled_cases, load_adapted, recipe_of, stored

log = logging.getLogger(__name__)


def run(params: Params, fold: str) -> None:
    """Write the trained model of one fold, its curve, and its logits for the cases it did not train on."""
    with runtime.metered(paths.cost("finetune", fold)):
        geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
        facts, cases = paths.read_json(paths.COHORT_FACTS), paths.read_table(paths.split(fold))
        network, arguments = load_adapted(fold, geometry, len(facts["classes"]))
        accelerator = make_accelerator(runtime.device())
        network.to(accelerator.device)
        seed = seed_for(params.seed, "finetune", fold)
        setting = Setting(
            task=facts["task"],
            recipe=recipe_of(params.finetune),
            accelerator=accelerator,
            seed=seed,
            prefetch=runtime.prefetch,
        )
        views = AugmentedViews(stored, partial(seed_for, params.seed), geometry, network.encoder.volumetric)
        every = runtime.number("MEDADAPT_CHECKPOINT_SECONDS", 5)
        checkpoint = Checkpoint(paths.checkpoints("finetune", fold) / "training.pt", fingerprint(params, fold), every)
        try:
            labelled = labelled_cases(network, cases, views, facts, params.finetune, fold)
            name, tried = strategy_of(network, labelled, setting, geometry, params, fold, checkpoint)
            aligned = partial(alignment_of, network, cases, views, setting.task, params, fold)
            told = live.watched(partial(tell_epoch, fold), "finetune", fold)
            tell = told if accelerator.is_main_process else lambda epoch: None
            trained = train_one(
                network,
                STRATEGIES[name],
                labelled,
                setting,
                alignment=aligned,
                tell=tell,
                checkpoint=checkpoint.of(name),
            )
        except (FloatingPointError, ValueError) as error:
            raise UserError(f"finetune.strategy {params.finetune.strategy}, fold {fold}: {error}") from error
        if not accelerator.is_main_process:
            return
        network.test_time = replace(network.test_time, tta=params.finetune.tta)
        arguments |= {"head": trained.head, "test_time": asdict(network.test_time)}
        save(network, arguments, trained, fold)
        record = {"asked": params.finetune.strategy, "strategy": name, **trained.chosen}
        paths.write_json(record | {"tried": [asdict(one) for one in tried]}, paths.recipe(fold))
        inference(network)  # here, since what is made inside inference mode could not adapt at test time
        score(network, cases[cases["role"].isin([Role.HELD_OUT, Role.TEST, Role.CALIBRATION])], fold)
        shutil.rmtree(paths.checkpoints("finetune", fold), ignore_errors=True)


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
    asked, frozen = params.finetune.strategy, bool(network.site_values.sites)
    if asked != "auto":
        return ("probe" if frozen and STRATEGIES[asked].trains else asked), []
    adapted = paths.read_json(paths.adaptation(fold))
    if adapted["method"] in ALIGNMENT_LOSSES and adapted["strength"]:
        return "lp_ft", []
    shares = shares_of(network.encoder, network.instances.channels)
    counts = [len(part.targets) * geometry.slices for part in (labelled.train, labelled.validation)]

    def passes(name: str, epochs: int) -> float:
        recipe = STRATEGIES[name].recipe(setting.recipe, len(shares))
        first = min(labelled.train.first, first_trained_stage(network, recipe))
        rest = round(counts[0] * (PARTS - 1) / PARTS)
        if not recipe.epochs:
            return 0
        return epochs * passes_of_epoch(
            shares, first=first, trained=recipe.trainable_stages, train=rest, validation=counts[1]
        )

    def attempt(name: str) -> tuple[NDArray[np.float64], float]:
        losses, epochs = out_of_fold_losses(
            network, STRATEGIES[name], labelled, setting, checkpoint=checkpoint.of(name)
        )
        return losses, passes(name, epochs)

    allowed = params.finetune.budget / (geometry.image_size / REFERENCE_SIZE) ** 2
    fewest = partial(passes, epochs=PARTS * min(params.finetune.patience, params.finetune.epochs))
    tell = partial(tell_tried, fold)
    names = search_of(setting.recipe, len(shares), frozen)
    tried = choose(names, fewest, attempt, patients=labelled.patients, passes=allowed, tell=tell)
    return next((one.strategy for one in reversed(tried) if one.kept), "probe"), tried


def fingerprint(params: Params, fold: str) -> str:
    """Hash all that a training depends on: parameters, code, and the files it reads."""
    of_fold = (paths.split, paths.adapted_encoder, paths.adapted_sites, paths.adaptation)
    files = (*(name(fold) for name in of_fold), paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX)
    settings = (params.seed, params.finetune, torch.__version__)
    return cache.fingerprint(cache.code_of("finetune"), files, *settings)


def tell_epoch(fold: str, epoch: Epoch) -> None:
    """Write one log line."""
    kept = " *" if epoch.best else ""
    log.info(
        "fold %s epoch %2d: train %.4f validation %.4f%s",
        fold,
        epoch.epoch,
        epoch.train_loss,
        epoch.validation_loss,
        kept,
    )


def tell_tried(fold: str, tried: Tried) -> None:
    """Write one log line."""
    loss = "" if tried.loss is None else f"inner cross-validated loss {tried.loss:.4f}; "
    log.info("fold %s, %s: %s%s%s", fold, tried.strategy, loss, tried.why, " *" if tried.kept else "")


def save(network: Classifier, arguments: dict[str, Any], trained: Trained, fold: str) -> None:
    """Write weights, the arguments that rebuild the network, and the training curve."""
    paths.model(fold).parent.mkdir(parents=True, exist_ok=True)
    network.cpu()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, paths.model(fold))
    paths.write_json(arguments, paths.network(fold))
    paths.write_table(pd.DataFrame([asdict(epoch) for epoch in trained.curve]), paths.history(fold))


@torch.inference_mode()
def score(network: Classifier, cases: pd.DataFrame, fold: str) -> None:
    """Write logits, pooled features and attention, one case per forward, from the channels as stored.

    On the processor and in float32, as the released model is run, so that neither batch nor device changes a score.
    """
    logits, features, attention = [], [], []
    for case, site in zip(runtime.progress(cases["case"], f"score {fold}"), cases["site"], strict=True):
        found = network.outputs(torch.from_numpy(np.load(paths.prepared_case(case)))[None], site)
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
