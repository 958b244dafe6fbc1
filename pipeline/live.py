"""Curves while a training runs, for whoever wants to watch; no result depends on them.

MEDADAPT_LIVE   tensorboard or dvclive (their packages are the extra `live`); without it nothing is written

The files lie in data/scratch/live/<stage>/<fold>: `tensorboard --logdir data/scratch/live` shows them as they grow.
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
    """Give a function that tells an epoch as `tell` does, and draws it where MEDADAPT_LIVE asks for that.

    A training that goes on from a checkpoint tells its epochs again from the first, so the folder is emptied before.

    Parameters
    ----------
    tell : callable
        Takes a row of a training curve: a dataclass with a whole number `epoch`, and numbers.
    stage, fold : str
        Where the files lie.

    Raises
    ------
    UserError
        If MEDADAPT_LIVE is no name of a sink, or its package is not installed.
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
    """Take the number of an epoch and all else in it that is a number and no mark."""
    row = asdict(epoch)
    step = int(row.pop("epoch"))
    return step, {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def to_tensorboard(folder: Path) -> Sink:
    """Write event files of TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder))

    def draw(step: int, scalars: Scalars) -> None:
        for name, value in scalars.items():
            writer.add_scalar(name, value, step)
        writer.flush()  # whoever watches sees the epoch now, and a kill loses none

    return draw


def to_dvclive(folder: Path) -> Sink:
    """Write the tables of DVCLive, and nothing of its own to git, dvc.yaml or the network."""
    from dvclive import Live

    live = Live(dir=str(folder), dvcyaml=None, report=None, save_dvc_exp=False, monitor_system=False)

    def draw(step: int, scalars: Scalars) -> None:
        live.step = step
        for name, value in scalars.items():
            live.log_metric(name, value)
        live.make_summary()

    return draw


SINKS: dict[str, Callable[[Path], Sink]] = {"tensorboard": to_tensorboard, "dvclive": to_dvclive}
