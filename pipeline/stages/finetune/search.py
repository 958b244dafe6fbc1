"""Choose one strategy on the training cases alone (`finetune.strategy: auto`)."""

import logging
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.imaging.geometry import REFERENCE_SIZE, Geometry
from pipeline.learning.training.alignment.losses import ALIGNMENT_LOSSES
from pipeline.learning.training.costs import passes_of_epoch, shares_of
from pipeline.learning.training.finetuning import PARTS, out_of_fold_losses
from pipeline.learning.training.recipe import first_trained_stage
from pipeline.learning.training.selection import Tried, choose
from pipeline.learning.training.strategies import STRATEGIES, candidates_of
from pipeline.progress import activity
from pipeline.schema import Finetune
from pipeline.stages.finetune.members import Start

log = logging.getLogger(__name__)


def search(start: Start, settings: Finetune, geometry: Geometry, fold: str) -> tuple[str, list[Tried]]:
    """Choose the strategy with the lowest cross-validated loss on the training cases.

    Methods with per-site statistics freeze the encoder, because these were estimated on the adapted encoder. With an
    alignment loss the choice is always lp_ft, because the loss acts only in training.

    Returns
    -------
    name : str
    tried : list of Tried
        The strategies in the order in which they were tried; empty without a search.
    """
    network, cases, setting = start.network, start.cases, start.setting
    frozen, adapted = bool(network.site_values.sites), paths.read_json(paths.adaptation(fold))
    if adapted["method"] in ALIGNMENT_LOSSES and adapted["strength"]:
        return "lp_ft", []
    shares = shares_of(network.encoder, network.instances.channels)

    def passes(name: str, epochs: int) -> float:
        recipe = STRATEGIES[name].recipe(setting.recipe, len(shares))
        if not recipe.epochs:
            return 0
        return epochs * passes_of_epoch(
            shares,
            first=min(cases.train.first, first_trained_stage(network, recipe)),
            trained=recipe.trainable_stages,
            train=round(len(cases.train.targets) * geometry.slices * (PARTS - 1) / PARTS),
            validation=len(cases.validation.targets) * geometry.slices if cases.validation else 0,
        )

    candidates = candidates_of(setting.recipe, len(shares), frozen)

    def attempt(name: str) -> tuple[NDArray[np.float64], float]:
        words = f"candidate {name} ({candidates.index(name) + 1} of {len(candidates)})"
        activity(words)
        losses, epochs = out_of_fold_losses(
            network,
            STRATEGIES[name],
            cases,
            setting,
            checkpoint=start.checkpoint.of(name),
            tell=lambda part, epoch: activity(f"{words}, part {part} of {PARTS}, epoch {epoch.epoch}"),
        )
        return losses, passes(name, epochs)

    tried = choose(
        candidates,
        fewest_passes=partial(passes, epochs=PARTS * min(settings.patience, settings.epochs)),
        attempt=attempt,
        patients=cases.patients,
        passes=settings.budget / (geometry.image_size / REFERENCE_SIZE) ** 2,
        tell=partial(log_tried, fold),
    )
    return next((one.strategy for one in reversed(tried) if one.kept), "probe"), tried


def log_tried(fold: str, tried: Tried) -> None:
    """Log one tried strategy."""
    loss = "" if tried.loss is None else f"cross-validated log-loss {tried.loss:.4f} ({tried.why}), "
    skipped = f"{tried.why} (finetune.budget)" if "budget" in tried.why else tried.why
    outcome = "kept" if tried.kept else "not kept" if loss else skipped
    log.info("fold %s, %s: %s%s", fold, tried.strategy, loss, outcome)
