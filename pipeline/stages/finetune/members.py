"""Train the members of a fold's model: one network for a single strategy, several for a portfolio."""

import copy
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
from torch import Tensor

from pipeline import paths
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.ensemble import state_of_members
from pipeline.learning.training.alignment.loss_term import Alignment
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.finetuning import Setting, Trained, train
from pipeline.learning.training.labelled import Labelled
from pipeline.learning.training.recipe import Epoch, Recipe
from pipeline.learning.training.strategies import PORTFOLIO as MEMBERS
from pipeline.learning.training.strategies import STRATEGIES
from pipeline.paths import Role
from pipeline.schema import ALIGNMENT_LOSSES, Finetune
from pipeline.seeds import seed_for
from pipeline.stages.finetune.fold_data import full_recipe_of
from pipeline.stages.finetune.presets import FULL, JOINT, WHOLE, augmentations_of, full_of, with_preset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What every member of a fold starts from.

    Attributes
    ----------
    network : Classifier
        The adapted encoder with an untrained head.
    arguments : dict
        The arguments of `Classifier` that rebuild it.
    watch : callable
        From the name of a member to a function that is told each epoch of its training.
    """

    network: Classifier
    arguments: dict[str, Any]
    cases: Labelled
    setting: Setting
    alignment: Callable[[Recipe], Alignment | None]
    watch: Callable[[str], Callable[[Epoch], None]]
    checkpoint: Checkpoint


@dataclass(frozen=True)
class Member:
    """A trained network, the arguments of `Classifier` that rebuild it, and the origin of weights of its own."""

    name: str
    network: Classifier
    arguments: dict[str, Any]
    trained: Trained
    provenance: dict[str, Any] | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What recipe.json says of it."""
        own = {"provenance": self.provenance} if self.provenance else {}
        return {"name": self.name, **self.trained.chosen, **own}


def strategies_of(settings: Finetune, frozen: bool) -> list[str]:
    """List the strategies to train, several for a portfolio; none if `auto` has to choose one.

    Parameters
    ----------
    frozen : bool
        Whether no stage may be trained, because statistics per site were estimated on the adapted encoder.
    """
    members = [name for name in MEMBERS if name in settings.members]  # in one order, the one trained most last
    asked = members if settings.strategy in JOINT else [str(settings.strategy)]
    if asked == ["auto"]:
        return []
    allowed = [name for name in asked if not (frozen and STRATEGIES[name].trains)]
    return allowed or ["probe"]


def settings_for(settings: Finetune, cases: pd.DataFrame, fold: str) -> Finetune:
    """Choose the preset by the number of development cases in the table of a fold, which all folds share.

    A portfolio becomes lp_ft if adaptation chose an alignment loss, which acts in the training of the last stages.
    """
    development = cases["role"].isin([Role.TRAIN, Role.VALIDATION, Role.HELD_OUT])
    settings = with_preset(settings, int(development.sum()))
    adapted = paths.read_json(paths.adaptation(fold))
    aligned = adapted["method"] in ALIGNMENT_LOSSES and adapted["strength"]
    return settings.model_copy(update={"strategy": "lp_ft"}) if aligned and settings.strategy in JOINT else settings


def stops_early(settings: Finetune) -> bool:
    """Tell whether the validation cases are set aside to stop the training."""
    return settings.strategy not in WHOLE


def train_members(start: Start, strategies: Sequence[str], settings: Finetune, fold: str) -> list[Member]:
    """Train a network for each strategy, and for each seed of `full`."""
    found = []
    for name in strategies:
        for number in range(int(full_of(settings).seeds) if name == FULL else 1):
            label = f"{name}-{number + 1}" if number else name
            began = time.perf_counter()
            found.append(train_member(start, name, label, settings))
            log.info("fold %s, member %s: %.0f s", fold, label, time.perf_counter() - began)
    return found


def train_member(start: Start, name: str, label: str, settings: Finetune) -> Member:
    """Train a network by a strategy; a label other than the name of the strategy gives it other random draws."""
    network, setting = copy.deepcopy(start.network), start.setting
    if STRATEGIES[name].whole:
        setting = replace(setting, recipe=full_recipe_of(settings, len(start.cases.patients)))
    if label != name:
        setting = replace(setting, seed=seed_for(setting.seed, "member", label))
    trained = train(
        network,
        STRATEGIES[name],
        start.cases,
        setting,
        alignment=start.alignment,
        tell=start.watch(label),
        checkpoint=start.checkpoint.of(label),
    )
    network.test_time = replace(network.test_time, tta=augmentations_of(settings))
    instances = start.arguments["instances"] | {"side": network.instances.side}
    arguments = start.arguments | {"instances": instances, "head": trained.head, "test_time": asdict(network.test_time)}
    return Member(label, network.cpu(), arguments, trained)


def joined(members: Sequence[Member], task: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the arguments of `Classifier` or `Portfolio` that rebuild the model, and its weights."""
    states = [member.network.state_dict() for member in members]
    if len(members) == 1:
        return members[0].arguments, states[0]
    arguments: dict[str, Any] = {
        "portfolio": [member.arguments for member in members],
        "findings": task == "multilabel",
    }
    arguments |= {"values": True} if task in ("regression", "survival") else {}
    return arguments, state_of_members(states)
