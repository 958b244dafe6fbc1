"""Self-supervised training side by side with a bare loop: the same views, objective and stages, in one process.

    OMP_NUM_THREADS=1 python benchmarks/throughput.py
    OMP_NUM_THREADS=2 python benchmarks/throughput.py --rounds 7 --stages 2

The bare loop is forward, backward and step over batches that lie ready in memory. Ours is `continue_pretraining` as
`adapt@k` runs it (SimCLR, the default encoder with its real weights, 128 pixels, pairs of 32 images of COVID-CT):
over the same resident batches, with contrastive views of stored channels, and with the next ones drawn in the
background. Only passes are timed, not the evaluation between them. Rounds are paired: in each, all take turns, so that
a noisy machine is noisy for all; the median of the rounds' ratios is printed. What is drawn ahead needs a free core.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from trials import DATA

from pipeline.imaging.augmentation.batched import contrastive_pair
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.learning.models.backbones import build_encoder
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import Encoder
from pipeline.learning.models.weights import load_weights
from pipeline.learning.training.accelerator import make_accelerator
from pipeline.runtime import device, prefetch_passes
from pipeline.stages.adapt.methods.simclr import SimClr
from pipeline.stages.adapt.pretraining.continued import Settings, continue_pretraining

ENCODER = "tf_efficientnet_lite0"
GEOMETRY = Geometry("image", 128, 1, 3, None, "pad", "keep")
BATCH = 32
GOAL = 0.9
Pair = tuple[torch.Tensor, torch.Tensor]
Draw = Callable[[int], Iterable[Pair]]
Now = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=5, help="a pass")
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count processor time, for a busy machine; with it, what is drawn ahead costs as much as what is not",
    )
    parser.add_argument("--stages", type=int, default=2, help="of the encoder that are trained, from the last")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = store_channels(Path(folder), arguments.batches * BATCH)
        state, _ = load_weights(ENCODER, "pip", None)
        network = Classifier(build_encoder(ENCODER, 3, state), {"channels": 3}, {"n_classes": 2}).eval()
        draw = partial(pairs_in_batches, network, cases)
        now = time.process_time if arguments.cpu_time else time.perf_counter
        rounds = [one_round(network.encoder, draw, arguments.stages, now) for _ in range(1 + arguments.rounds)]
    print_table(rounds[1:], len(cases))  # the first warms up


def store_channels(folder: Path, count: int) -> list[Path]:
    """Prepare images of COVID-CT as the pipeline stores them."""
    images = sorted(path for path in (DATA / "covid_ct/Images").rglob("*") if path.is_file())[:count]
    if len(images) < count:
        sys.exit(f"{DATA / 'covid_ct/Images'} holds {len(images)} images, not {count}; see MEDADAPT_TEST_DATA")
    steps = Preprocessor(GEOMETRY)
    files = [folder / f"{number}.npy" for number in range(count)]
    for file, image in zip(files, images, strict=True):
        np.save(file, steps.prepare_file(image).channels)
    return files


def pairs_in_batches(network: Classifier, cases: list[Path], number: int) -> Iterator[Pair]:
    """Draw pass `number` over the cases as `adapt@k` does: two views of each, in batches, as the encoder takes them."""
    seeds = np.random.default_rng(number).integers(2**32, size=len(cases))
    views = (
        contrastive_pair(np.array(np.load(case, mmap_mode="r")), int(seed), GEOMETRY.kind)
        for case, seed in zip(cases, seeds, strict=True)
    )
    for _ in range(0, len(cases), BATCH):
        sides = zip(*(next(views) for _ in range(BATCH)), strict=True)
        first, second = (network.instances(torch.from_numpy(np.stack(side))) for side in sides)
        yield first, second


def one_round(encoder: Encoder, draw: Draw, stages: int, now: Now) -> dict[str, float]:
    """Let all take their turn; seconds a pass."""
    resident = [(as_trained(first), as_trained(second)) for first, second in draw(0)]
    ready, drawn = Clock(lambda number: resident, now), Clock(draw, now)
    coming = Clock(prefetch_passes(draw), now)
    seconds = {"bare loop": bare(encoder, resident, stages, now)}
    for name, clock in (("resident batches", ready), ("views drawn", drawn), ("views drawn ahead", coming)):
        settings = Settings(
            epochs=1, head_epochs=1, patience=6, learning_rate=1e-4, trainable_stages=stages, strength=1.0, seed=0
        )
        moving = copy.deepcopy(encoder)
        held_out = [(resident[0][0][:4], resident[0][1][:4])]
        continue_pretraining(
            moving,
            SimClr(moving),
            pairs=clock.passes,
            held_out=held_out,
            settings=settings,
            accelerator=make_accelerator(device()),
        )
        seconds[name] = clock.seconds[1]
    return seconds | {"drawing": drawn.waited[1], "waiting": coming.waited[1]}


def as_trained(views: torch.Tensor) -> torch.Tensor:
    return views.contiguous(memory_format=torch.channels_last)


class Clock:
    """Times each pass over what `draw` gives, and how long it was waited for."""

    def __init__(self, draw: Draw, now: Now) -> None:
        self.draw, self.now = draw, now
        self.seconds: dict[int, float] = {}
        self.waited: dict[int, float] = {}

    def passes(self, number: int) -> Iterator[Pair]:
        """Give pass `number`; its time ends when one more batch is asked for than there are."""
        start = asked = self.now()
        self.waited[number] = 0.0
        for pair in self.draw(number):
            self.waited[number] += self.now() - asked
            yield pair
            asked = self.now()
        self.seconds[number] = self.now() - start


def bare(encoder: Encoder, batches: list[Pair], stages: int, now: Now) -> float:
    """Train the last stages and the head over batches in memory, and nothing else; seconds."""
    accelerator = make_accelerator(device())
    encoder = copy.deepcopy(encoder).to(accelerator.device).to(memory_format=torch.channels_last)
    objective, draws = SimClr(encoder).eval().to(accelerator.device), torch.Generator()
    encoder.requires_grad_(False)
    encoder.stages[-stages:].requires_grad_(True)
    trained = [value for module in (encoder, objective) for value in module.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    placed = [(first.to(accelerator.device), second.to(accelerator.device)) for first, second in batches]
    start = now()
    for first, second in placed:
        with accelerator.autocast():
            loss = objective(encoder, first, second, draws)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    float(loss.detach())  # a GPU is waited for
    return now() - start


def print_table(rounds: list[dict[str, float]], pairs: int) -> None:
    print(f"{torch.get_num_threads()} thread(s), {pairs} pairs a pass, {len(rounds)} rounds; goal: {GOAL:.0%}\n")
    print("| | pairs/s | of the bare loop | lowest to highest |")
    print("|---|---|---|---|")
    for name in ("bare loop", "resident batches", "views drawn", "views drawn ahead"):
        ratios = [one["bare loop"] / one[name] for one in rounds]
        rate = pairs / statistics.median(one[name] for one in rounds)
        print(f"| {name} | {rate:.1f} | {statistics.median(ratios):.0%} | {min(ratios):.0%} to {max(ratios):.0%} |")
    print("\nOf the time of the bare loop:", end=" ")
    shares = {
        name: statistics.median(one[name] / one["bare loop"] for one in rounds) for name in ("drawing", "waiting")
    }
    print(f"drawing views {shares['drawing']:.0%}, waiting for those drawn ahead {shares['waiting']:.0%}.")


if __name__ == "__main__":
    main()
