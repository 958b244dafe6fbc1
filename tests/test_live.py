"""Curves while a training runs: nothing unless asked for, every epoch once, and the cure where a package is missing."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline import live
from pipeline.errors import UserError


@dataclass(frozen=True)
class Epoch:
    epoch: int
    train_loss: float
    best: bool = False
    name: str = "probe"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDADAPT_LIVE", raising=False)


def losses_by(name):
    """Read back what the sink wrote: pairs of epoch and loss."""
    folder = Path("data/scratch/live/finetune/0")
    if name == "dvclive":
        with (folder / "plots/metrics/train_loss.tsv").open() as file:
            return [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(file, delimiter="\t")]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert events.Tags()["scalars"] == ["train_loss"]
    return [(event.step, event.value) for event in events.Scalars("train_loss")]


def test_nothing_is_written_unless_asked_for():
    told = []
    assert live.watched(told.append, "finetune", "0") == told.append
    assert not Path("data").exists()


@pytest.mark.parametrize("name", live.SINKS)
def test_every_epoch_is_drawn_at_once_and_never_twice_after_a_resume(name, monkeypatch):
    pytest.importorskip(name, reason="the extra `live` is not installed")
    monkeypatch.setenv("MEDADAPT_LIVE", name)
    told = []
    for last in (2, 4):
        tell = live.watched(told.append, "finetune", "0")
        for epoch in range(last):
            tell(Epoch(epoch, 1 / 2**epoch))
            assert losses_by(name) == [(step, 1 / 2**step) for step in range(epoch + 1)]
    assert [epoch.epoch for epoch in told] == [0, 1, 0, 1, 2, 3]
    assert {file.name for file in Path().iterdir()} == {"data"}


def test_numbers_are_drawn_and_marks_and_words_are_not():
    assert live.scalars_of(Epoch(3, 0.5, True)) == (3, {"train_loss": 0.5})


def test_another_name_is_refused_by_those_that_there_are(monkeypatch):
    monkeypatch.setenv("MEDADAPT_LIVE", "wandb")
    with pytest.raises(UserError, match="'wandb'; it takes tensorboard or dvclive"):
        live.watched(print, "finetune", "0")


@pytest.mark.parametrize("name", live.SINKS)
def test_a_missing_package_is_refused_with_the_cure(name, monkeypatch):
    monkeypatch.setenv("MEDADAPT_LIVE", name)
    for module in ("torch.utils.tensorboard", "dvclive"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"medadapt\[live\]"):
        live.watched(print, "finetune", "0")
