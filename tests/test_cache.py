"""Keys of caches and checkpoints: they hash the code that dvc.yaml lists for a stage, and nothing else."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline import cache
from pipeline.errors import UserError
from pipeline.packs import HEADER
from tests.conftest import ROOT, flip_bit
from tests.stages.stored import names_in

ARRAYS = ("channels", "mask")
DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def code_of(stage, **how):
    cache.code_of.cache_clear()  # a process meets one state of its code; these tests change it
    return cache.code_of(stage, **how)


def flip(file):
    content = file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:] if content else b"#")


def changed_by(stage, file, **how):
    """Tell whether one byte of a file changes the hash of a stage; the file is put back."""
    before, content = code_of(stage, **how), file.read_bytes()
    flip(file)
    after = code_of(stage, **how)
    file.write_bytes(content)
    assert code_of(stage, **how) == before
    return after != before


@pytest.mark.parametrize("stage", DVC)
def test_one_byte_of_any_code_dep_changes_the_hash_of_its_stage(stage, code):
    deps = [code / entry for entry in DVC[stage]["deps"] if entry.startswith("pipeline/")]
    below = [file for path in deps for file in ([path] if path.is_file() else sorted(path.rglob("*.*")))]
    assert below and all(changed_by(stage, file) for file in below)


@pytest.mark.parametrize("stage", ["adapt", "finetune"])
@pytest.mark.parametrize("folder", ["metrics", "bundle", "imaging/reading", "stages/calibrate", "stages/report"])
def test_code_that_a_training_does_not_depend_on_leaves_its_hash(stage, folder, code):
    before, files = code_of(stage), sorted((code / "pipeline" / folder).rglob("*.py"))
    for file in files:
        flip(file)
    assert files and code_of(stage) == before


def test_shared_plumbing_is_no_part_of_the_hash_as_dvc_does_not_watch_it(code):
    assert not any(changed_by("adapt", code / "pipeline" / name) for name in ("paths.py", "runtime.py", "cache.py"))


def test_a_new_file_counts_below_a_folder_and_bytecode_does_not(code):
    before, folder = code_of("cohort"), code / "pipeline" / "imaging" / "reading"
    (folder / "__pycache__").mkdir(exist_ok=True)
    (folder / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert code_of("cohort") == before
    (folder / "table.json").write_text("{}")
    assert code_of("cohort") != before


def test_a_renamed_file_changes_the_hash(code):
    before, folder = code_of("cohort"), code / "pipeline" / "imaging" / "reading"
    (folder / "nifti.py").rename(folder / "renamed.py")
    assert code_of("cohort") != before


def test_what_is_left_out_does_not_change_the_hash(code):
    file, how = code / "pipeline" / "metrics" / "bands.py", {"without": ("pipeline/metrics",)}
    assert changed_by("evidence", file) and not changed_by("evidence", file, **how)
    assert changed_by("evidence", code / "pipeline" / "stages" / "evidence" / "experiments" / "trainings.py", **how)


def test_code_that_dvc_yaml_lists_and_is_not_there_is_refused_by_name(code):
    (code / "pipeline" / "metrics" / "grouped_folds.py").unlink()
    with pytest.raises(UserError, match="split depends on pipeline/metrics/grouped_folds.py"):
        code_of("split")


def test_the_list_is_that_of_the_project_in_the_current_folder(code):
    before = code_of("split")
    stages = yaml.safe_load(Path("dvc.yaml").read_text())
    stages["stages"]["split"]["deps"].append("pipeline/seeds.py")
    Path("dvc.yaml").write_text(yaml.safe_dump(stages))
    assert code_of("split") != before


@pytest.mark.parametrize("change", ["code", "content", "name", "setting"])
def test_a_fingerprint_tells_code_files_and_settings_apart(change, tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("1")
    before = cache.fingerprint("code", [file], 0, {"rate": 0.1})
    assert cache.fingerprint("code", [file], 0, {"rate": 0.1}) == before
    if change == "content":
        file.write_text("2")
    if change == "name":
        shutil.copy(file, file := tmp_path / "b.csv")
    given = "other" if change == "code" else "code", [file], 0, {"rate": 0.2 if change == "setting" else 0.1}
    assert cache.fingerprint(*given) != before


@pytest.mark.parametrize("change", ["code", "file", "setting"])
def test_the_key_of_a_case_tells_code_file_and_settings_apart(change, tmp_path):
    file = tmp_path / "scan.png"
    file.write_bytes(b"1")
    before = cache.key_of(file, "code", "case", 3)
    if change == "file":
        file.write_bytes(b"12")
    key = cache.key_of(file, "other" if change == "code" else "code", "case", 4 if change == "setting" else 3)
    assert key != before


def store(number):
    return {"number": number}, {"channels": np.full((2, 3), number, np.uint8), "mask": np.ones(number, np.bool_)}


def found(results):
    """Values and arrays of every case."""
    arrays = [{name: np.load(io.BytesIO(results.array(number, name))) for name in ARRAYS} for number in range(3)]
    return list(results), [{name: array.tolist() for name, array in one.items()} for one in arrays]


def cached(function=store):
    return cache.map_cases_once(function, [1, 2, 3], ["a", "b", "c"], "audit")


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """The results of three cases that were computed by two workers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDADAPT_BACKEND", "threading")
    monkeypatch.setenv("MEDADAPT_WORKERS", "2")
    return found(cached())


def refused(number):
    raise AssertionError(f"{number} is computed")


def test_cached_results_are_those_that_were_computed(stored, caplog):
    assert stored[0] == [{"number": number} for number in (1, 2, 3)]
    assert stored[1][1] == {"channels": [[2, 2, 2], [2, 2, 2]], "mask": [True, True]}
    assert found(cached(refused)) == stored and not caplog.text


def test_a_damaged_entry_is_told_dropped_and_computed_again(stored, caplog):
    for at in range(0, HEADER.size + 300, 11):
        file = min(Path("data/scratch/audit").iterdir())
        flip_bit(file, at)
        caplog.clear()
        assert found(cached()) == stored
        assert at < HEADER.size + 1 or "an entry is damaged; it is computed again" in caplog.text
        caplog.clear()
        assert found(cached(refused)) == stored and not caplog.text


def test_after_a_kill_only_what_is_incomplete_is_computed_again(stored):
    last = max(Path("data/scratch/audit").iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(last, last.stat().st_size - 1)
    again = []
    assert found(cached(lambda number: (again.append(number), store(number))[1])) == stored
    assert len(again) == 1 and found(cached(refused)) == stored


def test_entries_of_cases_that_are_gone_leave_the_disk(stored):
    cache.map_cases_once(store, [1], ["a"], "audit")
    assert names_in(Path("data/scratch/audit")) == {"a"}
    assert sum(file.stat().st_size for file in Path("data/scratch/audit").iterdir()) < 700


def test_folders_that_earlier_versions_left_in_the_cache_are_removed(stored):
    Path("data/scratch/audit/0").mkdir()
    Path("data/scratch/audit/0/result.json").write_text("{}")
    assert found(cached(refused)) == stored and not Path("data/scratch/audit/0").exists()
