"""How much a change of scanner costs, and what robust training and adaptation without labels win back.

    python benchmarks/shift.py train covid brain --into /tmp/shift
    python benchmarks/shift.py evaluate covid brain --into /tmp/shift
    python benchmarks/shift.py table --into /tmp/shift

`train` fits the default portfolio on folds 0 and 1 with mild and with strong augmentation. `evaluate` plants the shifts
of planted_shifts.py in the held-out images and predicts them: as they are trained, and with normalisation statistics
that are mixed with those of shifted images of the other half of the held-out patients, who are not evaluated at the
same time. The share of AUC won back is of what `mild` without adaptation loses; intervals are over patients, paired.
"""

import argparse
import contextlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from evaluating import print_row
from models import SETS, append, classes_of, prepared, probabilities, stands
from numpy.typing import NDArray
from planted_shifts import SHIFTS, TOGETHER, shifted
from safetensors.torch import load_file
from trials import adapt_once, pipeline

from pipeline.learning.models.adabn import adabn
from pipeline.learning.models.classifier import Classifier
from pipeline.learning.models.encoder import inference
from pipeline.learning.models.ensemble import Portfolio, classifiers_in, model_from
from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.discrimination import log_loss, macro_auc
from pipeline.prepared import read_channels

TRAININGS = ("mild", "strong")
CLEAN, MIDDLE = "clean", 1
CONDITIONS = [(CLEAN, MIDDLE), *((shift, MIDDLE) for shift in SHIFTS), (TOGETHER, 0), (TOGETHER, 2)]
ADAPTATIONS: dict[str, tuple[float, int | None]] = {  # share of the target's statistics, and its number of images
    "none": (0.0, None),
    "0.3 of 8 images": (0.3, 8),
    "0.3 of all": (0.3, None),
    "0.7 of all": (0.7, None),
    "1.0 of all": (1.0, None),
}
KEYS = ["fold", "training", "adaptation", "shift", "severity"]
AT_ONCE = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "evaluate", "table"):
        one = commands.add_parser(name)
        one.add_argument("--into", type=Path, required=True)
        if name != "table":
            one.add_argument("sets", nargs="+", choices=SETS)
            one.add_argument("--folds", nargs="+", default=["0", "1"])
            one.add_argument("--trainings", nargs="+", default=list(TRAININGS), choices=TRAININGS)
            one.add_argument("--preset", default="standard")
    commands.choices["evaluate"].add_argument("--adaptations", nargs="+", default=list(ADAPTATIONS))
    arguments = parser.parse_args()
    arguments.into = arguments.into.resolve()
    {"train": train, "evaluate": evaluate, "table": table}[arguments.command](arguments)


def train(arguments: argparse.Namespace) -> None:
    """Train each fold with each augmentation, and keep the models."""
    for name, training, fold in itertools.product(arguments.sets, arguments.trainings, arguments.folds):
        into = kept(arguments.into, name, training, fold)
        if (into / "model.safetensors").exists():
            continue
        changes = {"preset": arguments.preset, "full": {"augmentation": training}}
        folder = prepared(arguments.into, name, 1.0, seed={"seed": 0, "finetune": changes})
        adapt_once(folder, fold)
        pipeline(folder, "finetune", "--fold", fold)
        into.mkdir(parents=True, exist_ok=True)
        for file in ("network.json", "model.safetensors"):
            shutil.copy(folder / "data/folds" / fold / file, into / file)
        print(f"{name}, {training}, fold {fold}", flush=True)


def kept(into: Path, name: str, training: str, fold: str) -> Path:
    return into / "models" / f"{name}-{training}-{fold}"


def evaluate(arguments: argparse.Namespace) -> None:
    """Predict the held-out cases of each fold under each condition and adaptation."""
    for name, fold in itertools.product(arguments.sets, arguments.folds):
        folder = arguments.into / name
        models = {one: model_of(kept(arguments.into, name, one, fold)) for one in arguments.trainings}
        cases = pd.read_csv(folder / f"data/split/{fold}.csv", dtype=str, keep_default_na=False)
        cases = cases[cases["role"] == "held_out"].reset_index(drop=True)
        file, truth = arguments.into / f"shift-{name}.csv", cases["label"].map(classes_of(folder).index)
        for shift, severity in CONDITIONS:
            images = images_of(folder, cases, shift, severity)
            for training, adaptation in itertools.product(models, arguments.adaptations):
                key = dict(zip(KEYS, (fold, training, adaptation, shift, severity), strict=True))
                if stands(file, key):
                    continue
                logits = predicted(models[training], images, cases["patient"].to_numpy(str), *ADAPTATIONS[adaptation])
                columns = {f"logit_{number}": logits[:, number] for number in range(logits.shape[1])}
                append(cases[["case", "patient"]].assign(truth=truth, **columns, **key), file)
            print(f"{name}, fold {fold}, {shift} {severity + 1}", flush=True)


def model_of(folder: Path) -> Classifier | Portfolio:
    network = model_from(json.loads((folder / "network.json").read_text()))
    network.load_state_dict(load_file(folder / "model.safetensors"))
    inference(network)
    return network


def images_of(folder: Path, cases: pd.DataFrame, shift: str, severity: int) -> torch.Tensor:
    """Read the prepared channels (n, P, H, W) of cases, with a shift planted."""
    with contextlib.chdir(folder):
        read = [np.array(read_channels(case)) for case in cases["case"]]
    if shift != CLEAN:
        named = zip(read, cases["case"], strict=True)
        read = [shifted(channels, shift, severity, case) for channels, case in named]
    return torch.from_numpy(np.stack(read))


def predicted(
    network: Classifier | Portfolio, images: torch.Tensor, patients: NDArray[np.str_], share: float, count: int | None
) -> NDArray[np.float64]:
    """Predict each half of the patients with statistics mixed with those of the other half."""
    if not share:
        return logits_of(network, images)
    halves = np.isin(patients, np.unique(patients)[::2])
    logits = np.zeros((len(images), network.n_classes))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for evaluated in (halves, ~halves):
        target = images[torch.from_numpy(~evaluated)][:count]
        for member in classifiers_in(network):
            adabn(member.encoder, encoder_inputs(member, target), share)
        logits[evaluated] = logits_of(network, images[torch.from_numpy(evaluated)])
        network.load_state_dict(before)
    return logits


def logits_of(network: Classifier | Portfolio, images: torch.Tensor) -> NDArray[np.float64]:
    with torch.inference_mode():
        return np.asarray(torch.cat([network(part) for part in images.split(AT_ONCE)]).double().numpy())


def encoder_inputs(member: Classifier, images: torch.Tensor) -> Iterator[torch.Tensor]:
    """Cut the instances that the encoder sees, in batches."""
    with torch.no_grad():
        for part in images.split(AT_ONCE):
            yield member.instances(part)


def table(arguments: argparse.Namespace) -> None:
    """Print a row for each set, training and adaptation, and one for each shift."""
    for file in sorted(arguments.into.glob("shift-*.csv")):
        rows = pd.read_csv(file, dtype={"fold": str, "case": str, "patient": str})
        print(f"\n{file.stem.removeprefix('shift-')}, {rows['case'].nunique()} held-out cases\n")
        summary(rows)
        print()
        by_shift(rows)


def summary(rows: pd.DataFrame) -> None:
    """Print the metrics on clean images, over all shifts of middle severity and all together, and what is won back."""
    print_row("training", "statistics", "clean", "mean of shifts", "together", "won back", "log-loss, shifts")
    print_row(*["---"] * 7)
    values = {key: Measured(part) for key, part in rows.groupby(["training", "adaptation"], sort=False)}
    lost = values["mild", "none"].clean - values["mild", "none"].mean
    for (training, adaptation), one in values.items():
        back = (one.mean - values["mild", "none"].mean) / lost
        shares = [f"{value[0]:.3f}" for value in (one.clean, one.mean, one.together)]
        low, high = np.nanquantile(back[1:], [0.025, 0.975])
        print_row(training, adaptation, *shares, f"{back[0]:.2f} ({low:.2f} to {high:.2f})", f"{one.loss[0]:.3f}")


class Measured:
    """Metrics of a training with an adaptation, (1 + R,): of the sample, and of draws of patients."""

    def __init__(self, rows: pd.DataFrame) -> None:
        middle = [shift for shift in SHIFTS if shift != TOGETHER]
        self.clean = over(rows, CLEAN, MIDDLE, macro_auc)
        self.mean = np.mean([over(rows, shift, MIDDLE, macro_auc) for shift in middle], axis=0)
        self.together = over(rows, TOGETHER, MIDDLE, macro_auc)
        self.loss = np.mean([over(rows, shift, MIDDLE, log_loss) for shift in middle], axis=0)


def over(rows: pd.DataFrame, shift: str, severity: int, metric: Callable[..., NDArray[np.float64]]) -> NDArray:
    """Evaluate a metric on the pooled cases of all folds."""
    one = rows[(rows["shift"] == shift) & (rows["severity"] == severity)].sort_values(["fold", "case"])
    columns = [f"logit_{number}" for number in range(1 + int(rows["truth"].max()))]
    weights = cluster_weights(one["patient"].to_numpy(str), 500, np.random.default_rng(0))
    return metric(probabilities(one, columns), one["truth"].to_numpy(int), weights)


def by_shift(rows: pd.DataFrame) -> None:
    """Print the AUC of every training and adaptation, by shift."""
    methods = list(rows.groupby(["training", "adaptation"], sort=False).groups)
    print_row("shift", "severity", *(f"{training}, {adaptation}" for training, adaptation in methods))
    print_row(*["---"] * (2 + len(methods)))
    for shift, severity in CONDITIONS:
        parts = [rows[(rows["training"] == one) & (rows["adaptation"] == other)] for one, other in methods]
        print_row(shift, severity + 1, *(f"{over(part, shift, severity, macro_auc)[0]:.3f}" for part in parts))


if __name__ == "__main__":
    main()
