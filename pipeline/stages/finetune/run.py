"""finetune@k: train one fold, starting from a linear probe, and predict its held-out cases; no metrics are computed."""

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor

from pipeline import cache, live, paths, prepared, runtime
from pipeline.errors import UserError
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.learning.models.classifier import Classifier, ModelOutput
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import Portfolio, model_from
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.finetuning import Setting
from pipeline.learning.training.recipe import Epoch
from pipeline.learning.training.selection import Tried
from pipeline.progress import activity, progress
from pipeline.schema import Finetune, Params
from pipeline.seeds import seed_for
from pipeline.stages.finetune.distillation import distilled
from pipeline.stages.finetune.fold_data import alignment_of, labelled_cases, load_adapted, recipe_of
from pipeline.stages.finetune.members import (
    Member,
    Start,
    joined,
    settings_for,
    stops_early,
    strategies_of,
    train_members,
)
from pipeline.stages.finetune.presets import DISTILLED, JOINT
from pipeline.stages.finetune.scored import scored_roles
from pipeline.stages.finetune.search import search
from pipeline.stages.finetune.second_encoder import second_member

log = logging.getLogger(__name__)


def run(params: Params, fold: str) -> None:
    """Write the trained model of one fold, its training curves, and its logits of the cases that it evaluates."""
    cases, asked = paths.read_table(paths.split(fold)), params.finetune.strategy
    settings = settings_for(params.finetune, cases, fold)
    try:
        start, geometry = start_of(params, settings, cases, fold)
        strategies = strategies_of(settings, bool(start.network.site_values.sites))
        tried: list[Tried] = []
        if not strategies:
            chosen, tried = search(start, settings, geometry, fold)
            strategies = [chosen]
        members = train_members(start, strategies, settings, fold)
        if settings.strategy in JOINT and settings.second_encoder.encoder:
            members.append(second_member(params, start, settings, cases, fold=fold))
        if settings.strategy == DISTILLED and not start.network.site_values.sites:
            members, strategies = [distilled(start, members, settings, cases)], [DISTILLED]
    except (FloatingPointError, ValueError) as error:
        raise UserError(f"finetune.strategy {asked}, fold {fold}: {error}") from error
    if not start.setting.accelerator.is_main_process:
        return
    arguments, state = joined(members, start.setting.task)
    save(arguments, state, members, fold)
    strategy = strategies[0] if len(strategies) == 1 else settings.strategy
    record = {"asked": asked, "strategy": strategy, **members[0].trained.chosen}
    record["members"] = [one.record for one in members]
    paths.write_json(record | {"tried": [asdict(one) for one in tried]}, paths.recipe(fold))
    network = model_from(arguments)
    network.load_state_dict(state)
    inference(network)  # before `score`: tensors created in inference mode could not adapt at test time
    scored = cases[cases["role"].isin(scored_roles(fold, set(cases["role"])))]
    score(network, scored, [one.name for one in members], fold)
    shutil.rmtree(paths.checkpoints("finetune", fold), ignore_errors=True)


def start_of(params: Params, settings: Finetune, cases: pd.DataFrame, fold: str) -> tuple[Start, Geometry]:
    """Load the adapted network and the labelled cases of a fold, and run the frozen stages on them."""
    geometry, facts = Geometry.from_json(paths.read_json(paths.GEOMETRY)), paths.read_json(paths.COHORT_FACTS)
    network, arguments = load_adapted(fold, geometry, len(facts["classes"]))
    accelerator = make_accelerator(runtime.device())
    network.to(accelerator.device)
    views = AugmentedViews(prepared.read_channels, partial(seed_for, params.seed), geometry, network.encoder.volumetric)
    file = paths.checkpoints("finetune", fold) / "training.pt"

    def watch(member: str) -> Callable[[Epoch], None]:
        name = f"{fold}.{member}" if settings.strategy in JOINT else fold
        log_and_draw = live.watched(partial(log_epoch, name), "finetune", name)
        return log_and_draw if accelerator.is_main_process else lambda epoch: None

    start = Start(
        network=network,
        arguments=arguments,
        cases=labelled_cases(
            network,
            cases,
            views,
            facts=facts,
            settings=settings,
            label=fold,
            stops_early=stops_early(settings),
        ),
        setting=Setting(
            task=facts["task"],
            recipe=recipe_of(settings),
            accelerator=accelerator,
            seed=seed_for(params.seed, "finetune", fold),
            prefetch=runtime.prefetch,
        ),
        alignment=partial(
            alignment_of,
            network,
            cases,
            views,
            task=facts["task"],
            params=params,
            fold=fold,
            stops_early=stops_early(settings),
        ),
        watch=watch,
        checkpoint=Checkpoint(file, fingerprint(params, fold), runtime.number("MEDADAPT_CHECKPOINT_SECONDS", 5)),
    )
    return start, geometry


def fingerprint(params: Params, fold: str) -> str:
    """Hash everything that a training depends on: parameters, code and input files."""
    of_fold = (paths.split, paths.adapted_encoder, paths.adapted_sites, paths.adaptation)
    files = (*(name(fold) for name in of_fold), paths.COHORT_FACTS, paths.GEOMETRY, paths.INDEX)
    settings = (params.seed, params.finetune, torch.__version__)
    return cache.fingerprint(cache.code_of("finetune"), files, *settings)


def log_epoch(fold: str, epoch: Epoch) -> None:
    """Log the losses of one epoch."""
    activity(f"training {fold}, epoch {epoch.epoch}")
    validation = "" if math.isnan(epoch.validation_loss) else f" validation {epoch.validation_loss:.4f}"
    log.info(
        "fold %s epoch %2d: train %.4f%s%s", fold, epoch.epoch, epoch.train_loss, validation, " *" if epoch.best else ""
    )


def save(arguments: dict[str, Any], state: dict[str, Tensor], members: Sequence[Member], fold: str) -> None:
    """Write weights, the arguments that rebuild the network, and the training curves of the members."""
    paths.model(fold).parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, paths.model(fold))
    paths.write_json(arguments, paths.network(fold))
    rows = [{"member": one.name, **asdict(epoch)} for one in members for epoch in one.trained.curve]
    paths.write_table(pd.DataFrame(rows), paths.history(fold))


@torch.inference_mode()
def score(network: Classifier | Portfolio, cases: pd.DataFrame, names: Sequence[str], fold: str) -> None:
    """Write logits, pooled features and attention, one case per forward pass, from the stored channels.

    Runs on the CPU in float32, like the released model, so that neither batch nor device changes a score. The logits
    of each member of a portfolio are written as well.
    """
    outputs = list[list[ModelOutput]]()
    for case, site in zip(progress(cases["case"], f"score {fold}"), cases["site"], strict=True):
        channels = torch.from_numpy(np.array(prepared.read_channels(case)))[None]
        outputs.append(network.of_members(channels, site))
    found = [network.joint(parts) for parts in outputs]
    table = cases[["case", "patient", "site", "label", "role"]].reset_index(drop=True)
    paths.write_table(pd.concat([table, logit_columns(found, network.n_classes)], axis=1), paths.predictions(fold))
    members = [
        pd.concat([table, logit_columns(list(parts), network.n_classes)], axis=1).assign(member=name)
        for name, parts in zip(names, zip(*outputs, strict=True), strict=False)
        if len(names) > 1
    ]
    empty = table.iloc[:0].assign(member="")
    paths.write_table(pd.concat(members) if members else empty, paths.member_predictions(fold))
    np.savez(
        paths.features(fold),
        case=table["case"].to_numpy(dtype=str),
        features=np.array([one.features[0].numpy() for one in found]),
        attention=np.array([one.attention[0].numpy() for one in found]),
    )


def logit_columns(outputs: Sequence[ModelOutput], n_classes: int) -> pd.DataFrame:
    """Put the logits of cases into columns, as float64, so that the text file is exact."""
    logits = np.array([one.logits[0].numpy() for one in outputs], dtype=np.float64).reshape(-1, n_classes)
    return pd.DataFrame(logits, columns=[f"logit_{number}" for number in range(n_classes)])
