"""A training that is cut off, or shared by two processes, ends as one that is not."""

import copy
import dataclasses
import subprocess
import sys
from functools import partial

import pytest
import torch

from pipeline.learning.training.accelerator import make_accelerator
from pipeline.learning.training.alignment.loss_term import Target
from pipeline.learning.training.alignment.losses import build_alignment
from pipeline.learning.training.checkpoint import Checkpoint
from pipeline.learning.training.loop import fit
from tests.conftest import ROOT
from tests.learning.training.trainings import RECIPE, task


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"average": "ema"},
        {"average": "soup"},
        {"mix": "mixup", "mix_alpha": 1.0, "label_smoothing": 0.1},
        {"mix": "cutmix", "mix_alpha": 1.0},
        {"class_weights": "sampling"},
        {"gradual": True},
        {"batch_statistics": True},
    ],
    ids=str,
)
def test_training_stopped_after_any_epoch_resumes_to_the_same_bits(tmp_path, changes):
    recipe = dataclasses.replace(RECIPE, epochs=4, **changes)

    def run(folder, stop_after=None):
        network, cases = task()

        def tell(epoch):
            if epoch.epoch == stop_after:
                raise KeyboardInterrupt

        checkpoint = Checkpoint(folder / "training.pt", "key", every=0)
        curve = fit(
            network, cases, cases, recipe, accelerator=make_accelerator("cpu"), seed=0, tell=tell, checkpoint=checkpoint
        )
        return network.state_dict(), curve

    straight, curve = run(tmp_path / "straight")
    for stop_after in (1, 2, 3):
        folder = tmp_path / str(stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(folder, stop_after + 1)  # what epoch `stop_after` left is on the disk, the next one is lost
        gone_on, same = run(folder)
        assert same == curve
        assert all(torch.equal(value, gone_on[name]) for name, value in straight.items())


def test_a_training_goes_on_from_nothing_but_its_own_checkpoint(tmp_path):
    network, cases = task()
    start = copy.deepcopy(network.state_dict())
    told, train = [], partial(fit, network, cases, cases, RECIPE, accelerator=make_accelerator("cpu"), seed=0)
    for key in ("one", "another", "another"):
        network.load_state_dict(start)
        checkpoint = Checkpoint(tmp_path / "training.pt", key, every=0)
        told.append([])
        train(tell=told[-1].append, checkpoint=checkpoint)
    assert len(told[0]) == len(told[1]) == len(told[2]) == RECIPE.epochs + 1  # a finished one is told again, not run
    before = copy.deepcopy(network.state_dict())
    train(checkpoint=Checkpoint(tmp_path / "training.pt", "new"))
    assert any(not torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_alignment_losses_that_learn_are_part_of_the_checkpoint(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=4, batch_size=6)

    def run(folder, stop_after=None):
        network, cases = task()
        target = Target(cases.maps, cases.pooled, torch.ones(24, dtype=torch.long))
        domains = torch.zeros(24, dtype=torch.long)
        aligned = build_alignment("dann", network, weight=1.0, target=target, domains=domains, recipe=recipe, seed=5)

        def tell(epoch):
            if epoch.epoch == stop_after:
                raise KeyboardInterrupt

        checkpoint = Checkpoint(folder / "training.pt", "key", every=0)
        curve = fit(
            network,
            cases,
            cases,
            recipe,
            accelerator=make_accelerator("cpu"),
            seed=0,
            tell=tell,
            alignment=aligned,
            checkpoint=checkpoint,
        )
        return network.state_dict(), curve

    straight, curve = run(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 3)
    gone_on, same = run(tmp_path / "cut")
    assert same == curve and all(torch.equal(value, gone_on[name]) for name, value in straight.items())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"mix": "mixup", "mix_alpha": 1.0}], ids=str)
def test_two_processes_train_as_one_does(tmp_path, changes):
    """Over gloo; the classes are unequal, so that the parts of a batch weigh differently."""
    script = tmp_path / "train.py"
    script.write_text(
        "import dataclasses, sys, torch\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.learning.training.trainings import RECIPE, task\n"
        "from pipeline.learning.training.accelerator import make_accelerator\n"
        "from pipeline.learning.training.loop import fit\n"
        "network, cases = task()\n"
        "cases = dataclasses.replace(cases, targets=torch.eye(2)[(torch.arange(24) < 7).long()])\n"
        f"recipe = dataclasses.replace(RECIPE, epochs=3, batch_size=7, **{changes!r})\n"
        "accelerator = make_accelerator('cpu')\n"
        "fit(network, cases, cases, recipe, accelerator=accelerator, seed=0)\n"
        "print(accelerator.num_processes)\n"
        "accelerator.is_main_process and torch.save(network.state_dict(), sys.argv[1])\n"
    )
    states = []
    for processes in (1, 2):
        target = tmp_path / f"{processes}.pt"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        done = subprocess.run(
            [*command, str(script), str(target)], capture_output=True, text=True, check=True, timeout=300
        )
        assert done.stdout.split() == [str(processes)] * processes
        states.append(torch.load(target))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-5, atol=1e-6, msg=name)
