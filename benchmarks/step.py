"""A step of the training loop beside a bare forward and backward pass on resident tensors: what the loop costs.

    python benchmarks/step.py                  # the last two stages, and all of them, on the processor or CUDA

Both train the same network on the same batches with AdamW; they take turns, and medians of the rounds count. The loop
also evaluates its validation cases, which is left out here: one validation case, and as many steps an epoch as it
takes to drown it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.trainable_top import TrainableTop
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.cases import Cases, FrozenCases, WholeCases
from pipeline.learning.training.loop import fit
from pipeline.learning.training.recipe import Recipe, parameter_groups

BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--cases", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device")
    arguments = parser.parse_args()
    print("| trained | loop, cases/s | bare, cases/s | loop / bare |\n|---|---|---|---|")
    for name, stages in (("last two stages", 2), ("all stages", 99)):
        ratios, rates = [], []
        for _ in range(arguments.rounds):
            loop, bare = (rate(arguments, stages, how) for how in (in_loop, in_the_bare))
            ratios.append(loop / bare)
            rates.append((loop, bare))
        loop, bare = (statistics.median(column) for column in zip(*rates, strict=True))
        spread = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        print(f"| {name} | {loop:.0f} | {bare:.0f} | {spread} |", flush=True)


def rate(arguments: argparse.Namespace, stages: int, how: Callable[[Classifier, Cases, int], float]) -> float:
    """Give the cases a second of one epoch."""
    torch.manual_seed(0)
    accelerator = make_accelerator(arguments.device)
    network = (
        Classifier({"name": arguments.encoder, "pooled_stages": 4}, {"channels": 3}, {"n_classes": 2})
        .eval()
        .to(accelerator.device)
    )
    first = max(len(network.encoder.stages) - stages, 0)
    channels = torch.randint(256, (arguments.cases, 3, arguments.size, arguments.size), dtype=torch.uint8)
    targets = torch.eye(2)[torch.arange(arguments.cases) % 2]
    resident = channels.to(accelerator.device)
    cases: Cases
    if first:
        with torch.inference_mode():
            found = [network.activations(some.to(accelerator.device), last=first) for some in channels.split(BATCH)]
        maps, pooled = (torch.cat([getattr(one, part) for one in found]).half().cpu() for part in ("maps", "pooled"))
        cases = FrozenCases(maps[None], pooled[None], targets, first)
    else:

        def prepare(some: Tensor) -> tuple[Tensor, Tensor]:
            one = network.activations(some, last=0)
            return one.maps, one.pooled

        cases = WholeCases(resident.__getitem__, prepare, lambda some, seeds: some, targets)
    return arguments.cases / how(network, cases, stages)


def recipe(stages: int, epochs: int) -> Recipe:
    return Recipe(
        trainable_stages=stages,
        epochs=epochs,
        patience=epochs,
        batch_size=BATCH,
        learning_rate=1e-4,
        rate_decay=0.5,
        weight_decay=0.01,
        class_weights="none",
        label_smoothing=0.0,
        mix="none",
        mix_alpha=0.2,
        average="none",
        rank=0,
    )


def in_loop(network: Classifier, cases: Cases, stages: int) -> float:
    """Give the seconds of an epoch of `fit`: those of three epochs less those of one, halved."""
    one = cases.some(torch.arange(1))  # type: ignore[attr-defined]
    accelerator, took = make_accelerator(None), []
    for epochs in (1, 3):
        start = time.perf_counter()
        fit(network, cases, one, recipe(stages, epochs), accelerator=accelerator, seed=0)
        synchronise(accelerator.device)
        took.append(time.perf_counter() - start)
    return (took[1] - took[0]) / 2


def in_the_bare(network: Classifier, cases: Cases, stages: int) -> float:
    """Give the seconds of an epoch of nothing but forward, backward and step on tensors that lie ready."""
    accelerator = make_accelerator(None)
    device = accelerator.device
    top = TrainableTop(network, cases.first, max(len(network.encoder.stages) - stages, 0))
    optimizer = torch.optim.AdamW(parameter_groups(network, recipe(stages, 1)), fused=device.type == "cuda")
    rows = torch.arange(len(cases.targets)).split(BATCH)
    batches = [[part.to(device).float() for part in cases.plain(some)] for some in rows]
    labels = [cases.targets[some].argmax(dim=1).to(device) for some in rows]
    loss_of = nn.CrossEntropyLoss()
    took = []
    for _ in range(2):  # the first one warms up
        synchronise(device)
        start = time.perf_counter()
        for batch, truth in zip(batches, labels, strict=True):
            with accelerator.autocast():
                loss = loss_of(top(*batch).float(), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        synchronise(device)
        took.append(time.perf_counter() - start)
    return took[-1]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
