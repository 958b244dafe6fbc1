"""Continue pretraining without labels: the common loop of SimCLR, VICReg, BYOL and masked image modelling."""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from pipeline.learning.models.encoder import Encoder, channels_last
from pipeline.learning.training.checkpoint import Checkpoint, fingerprint
from pipeline.stages.adapt.pretraining.learner import Learner, Pair
from pipeline.stages.adapt.pretraining.objective import Objective

Images = tuple[Tensor, Tensor]  # two views (B, C, H, W) of each
WARM_UP = 0.1  # share of the epochs
COLLAPSED = 0.5  # fraction of the initial effective rank


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Length and rates of the training.

    Attributes
    ----------
    epochs : int
        Passes over the images that train the encoder; 0 leaves it unchanged.
    head_epochs : int
        Earlier passes, at least 1, that train the objective's head on the frozen encoder, because gradients through a
        random head would damage the encoder.
    patience : int
        Training stops after this many epochs without improvement.
    learning_rate, weight_decay : float
        AdamW's for the encoder; the rate of heads is ten times higher. Linear warm-up over a tenth of the epochs, then
        cosine decay.
    trainable_stages : int
        Number of last stages of the encoder that are trained.
    strength : float
        s in [0, 1], the interpolation between the initial and the trained weights; at 0 nothing is run.
    seed : int
        Of the draws of an objective (masks). The caller draws the views.
    """

    epochs: int
    head_epochs: int = 5
    patience: int
    learning_rate: float
    weight_decay: float = 0.01
    trainable_stages: int
    strength: float
    seed: int


@dataclass(frozen=True)
class Epoch:
    """One row of the training curve; epoch 0 is the initial encoder.

    Attributes
    ----------
    train_loss, held_out_loss : float
        The objective with the trained encoder.
    control_loss : float
        The objective on the held-out pairs with the initial encoder and a head that was trained as long.
    rank : float
        Effective rank of the trained encoder's features of the held-out images.
    learning_rate : float
        Of the encoder.
    """

    epoch: int
    train_loss: float
    held_out_loss: float
    control_loss: float
    rank: float
    learning_rate: float


def continue_pretraining(
    encoder: Encoder,
    objective: Objective,
    *,
    pairs: Callable[[int], Iterable[Images]],
    held_out: Sequence[Images],
    settings: Settings,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None = None,
    tell: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train the encoder's last stages on an objective without labels, in place, and keep the best epoch.

    The weights become theta = (1 - s) theta_0 + s theta_best (WiSE-FT: Wortsman et al. 2022, "Robust fine-tuning of
    zero-shot models", section 3). Earlier stages and the statistics of batch normalisation stay bit for bit the same,
    so that a step does not depend on the other cases of its batch (run `adabn` before, if at all).

    The best epoch has the lowest objective on `held_out`. As a control, a second head is trained from the same batches
    on the initial encoder. Heads improve even if the encoder does not, so an epoch is kept only if it beats every loss
    of the control; a method that does not help leaves the encoder unchanged. An epoch whose features of the held-out
    images lost half of their effective rank has collapsed and is not kept either. This is weak evidence: a lower
    objective does not imply a better classifier. Only labels of unseen patients show whether adaptation helped;
    compare with strength 0.

    Parameters
    ----------
    encoder : Encoder
        Pretrained. Returned in evaluation mode, on its original device, channels last.
    objective : Objective
        Newly built for this encoder.
    pairs : callable
        pairs(n) yields pass n over the images, from 0, as batches of two views (B, C, H, W), as encoder inputs. B is
        at least 2 and about equal; the same n gives the same batches.
    held_out : sequence of pairs
        Batches of views of images whose patients are not in `pairs`.
    settings : Settings
    accelerator : Accelerator
    checkpoint : Checkpoint, optional
        Receives the state after each pass. Its key must identify everything that is not visible here: code, versions
        and the data behind `pairs`. A run with that key and the same encoder, objective, held-out images and settings
        continues from it and, on a CPU, ends with the same bits; any other run starts anew. The caller deletes it.
    tell : callable
        Called after each epoch.

    Returns
    -------
    list of Epoch
        From epoch 0 to the last one; empty at strength 0.
    """
    if settings.strength == 0:
        return []
    run = _Run(encoder, objective, held_out, settings, accelerator=accelerator)
    own = replace(checkpoint, key=f"{checkpoint.key} {run.key}") if checkpoint is not None else None
    if own is not None and (state := own.state()) is not None:
        run.restore(state)
        for row in run.curve:
            tell(row)
    while not run.is_over():
        run.advance(pairs)
        if own is not None:
            own.offer(run.state(), run.curve[-1].epoch if run.curve else 0, last=run.is_over())
        if run.curve:
            tell(run.curve[-1])
    run.finish()
    return run.curve


def kept(curve: Sequence[Epoch]) -> Epoch:
    """Find the epoch whose encoder was kept; epoch 0 if none beats the control."""
    best = _lowest(curve)
    return best if best.held_out_loss < min(row.control_loss for row in curve) else curve[0]


def _lowest(curve: Sequence[Epoch]) -> Epoch:
    sound = [row for row in curve if row.rank >= COLLAPSED * curve[0].rank]
    return min(sound, key=lambda row: row.held_out_loss)


class _Run:
    """The state of a training: the moving encoder, the still control, and the curve so far."""

    def __init__(
        self,
        encoder: Encoder,
        objective: Objective,
        held_out: Sequence[Images],
        settings: Settings,
        accelerator: Accelerator,
    ) -> None:
        self.settings, self.accelerator = settings, accelerator
        parts = [*encoder.state_dict().values(), *objective.state_dict().values(), *(v for p in held_out for v in p)]
        self.key = fingerprint(f"{settings} {objective}", parts)
        self.home = next(encoder.parameters()).device
        build = partial(
            Learner,
            accelerator=accelerator,
            trainable_stages=settings.trainable_stages,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
        )
        self.still = build(copy.deepcopy(encoder), copy.deepcopy(objective), moves=False)
        self.moving = build(encoder, objective, moves=True)
        self.best = _copy(encoder)
        self.passes = 0
        self.curve: list[Epoch] = []
        self.held_out = [self._placed(pair) for pair in held_out]

    def state(self) -> dict[str, Any]:
        learners = {"still": self.still.state(), "moving": self.moving.state()}
        return {"passes": self.passes, "best": self.best, "curve": [asdict(row) for row in self.curve], **learners}

    def restore(self, state: dict[str, Any]) -> None:
        self.still.restore(state["still"])
        self.moving.restore(state["moving"])
        self.passes, self.best = state["passes"], state["best"]
        self.curve = [Epoch(**row) for row in state["curve"]]

    def is_over(self) -> bool:
        if not self.curve:
            return False
        last = self.curve[-1].epoch
        return last >= self.settings.epochs or last - _lowest(self.curve).epoch >= self.settings.patience

    def advance(self, pairs: Callable[[int], Iterable[Images]]) -> None:
        """Make one pass: at first with the control alone, whose trained head both start from, then with both."""
        number = self.passes + 1 - self.settings.head_epochs
        share = rate(number, self.settings.epochs)
        losses = self._learn(pairs(self.passes), [self.still, self.moving] if number > 0 else [self.still], share)
        self.passes += 1
        if number == 0:
            self.moving.restore(self.still.state())
        if number >= 0:
            control, _ = self.still.evaluate(self.held_out, self._draws(0))
            loss, rank = self.moving.evaluate(self.held_out, self._draws(0))
            moved = self.settings.learning_rate * share if number else 0.0
            self.curve.append(Epoch(number, losses[-1], loss, control, rank=rank, learning_rate=moved))
            if _lowest(self.curve).epoch == number:
                self.best = _copy(self.moving.encoder)

    def finish(self) -> None:
        """Load the kept epoch, interpolated by the strength, into the caller's encoder."""
        start = self.still.encoder.state_dict()
        best = self.best if kept(self.curve).epoch else start
        blend = {
            name: torch.lerp(old, best[name].to(old), self.settings.strength) if old.is_floating_point() else old
            for name, old in start.items()
        }
        self.moving.encoder.load_state_dict(blend)
        self.moving.encoder.requires_grad_(True).to(self.home)

    def _learn(self, batches: Iterable[Images], learners: Sequence[Learner], share: float) -> list[float]:
        draws = [self._draws(self.passes + 1) for _ in learners]  # the same for both
        totals, count = [0.0] * len(learners), 0
        for pair in map(self._placed, batches):
            for number, learner in enumerate(learners):
                totals[number] += learner.learn(pair, share, draws[number]) * len(pair[0])
            count += len(pair[0])
        return [total / count for total in totals]

    def _draws(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.settings.seed * 1_000_003 + number)

    @torch.no_grad()
    def _placed(self, pair: Images) -> Pair:
        """Move a pair to the device and run the frozen stages, which are the same for both learners."""
        first, second = (channels_last(view.to(self.accelerator.device)) for view in pair)
        if self.moving.objective.needs_images:
            return first, second
        encoder = self.still.encoder
        frozen = max(len(encoder.stages) - self.settings.trainable_stages, 0)
        with self.accelerator.autocast():
            return encoder.begin(first, frozen), encoder.begin(second, frozen)


def rate(epoch: int, epochs: int) -> float:
    """Compute an epoch's share of the full learning rate: 1 up to epoch 0, then linear warm-up, then cosine decay."""
    if epoch <= 0:
        return 1.0
    warm = max(round(WARM_UP * epochs), 1)
    return min(epoch / warm, 0.5 * (1 + math.cos(math.pi * max(epoch - warm, 0) / (epochs - warm + 1))))


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
