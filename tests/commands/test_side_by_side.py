"""Folds side by side on one machine: how many at once, in which places, and what DVC is asked."""

import json
import os
import threading
from types import SimpleNamespace

import psutil
import pytest
import torch

from pipeline import runtime
from pipeline.commands import side_by_side
from pipeline.commands.fold_jobs import Outcome
from pipeline.errors import UserError
from tests.commands.conftest import STAGES, never_run
from tests.stages.conftest import project  # noqa: F401 - a fixture


def test_each_core_with_memory_takes_a_fold_and_jobs_share_the_cores(here, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=16 * 2**30))
    assert side_by_side.places_for(9, None) == [{"OMP_NUM_THREADS": "1"}] * 5
    assert side_by_side.places_for(1, None) == [{}]  # as many threads as under `dvc repro`
    assert side_by_side.places_for(5, 3) == [{"OMP_NUM_THREADS": "2"}] * 3
    assert side_by_side.places_for(2, 64) == [{"OMP_NUM_THREADS": "4"}] * 2
    monkeypatch.setenv("MEDADAPT_WORKERS", "2")
    assert len(side_by_side.places_for(9, None)) == 2
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**30))
    assert len(side_by_side.places_for(9, None)) == 1


def test_a_run_trains_side_by_side_what_changed_and_tells_its_stages(here, monkeypatch):
    asked, trained = [], []

    def dvc(*words, **_):
        asked.append(words[0])
        return json.dumps({"finetune@1": [], "adapt@2": []})

    def run_job(job, place):
        trained.append((job.fold, list(job.commands), place["MEDADAPT_STAGES"], place["OMP_NUM_THREADS"]))
        return Outcome(job.fold, 1.0, STAGES, None, here)

    monkeypatch.setattr(runtime, "dvc", dvc)
    monkeypatch.setattr(side_by_side, "run_job", run_job)
    monkeypatch.setattr(side_by_side, "at_once", lambda n_gpus: 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    side_by_side.train_changed(["0", "1", "2"], ["split", "adapt", "finetune"])
    assert asked == ["repro", "status"]
    assert sorted(trained) == [
        ("1", ["finetune"], "split adapt finetune", "2"),
        ("2", ["adapt", "finetune"], "split adapt finetune", "2"),
    ]


def test_a_run_leaves_the_folds_to_dvc_where_one_is_trained_at_a_time(here, no_dvc, monkeypatch):
    monkeypatch.setattr(side_by_side, "at_once", lambda n_gpus: 1)
    side_by_side.train_changed(["0", "1"], ["adapt", "finetune"])
    assert no_dvc == []


def test_each_gpu_gets_a_fold_and_more_jobs_than_gpus_share_them_in_turn(here, monkeypatch):
    monkeypatch.setattr(runtime, "cuda_devices", lambda: ["0", "1"])
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # set by the user, so left as it is
    assert side_by_side.places_for(5, None) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert [place["CUDA_VISIBLE_DEVICES"] for place in side_by_side.places_for(5, 5)] == ["0", "1", "0", "1", "0"]


def test_gpus_carry_the_names_that_the_user_made_visible(monkeypatch):
    monkeypatch.delenv("MEDADAPT_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert runtime.cuda_devices() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,2")
    assert runtime.cuda_devices() == ["5", "2"]
    monkeypatch.setenv("MEDADAPT_DEVICE", "cpu")
    assert runtime.cuda_devices() == []


def test_two_folds_run_at_the_same_time_in_separate_places(here, no_dvc, monkeypatch):
    monkeypatch.setattr(runtime, "cuda_devices", lambda: ["0", "1"])
    both, taken, clashes = threading.Barrier(2, timeout=10), set(), []

    def runner(job, place):
        gpu = place["CUDA_VISIBLE_DEVICES"]
        clashes.extend({gpu} & taken)
        taken.add(gpu)
        both.wait()  # breaks unless a second fold is under way
        taken.discard(gpu)
        return Outcome(job.fold, 1.0, STAGES, None, here)

    outcomes = side_by_side.local([str(fold) for fold in range(6)], STAGES, 2, runner)
    assert [outcome.fold for outcome in outcomes] == list("012345") and clashes == []
    assert no_dvc == [("repro", "split")]


def test_one_job_at_a_time_never_meets_another(here, no_dvc):
    another = threading.Barrier(2, timeout=0.3)

    def runner(job, place):
        with pytest.raises(threading.BrokenBarrierError):  # nobody else came
            another.wait()
        return Outcome(job.fold, 1.0, STAGES, None, here)

    assert len(side_by_side.local(["0", "1", "2"], STAGES, 1, runner)) == 3


def test_folds_are_not_begun_when_the_stages_before_them_fail(project, capfd):  # noqa: F811
    project()  # no DVC project, so that `dvc repro split` fails
    with pytest.raises(UserError, match="`dvc repro split` failed"):
        side_by_side.local(["0"], STAGES, 1, never_run)
    assert "DVC" in capfd.readouterr().err
