"""Train a network from its probe on until the validation loss stops falling; every recipe is a setting of this loop."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.tasks import Multiclass, Task
from pipeline.learning.models.trainable_top import TrainableTop
from pipeline.learning.training.alignment.loss_term import Alignment
from pipeline.learning.training.averaging import (
    INGREDIENTS,
    MovingAverage,
    Values,
    copied,
    greedy_soup,
    holding,
    put,
)
from pipeline.learning.training.batch_statistics import norms_of, of_the_batch, statistics_of
from pipeline.learning.training.batches import Drawn, batches
from pipeline.learning.training.cases import Cases, WholeCases
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.evaluation import Evaluator
from pipeline.learning.training.lora import low_rank
from pipeline.learning.training.recipe import Epoch, Recipe, first_trained_stage, parameter_groups

log = logging.getLogger(__name__)

# Learning-rate factor of an alignment loss's own layers, which start untrained (as in Long et al. 2015, DAN).
NEW_LAYERS = 10


def fit(
    network: Classifier,
    train: Cases,
    validation: Cases | None,
    recipe: Recipe,
    *,
    accelerator: Accelerator,
    seed: int,
    tell: Callable[[Epoch], None] = lambda epoch: None,
    alignment: Alignment | None = None,
    task: Task | None = None,
    checkpoint: Checkpoint | None = None,
    prefetch: Callable[[Iterable[Any]], Iterator[Any]] = iter,
) -> list[Epoch]:
    """Train the last stages, the attention and the head of `network` in place; leave the best epoch's weights in it.

    Without validation cases all epochs are run, nothing is evaluated, and the weights (or their moving average) after
    the last one are kept, so that no patient is lost to early stopping.

    Unless the recipe learns them, normalisation statistics stay as adaptation left them, so that the output for a case
    does not depend on the rest of its batch. The best epoch has the lowest validation log-loss; epoch 0, the network
    before training, takes part. With an alignment loss, the information of the predictions for the target, in nats, is
    subtracted from that loss (Shi, Sha 2012; see `validators`), because the loss alone does not measure the target.

    Every draw of an epoch is determined by (seed, number of the epoch, row of the case), so that a training that
    continues after a kill, or runs in several processes, draws the same.

    Parameters
    ----------
    network : Classifier
        Its head holds the probe.
    train : Cases
    validation : Cases or None
        No patient in both.
    seed : int
        Seed of the order of the cases and of their views.
    tell : callable
        Called after each epoch.
    alignment : Alignment, optional
        Adds an alignment loss to each step; reported losses do not include it.
    task : Task, optional
        `Multiclass` by default.
    checkpoint : Checkpoint, optional
        A killed training continues from it and, on the CPU, ends with the same bits. The caller deletes it.
    prefetch : callable
        Iterates over batches and prepares the next one in the background, for cases that are read from the disk.

    Returns
    -------
    list of Epoch
        From epoch 0 to the last one run.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the message names the parameter.
    ValueError
        If the recipe does not fit the network or the number of processes.
    """
    with low_rank(network.encoder.stages[first_trained_stage(network, recipe) :], recipe.rank, seed):
        run = _Training(
            network,
            train,
            validation,
            recipe,
            accelerator=accelerator,
            seed=seed,
            alignment=alignment,
            task=task or Multiclass(),
            prefetch=prefetch,
        )
        state = checkpoint.state() if checkpoint else None
        if state is not None:
            run.restore(state)
        for epoch in run.curve or [run.evaluate_start()]:
            tell(epoch)
        while not run.is_over():
            tell(run.advance())
            if checkpoint is not None and accelerator.is_main_process:
                checkpoint.offer(run.state(), run.curve[-1].epoch, last=run.is_over())
        run.finish()
    return run.curve


class _Training:
    """The state of a training, and its steps."""

    def __init__(
        self,
        network: Classifier,
        train: Cases,
        validation: Cases | None,
        recipe: Recipe,
        *,
        accelerator: Accelerator,
        seed: int,
        alignment: Alignment | None,
        task: Task,
        prefetch: Callable[[Iterable[Any]], Iterator[Any]],
    ) -> None:
        if alignment is not None and accelerator.num_processes > 1:
            raise ValueError("alignment losses need a single process; start the fold without torchrun")
        if recipe.batch_statistics and accelerator.num_processes > 1:
            raise ValueError("batch statistics are learned in a single process only; start the fold without torchrun")
        self.train, self.validation, self.recipe, self.accelerator = train, validation, recipe, accelerator
        self.seed, self.alignment, self.task, self.prefetch = seed, alignment, task, prefetch
        self.plain = TrainableTop(network, train.first, first_trained_stage(network, recipe), bool(recipe.rank)).eval()
        self.trained: Values = {name: value for name, value in network.named_parameters() if value.requires_grad}
        trained_stages = network.encoder.stages[first_trained_stage(network, recipe) :]
        self.norms = norms_of(trained_stages) if recipe.batch_statistics else []
        self.trained |= statistics_of(network, self.norms)
        groups = parameter_groups(network, recipe)
        groups += alignment.parameter_groups(NEW_LAYERS * recipe.learning_rate) if alignment else []
        depths = [int(group.pop("depth", 0)) for group in groups]
        fused = accelerator.device.type == "cuda"
        optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=fused)
        self.top, self.optimizer = accelerator.prepare(self.plain, optimizer)
        steps = math.ceil(len(train.targets) / recipe.batch_size)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, [recipe.share_of(depth, steps) for depth in depths]
        )
        self.weights = task.weights(train.targets, recipe.class_weights).to(accelerator.device)
        evaluated_by = task.weights(train.targets, "none" if recipe.class_weights == "none" else "balanced")
        self.evaluator = Evaluator(self.plain, task, evaluated_by.to(accelerator.device), accelerator)
        self.average = MovingAverage(self.trained) if recipe.average == "ema" else None
        self.best = copied(self.trained)
        self.good: list[tuple[float, Values]] = []
        self.curve: list[Epoch] = []

    @property
    def settled(self) -> int:
        """The epoch from which on all trainable stages are trained."""
        return self.recipe.wait(self.recipe.trainable_stages)

    def is_over(self) -> bool:
        """Tell whether all epochs are done or the patience is exhausted."""
        last = self.curve[-1].epoch
        if self.validation is None:
            return last >= self.recipe.epochs
        best = max(epoch.epoch for epoch in self.curve if epoch.best)
        return last >= self.recipe.epochs or last - max(best, self.settled) >= self.recipe.patience

    def evaluate_start(self) -> Epoch:
        """Evaluate epoch 0, the network before training."""
        self.curve = [replace(self._evaluated(0, self.evaluator.loss(self.train), rate=0.0), best=True)]
        self._remember(self.trained)
        return self.curve[0]

    def advance(self) -> Epoch:
        """Run one epoch, evaluate it, and keep its weights if it is the best."""
        number, rate = self.curve[-1].epoch + 1, float(self.optimizer.param_groups[0]["lr"])
        train_loss = self._one_epoch(number)
        values = self.average.values if self.average else self.trained
        with holding(copied(values), self.trained):
            found = self._evaluated(number, train_loss, rate)
            best = self.validation is None or found.criterion < min(epoch.criterion for epoch in self.curve)
            self.curve.append(replace(found, best=best))
            self._remember(self.trained)
        return self.curve[-1]

    def _evaluated(self, number: int, train_loss: float, rate: float) -> Epoch:
        return Epoch(
            epoch=number,
            train_loss=train_loss,
            validation_loss=math.nan if self.validation is None else self.evaluator.loss(self.validation),
            information=self.evaluator.information(self.alignment),
            learning_rate=rate,
            best=False,
        )

    def finish(self) -> None:
        """Write the weights of the best epoch, or the soup of good epochs, into the network."""
        if self.recipe.average == "soup":
            self.best = greedy_soup(self.good, self._loss_with)
        put(self.best, self.trained)
        self.accelerator.free_memory()

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        state: dict[str, Any] = {
            "trained": copied(self.trained),
            "best": self.best,
            "good": self.good,
            "curve": [asdict(epoch) for epoch in self.curve],
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
        }
        if self.average:
            state["average"] = {"values": self.average.values, "steps": self.average.steps}
        return state | ({"alignment": self.alignment.state()} if self.alignment else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        put(state["trained"], self.trained)
        put(state["best"], self.best)
        self.good = [(loss, copied(values)) for loss, values in state["good"]]
        self.curve = [Epoch(**row) for row in state["curve"]]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        if self.average:
            put(state["average"]["values"], self.average.values)
            self.average.steps = state["average"]["steps"]
        if self.alignment:
            self.alignment.restore(state["alignment"])

    def _one_epoch(self, number: int) -> float:
        totals = torch.zeros(2, dtype=torch.float64)
        for rows, batch, targets in self.prefetch(self._batches_of(number)):
            numerator, denominator = self._step(rows, batch, targets)
            totals += torch.tensor([numerator, denominator], dtype=torch.float64)
        return float(totals[0] / totals[1])

    def _batches_of(self, number: int) -> Iterator[Drawn]:
        side, train = self.recipe.side(number), self.train
        return batches(
            replace(train, side=side) if side and isinstance(train, WholeCases) else train,
            self.task,
            self.recipe,
            [self.seed, number],
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )

    def _step(self, rows: Tensor, batch: tuple[Tensor, Tensor], targets: Tensor) -> tuple[float, float]:
        """Take a step on this process's share of a batch; return the loss sum and the weight over all processes."""
        device = self.accelerator.device
        inputs = [part.to(device).float() for part in batch]
        with self.accelerator.autocast(), of_the_batch(self.norms if len(rows) > 1 else []):  # one case has no variance
            if self.alignment is None:
                features, logits = None, self.top(*inputs)
            else:
                features, logits = self.plain.features_and_logits(*inputs)
        loss, share = self.task.losses(logits.float(), targets.to(device), self.weights)
        weight = self.accelerator.reduce(share.detach())
        # Gradients are averaged over processes, hence the factor.
        objective = loss * self.accelerator.num_processes / weight.clamp(min=1e-12)
        if self.alignment is not None and features is not None:
            objective = objective + self.alignment(self.plain, features, logits, rows)
        if not torch.isfinite(objective):
            raise FloatingPointError("the training loss is not finite; lower finetune.learning_rate")
        self.optimizer.zero_grad()
        self.accelerator.backward(objective)
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), self.recipe.clip)
        self.optimizer.step()
        self.schedule.step()
        if self.average:
            self.average.after_step(self.trained)
        return float(self.accelerator.reduce(loss.detach())), float(weight)

    def _remember(self, values: Values) -> None:
        """Keep the weights if the last epoch is the best, or among the best few for a soup."""
        last = self.curve[-1]
        if last.best:
            self.best = copied(values)
        if self.recipe.average == "soup":
            self.good = sorted([*self.good, (last.criterion, copied(values))], key=lambda found: found[0])[:INGREDIENTS]

    def _loss_with(self, values: Values) -> float:
        with holding(values, self.trained):
            return self._evaluated(0, math.nan, rate=0.0).criterion
