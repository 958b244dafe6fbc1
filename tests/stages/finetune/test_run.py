"""finetune@k through the command line: recipes, what is kept between runs, and what a killed one leaves behind."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pipeline import cache, paths
from pipeline.__main__ import main
from pipeline.commands.running import training_of
from pipeline.learning.training import frozen
from pipeline.stages.finetune import activation_cache
from pipeline.stages.finetune import run as finetune
from tests.conftest import ROOT
from tests.stages.running import refusal, run

OUTS = ("model.safetensors", "predictions.csv", "history.csv", "network.json", "recipe.json")


def until_adapted(*folds):
    run("cohort", "preprocess", "split", *(f"adapt --fold {fold}" for fold in folds))


def outs(fold="0"):
    return {name: (paths.FOLDS / fold / name).read_bytes() for name in OUTS}


def recipe(fold="0"):
    return paths.read_json(paths.recipe(fold))


@pytest.mark.parametrize("strategy", ["knn", "probe", "last_stage", "lp_ft", "gradual", "full"])
def test_every_strategy_goes_from_the_split_to_scored_cases(project, strategy):
    project(finetune__strategy=strategy, finetune__tta=["mirror"])
    until_adapted("0")
    run("finetune --fold 0")
    assert recipe()["strategy"] == strategy and recipe()["tried"] == []
    chosen = {"neighbours"} if strategy == "knn" else {"C"}
    assert set(recipe()) == {"asked", "strategy", "members", "tried", *chosen}
    table, network = paths.read_table(paths.predictions("0")), paths.read_json(paths.network("0"))
    split = paths.read_table(paths.split("0"))
    assert set(table["case"]) == set(split.loc[split["role"] == "held_out", "case"])
    assert np.isfinite(table.filter(like="logit_").to_numpy(dtype=float)).all()
    assert network["test_time"]["tta"] == ["mirror"]
    assert network["head"]["kind"] == ("neighbours" if strategy == "knn" else "linear")


def test_auto_searches_from_the_cheap_end_and_says_what_it_tried_and_why(project):
    project(finetune__strategy="auto")
    until_adapted("0")
    run("finetune --fold 0")
    tried = recipe()["tried"]
    assert [one["strategy"] for one in tried][:2] == ["knn", "probe"]
    assert recipe()["strategy"] == [one["strategy"] for one in tried if one["kept"]][-1]
    assert all(one["why"] for one in tried)


def test_a_small_budget_ends_the_search_before_anything_is_trained(project):
    project(finetune__strategy="auto", finetune__budget=0)
    until_adapted("0")
    run("finetune --fold 0")
    assert recipe()["strategy"] in ("knn", "probe") and "needs at least" in recipe()["tried"][-1]["why"]


def test_lora_on_a_network_without_attention_is_refused_with_the_parameter(project, capsys):
    project(finetune__strategy="lora")
    until_adapted("0")
    assert "finetune.strategy lora" in refusal(capsys, "finetune --fold 0")


def test_activation_cache_is_shared_between_folds_and_runs(project, monkeypatch):
    """With no adaptation the encoder is the same in every fold; a view that one fold ran is not run by another."""
    runs = []
    original = frozen._run
    monkeypatch.setattr(frozen, "_run", lambda *given: runs.append(given) or original(*given))
    project(adapt__method="none", finetune__strategy="last_stage")
    until_adapted("0", "1")
    run("finetune --fold 0")
    first, before = len(runs), outs()
    run("finetune --fold 1")
    roles = [paths.read_table(paths.split(fold)).set_index("case")["role"] for fold in ("0", "1")]
    views = [set(role.index[role == "train"]) for role in roles]  # of training cases alone
    cases = [set(role.index[role.isin(["train", "validation"])]) for role in roles]
    assert views[0] & views[1]
    assert len(runs) - first == len(views[1] - views[0]) + len(cases[1] - cases[0])
    runs.clear()
    run("finetune --fold 0")
    assert not runs and outs() == before
    shutil.rmtree(paths.ACTIVATIONS)
    run("finetune --fold 0")
    assert runs and outs() == before


def test_a_scratch_on_the_disk_changes_no_bit(project, monkeypatch):
    project(finetune__strategy="lp_ft")
    until_adapted("0")
    run("finetune --fold 0")
    before = outs()
    monkeypatch.setenv("MEDADAPT_MEMORY_GIB", "0")
    run("finetune --fold 0")
    assert outs() == before and not isinstance(activation_cache.allocate((2, 3)).numpy().base, type(None))


def test_a_file_that_a_power_cut_left_half_written_is_computed_again(tmp_path):
    cache, computed = activation_cache.ActivationCache(tmp_path, "key", 10**9), []

    def compute():
        computed.append(1)
        return {"maps": torch.ones(1000)}

    cache("a", compute)
    [file] = (tmp_path / "key").iterdir()
    whole = file.read_bytes()
    for damaged in (whole[:100], b"", whole[:500] + b"#" + whole[501:]):
        file.write_bytes(damaged)
        assert torch.equal(cache("a", compute)["maps"], torch.ones(1000)) and len(computed) == 2
        computed.pop()
    computed.append(1)
    cache("a", compute)
    assert len(computed) == 2


def test_the_oldest_cache_goes_when_there_is_no_more_room(tmp_path):
    def fill(key, limit):
        cache = activation_cache.ActivationCache(tmp_path, key, limit)
        cache("a", lambda: {"maps": torch.zeros(1000)})
        time.sleep(0.02)

    for key in ("one", "two", "three"):
        fill(key, 10**6)
    fill("one", 10**6)  # used again
    fill("four", 9000)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["four", "one", "three"]


def test_cache_ignores_a_file_that_another_fold_removes_while_counting(tmp_path):
    cache = activation_cache.ActivationCache(tmp_path, "one", 10**9)
    cache("a", lambda: {"maps": torch.zeros(1000)})
    (tmp_path / "one" / "b.pack").symlink_to(tmp_path / "renamed meanwhile")  # is listed, and is not there
    (tmp_path / "two").symlink_to(tmp_path / "removed meanwhile")
    activation_cache.ActivationCache(tmp_path, "three", 10**9)
    assert cache("a", lambda: {}).keys() == {"maps"}


def test_cache_that_cannot_be_written_still_returns_the_activations(tmp_path):
    cache = activation_cache.ActivationCache(tmp_path, "one", 10**9)
    shutil.rmtree(tmp_path / "one")  # by another fold, to make room
    assert torch.equal(cache("a", lambda: {"maps": torch.ones(3)})["maps"], torch.ones(3))


@pytest.mark.parametrize("change", ["parameter", "encoder", "split"])
def test_a_checkpoint_of_other_parameters_data_or_weights_is_another_ones(project, change):
    project()
    until_adapted("0")
    params = finetune.Params.model_construct(seed=0, finetune="settings")
    before = finetune.fingerprint(params, "0")
    if change == "parameter":
        params = finetune.Params.model_construct(seed=0, finetune="others")
    elif change == "encoder":
        with paths.adapted_encoder("0").open("ab") as file:
            file.write(b" ")
    else:
        table = pd.read_csv(paths.split("0"))
        table.iloc[::-1].to_csv(paths.split("0"), index=False)
    assert finetune.fingerprint(params, "0") != before


@pytest.mark.parametrize(
    "file", ["stages/finetune/fold_data.py", "stages/finetune/run.py", "learning/training/loop.py"]
)
def test_a_checkpoint_of_other_code_is_another_ones(project, code, file):
    project()
    until_adapted("0")
    params = finetune.Params.model_construct(seed=0, finetune="settings")
    before = finetune.fingerprint(params, "0")
    with (code / "pipeline" / file).open("a") as source:
        source.write("# changed\n")
    cache.code_of.cache_clear()
    assert finetune.fingerprint(params, "0") != before


def test_activations_of_other_code_are_made_anew(project, code):
    project(finetune__strategy="last_stage")
    until_adapted("0")
    run("finetune --fold 0")
    before = {cache.name for cache in paths.ACTIVATIONS.iterdir()}
    with (code / "pipeline" / "stages" / "finetune" / "fold_data.py").open("a") as source:
        source.write("# changed\n")
    cache.code_of.cache_clear()
    run("finetune --fold 0")
    assert before and {cache.name for cache in paths.ACTIVATIONS.iterdir()} - before


def test_run_with_another_rate_does_not_resume_the_old_checkpoint(project, monkeypatch):
    project(finetune__strategy="last_stage", finetune__epochs=4, finetune__patience=4)
    until_adapted("0")
    monkeypatch.setenv("MEDADAPT_CHECKPOINT_SECONDS", "0")
    with monkeypatch.context() as cut_off:
        cut_off.setattr(finetune, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            main(["finetune", "--fold", "0"])
    curve = torch.load(paths.checkpoints("finetune", "0") / "training-last_stage.pt", weights_only=True)["curve"]
    assert training_of("finetune", "0").startswith(f"training-last_stage, epoch {curve[-1]['epoch']}, ")
    project(finetune__strategy="last_stage", finetune__epochs=4, finetune__patience=4, finetune__learning_rate=0.01)
    run("finetune --fold 0")
    other = outs()
    shutil.rmtree(paths.SCRATCH)
    run("finetune --fold 0")
    assert outs() == other and not paths.checkpoints("finetune", "0").exists()


@pytest.mark.slow
def test_a_run_killed_at_any_moment_ends_with_the_bits_of_one_that_was_not(project):
    root = project(finetune__strategy="auto", finetune__epochs=12, finetune__patience=12, finetune__trainable_stages=3)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)
    until_adapted("0")
    environment = {**os.environ, "MEDADAPT_CHECKPOINT_SECONDS": "0", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}
    command = [sys.executable, "-m", "dvc", "repro", "-s", "finetune@0"]

    def start():
        return subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, start_new_session=True)

    (root / "pipeline").symlink_to(ROOT / "pipeline")
    run("finetune --fold 0")
    expected = outs()
    draws, kills = random.Random(0), 0
    for _ in range(3):
        shutil.rmtree(paths.FOLDS)
        shutil.rmtree(paths.SCRATCH / "activations", ignore_errors=True)
        (root / "dvc.lock").unlink(missing_ok=True)
        shutil.rmtree(root / ".dvc" / "cache", ignore_errors=True)  # DVC would find there what it has run before
        killed = start()
        deadline = time.monotonic() + 300
        while killed.poll() is None and not any(paths.SCRATCH.glob("finetune/0/*.pt")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draws.uniform(0, 1.5))
        kills += killed.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        assert main(["repair"]) == 0  # in case it was killed while DVC wrote dvc.lock
        again = start()
        again.communicate(timeout=600)
        assert again.returncode == 0
        assert outs() == expected
    assert kills >= 2  # otherwise nothing was killed in the middle
    assert json.loads(expected["recipe.json"])["tried"] and load_file(paths.model("0"))


@pytest.mark.parametrize(("gib", "most"), [(None, 8 * 2**30), ("0.5", 2**29)])
def test_what_may_be_held_in_memory_is_told_in_gib(monkeypatch, gib, most):
    monkeypatch.delenv("MEDADAPT_MEMORY_GIB", raising=False)
    if gib:
        monkeypatch.setenv("MEDADAPT_MEMORY_GIB", gib)
    assert activation_cache.fits_in_memory(most) and not activation_cache.fits_in_memory(most + 1)
