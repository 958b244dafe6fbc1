"""Write training curves while a training runs; no result depends on them.

MEDADAPT_LIVE   tensorboard or dvclive (their packages are the extra `live`); if unset, nothing is written

The files are in data/scratch/live/<stage>/<fold>; `tensorboard --logdir data/scratch/live` shows them during training.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline import paths
from pipeline.errors import UserError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Epoch = TypeVar("Epoch", bound="DataclassInstance")
Scalars = dict[str, float]
Sink = Callable[[int, Scalars], None]

LIVE = paths.SCRATCH / "live"


def watched(tell: Callable[[Epoch], None], stage: str, fold: str) -> Callable[[Epoch], None]:
    """Let a function that reports an epoch also draw it in a live curve, if MEDADAPT_LIVE asks for that.

    A training that continues from a checkpoint reports its epochs again from the first, so the folder is emptied.

    Parameters
    ----------
    tell : callable
        Takes a row of a training curve: a dataclass with an integer `epoch`, and numbers.
    stage, fold : str
        Name the folder of the files.

    Raises
    ------
    UserError
        If MEDADAPT_LIVE is not a known name, or its package is not installed.
    """
    name = os.environ.get("MEDADAPT_LIVE", "")
    if not name:
        return tell
    if name not in SINKS:
        raise UserError(f"the environment variable MEDADAPT_LIVE is '{name}'; it takes {' or '.join(SINKS)}")
    folder = LIVE / stage / fold
    shutil.rmtree(folder, ignore_errors=True)
    try:
        sink = SINKS[name](folder)
    except ImportError as error:
        raise UserError(f"MEDADAPT_LIVE is '{name}', which is not installed: pip install 'medadapt[live]'") from error

    def tell_and_draw(epoch: Epoch) -> None:
        tell(epoch)
        sink(*scalars_of(epoch))

    return tell_and_draw


def scalars_of(epoch: Any) -> tuple[int, Scalars]:
    """Split an epoch into its number and its other numeric fields."""
    row = asdict(epoch)
    step = int(row.pop("epoch"))
    return step, {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def to_tensorboard(folder: Path) -> Sink:
    """Open event files of TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def draw(step: int, scalars: Scalars) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # the epoch is visible at once, and a killed run loses none

    return draw


def to_dvclive(folder: Path) -> Sink:
    """Open the tables of DVCLive; it writes nothing to git, dvc.yaml or the network."""
    from dvclive import Live

    live = Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False, monitor_system=False)

    def draw(step: int, scalars: Scalars) -> None:
        live.step = step
        for name, value in scalars.items():
            live.log_metric(name, value)
        live.make_summary()

    return draw


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": to_tensorboard, "dvclive": to_dvclive}
