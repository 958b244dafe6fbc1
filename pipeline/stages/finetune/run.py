"""finetune@k: train one fold, starting from a linear probe, and predict its held-out cases; no metrics are computed."""

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
from pipeline.learning.training.strategies import STRATEGIES, candidates_of
from pipeline.paths import Role
from pipeline.progress import activity, progress
from pipeline.schema import Params
from pipeline.seeds import seed_for
from pipeline.stages.finetune.fold_data import alignment_of, labelled_cases, load_adapted, recipe_of

log = logging.getLogger(__name__)


def run(params: Params, fold: str) -> None:
    """Write the trained model of one fold, its training curve, and its logits of the cases it was not trained on."""
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    facts, cases = paths.read_json(paths.COHORT_FACTS), paths.read_table(paths.split(fold))
    network, arguments = load_adapted(fold, geometry, len(facts["classes"]))
    accelerator = make_accelerator(runtime.device())
    network.to(accelerator.device)
    setting = Setting(
        task=facts["task"],
        recipe=recipe_of(params.finetune),
        accelerator=accelerator,
        seed=seed_for(params.seed, "finetune", fold),
        prefetch=runtime.prefetch,
    )
    seed_of = partial(seed_for, params.seed)
    views = AugmentedViews(paths.read_channels, seed_of, geometry, network.encoder.volumetric)
    file = paths.checkpoints("finetune", fold) / "training.pt"
    checkpoint = Checkpoint(file, fingerprint(params, fold), runtime.number("MEDADAPT_CHECKPOINT_SECONDS", 5))
    try:
        labelled = labelled_cases(network, cases, views, facts=facts, settings=params.finetune, label=fold)
        name, tried = strategy_of(
            network, labelled, setting, params, geometry=geometry, fold=fold, checkpoint=checkpoint
        )
        log_and_draw = live.watched(partial(log_epoch, fold), "finetune", fold)
        trained = train_one(
            network,
            STRATEGIES[name],
            labelled,
            setting,
            alignment=partial(alignment_of, network, cases, views, task=setting.task, params=params, fold=fold),
            tell=log_and_draw if accelerator.is_main_process else lambda epoch: None,
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
    inference(network)  # before `score`: tensors created in inference mode could not adapt at test time
    score(network, cases[cases["role"].isin([Role.HELD_OUT, Role.TEST, Role.CALIBRATION])], fold)
    shutil.rmtree(paths.checkpoints("finetune", fold), ignore_errors=True)


def strategy_of(
    network: Classifier,
    labelled: Labelled,
    setting: Setting,
    params: Params,
    *,
    geometry: Geometry,
    fold: str,
    checkpoint: Checkpoint,
) -> tuple[str, list[Tried]]:
    """Return the configured strategy, or choose one on the training cases alone (`finetune.strategy: auto`).

    Methods with per-site statistics freeze the encoder, because these were estimated on the adapted encoder. With an
    alignment loss the choice is always lp_ft, because the loss acts only in training.

    Returns
    -------
    name : str
    tried : list of Tried
        The strategies in the order in which they were tried; empty without a search.
    """
    asked, frozen = params.finetune.strategy, bool(network.site_values.sites)
    if asked != "auto":
        return ("probe" if frozen and STRATEGIES[asked].trains else asked), []
    adapted = paths.read_json(paths.adaptation(fold))
    if adapted["method"] in ALIGNMENT_LOSSES and adapted["strength"]:
        return "lp_ft", []
    shares = shares_of(network.encoder, network.instances.channels)

    def passes(name: str, epochs: int) -> float:
        recipe = STRATEGIES[name].recipe(setting.recipe, len(shares))
        if not recipe.epochs:
            return 0
        return epochs * passes_of_epoch(
            shares,
            first=min(labelled.train.first, first_trained_stage(network, recipe)),
            trained=recipe.trainable_stages,
            train=round(len(labelled.train.targets) * geometry.slices * (PARTS - 1) / PARTS),
            validation=len(labelled.validation.targets) * geometry.slices,
        )

    candidates = candidates_of(setting.recipe, len(shares), frozen)

    def attempt(name: str) -> tuple[NDArray[np.float64], float]:
        words = f"candidate {name} ({candidates.index(name) + 1} of {len(candidates)})"
        activity(words)
        losses, epochs = out_of_fold_losses(
            network,
            STRATEGIES[name],
            labelled,
            setting,
            checkpoint=checkpoint.of(name),
            tell=lambda part, epoch: activity(f"{words}, part {part} of {PARTS}, epoch {epoch.epoch}"),
        )
        return losses, passes(name, epochs)

    tried = choose(
        candidates,
        fewest_passes=partial(passes, epochs=PARTS * min(params.finetune.patience, params.finetune.epochs)),
        attempt=attempt,
        patients=labelled.patients,
        passes=params.finetune.budget / (geometry.image_size / REFERENCE_SIZE) ** 2,
        tell=partial(log_tried, fold),
    )
    return next((one.strategy for one in reversed(tried) if one.kept), "probe"), tried


def fingerprint(params: Params, fold: str) -> str:
    """Hash everything that a training depends on: parameters, code and input files."""
    of_fold = (paths.split, paths.adapted_encoder, paths.adapted_sites, paths.adaptation)
    files = (*(name(fold) for name in of_fold), paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX)
    settings = (params.seed, params.finetune, torch.__version__)
    return cache.fingerprint(cache.code_of("finetune"), files, *settings)


def log_epoch(fold: str, epoch: Epoch) -> None:
    """Log the losses of one epoch."""
    losses = f"train {epoch.train_loss:.4f} validation {epoch.validation_loss:.4f}"
    activity(f"training, epoch {epoch.epoch}")
    log.info("fold %s epoch %2d: %s%s", fold, epoch.epoch, losses, " *" if epoch.best else "")


def log_tried(fold: str, tried: Tried) -> None:
    """Log one tried strategy."""
    loss = "" if tried.loss is None else f"cross-validated log-loss {tried.loss:.4f} ({tried.why}), "
    skipped = f"{tried.why} (finetune.budget)" if "budget" in tried.why else tried.why
    outcome = "kept" if tried.kept else "not kept" if loss else skipped
    log.info("fold %s, %s: %s%s", fold, tried.strategy, loss, outcome)


def save(network: Classifier, arguments: dict[str, Any], trained: Trained, fold: str) -> None:
    """Write weights, the arguments that rebuild the network, and the training curve."""
    paths.model(fold).parent.mkdir(parents=True, exist_ok=True)
    network.cpu()
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, paths.model(fold))
    paths.write_json(arguments, paths.network(fold))
    paths.write_table(pd.DataFrame([asdict(epoch) for epoch in trained.curve]), paths.history(fold))


@torch.inference_mode()
def score(network: Classifier, cases: pd.DataFrame, fold: str) -> None:
    """Write logits, pooled features and attention, one case per forward pass, from the stored channels.

    Runs on the CPU in float32, like the released model, so that neither batch nor device changes a score.
    """
    logits, features, attention = [], [], []
    for case, site in zip(progress(cases["case"], f"score {fold}"), cases["site"], strict=True):
        found = network.outputs(torch.from_numpy(np.load(paths.prepared_case(case)))[None], site)
        logits.append(found.logits[0].numpy())
        features.append(found.features[0].numpy())
        attention.append(found.attention[0].numpy())
    # As float64, so that the text file is exact.
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
