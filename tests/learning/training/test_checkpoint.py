"""A checkpoint and the progress beside it: whole or not there, and of the same epoch."""

import json

import pytest
import torch

from pipeline.learning.training import checkpoint as checkpoints
from pipeline.learning.training.checkpoint import Checkpoint, written_whole


def progress(folder):
    return json.loads((folder / "progress.json").read_text())


def test_progress_names_the_training_and_epoch_of_the_last_checkpoint(tmp_path):
    first = Checkpoint(tmp_path / "training.pt", "key", every=0)
    first.offer({"epoch": 4}, 4)
    first.of("lp_ft").offer({"epoch": 1}, 1)
    assert progress(tmp_path) == {"training": "training-lp_ft", "epoch": 1}
    first.offer({"epoch": 5}, 5)
    assert progress(tmp_path) == {"training": "training", "epoch": 5}


def test_an_epoch_that_is_not_kept_is_not_told(tmp_path):
    one = Checkpoint(tmp_path / "training.pt", "key", every=0)
    one.offer({"epoch": 1}, 1)
    one.every = 1e9
    one.offer({"epoch": 2}, 2)
    assert progress(tmp_path)["epoch"] == 1 == one.state()["epoch"]
    one.offer({"epoch": 3}, 3, last=True)
    assert progress(tmp_path)["epoch"] == 3 == one.state()["epoch"]


def test_progress_never_tells_more_than_the_checkpoint_holds(tmp_path, monkeypatch):
    one = Checkpoint(tmp_path / "training.pt", "key", every=0)
    one.offer({"epoch": 1}, 1)

    def full(*_):
        raise OSError("no space left on the device")

    with monkeypatch.context() as on_a_full_disk:
        on_a_full_disk.setattr(torch, "save", full)
        with pytest.raises(OSError, match="no space"):
            one.offer({"epoch": 2}, 2)
    assert progress(tmp_path)["epoch"] == 1 == one.state()["epoch"]


def test_a_file_is_the_old_one_until_all_of_the_new_one_is_written(tmp_path):
    file = tmp_path / "new" / "progress.json"
    with written_whole(file) as stream:
        stream.write(b"old")
    with pytest.raises(KeyboardInterrupt), written_whole(file) as stream:
        stream.write(b"ha")
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old"


def test_a_training_that_is_done_leaves_nothing(tmp_path):
    one = Checkpoint(tmp_path / "training.pt", "key", every=0)
    one.remove()
    one.offer({"epoch": 1}, 1)
    one.remove()
    assert not list(tmp_path.iterdir()) and one.state() is None
    assert checkpoints.load(one.file, "key") is None


def test_a_checkpoint_is_written_again_once_the_seconds_have_passed(tmp_path, monkeypatch):
    now = 1000.0
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now)
    one = Checkpoint(tmp_path / "training.pt", "key", every=5, written=1000.0)
    kept = []
    for epoch, now in enumerate([1001, 1004.9, 1005, 1009.9, 1010]):  # noqa: B007 - the clock
        one.offer({"epoch": epoch}, epoch)
        kept.append((one.state() or {}).get("epoch"))
    assert kept == [None, None, 2, 2, 4]


@pytest.mark.parametrize(
    "damage", [lambda content: content[:200], lambda _: b"", lambda content: flipped(content, 300)]
)
def test_a_damaged_checkpoint_is_told_and_dropped(tmp_path, caplog, damage):
    one = Checkpoint(tmp_path / "training.pt", "key", every=0)
    one.offer({"weights": torch.zeros(1000)}, 1)
    assert torch.equal(one.state()["weights"], torch.zeros(1000))
    one.file.write_bytes(damage(one.file.read_bytes()))
    assert one.state() is None and not one.file.exists()
    assert "training.pt is damaged, so this training starts again" in caplog.text


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def test_a_write_that_fails_leaves_no_partial_file(tmp_path):
    with pytest.raises(OSError, match="no space"), written_whole(tmp_path / "training.pt"):
        raise OSError("no space left on the device")
    assert not list(tmp_path.iterdir())
