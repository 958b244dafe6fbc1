import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline import runtime
from pipeline.errors import UserError
from tests.conftest import ROOT


def double(number):
    return 2 * number


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_results_come_in_the_order_of_the_cases_under_every_backend(monkeypatch, backend):
    monkeypatch.setenv("MEDADAPT_BACKEND", backend)
    monkeypatch.setenv("MEDADAPT_WORKERS", "2")
    assert runtime.map_cases(double, range(20), "double") == [2 * number for number in range(20)]
    assert runtime.map_cases(double, [], "double") == []


def folders_of(numbers):
    return [(Path.cwd().name, number) for number in numbers]


def test_a_task_takes_many_cases_and_works_in_the_folder_of_the_project(monkeypatch, tmp_path):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)
    assert runtime.in_folder(tmp_path / "project", folders_of, [3, 4]) == [("project", 3), ("project", 4)]
    with pytest.raises(UserError, match=r"a worker on .* does not see .*absent .*share under one path"):
        runtime.in_folder(tmp_path / "absent", folders_of, [3])
    taken = []
    monkeypatch.setattr(runtime, "in_folder", lambda folder, function, items: taken.append(len(items)) or items)
    monkeypatch.setenv("MEDADAPT_BACKEND", "threading")
    for workers, cases in ((2, 12), (2, 100), (2, 100_000)):
        monkeypatch.setenv("MEDADAPT_WORKERS", str(workers))
        taken.clear()
        assert runtime.map_cases(double, range(cases), "double") == list(range(cases))
        assert max(taken) == min(max(cases // (8 * workers), 1), 256) and sum(taken) == cases


def test_workers_and_keys_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MEDADAPT_WORKERS", "3")
    monkeypatch.setenv("MEDADAPT_KEYS", str(tmp_path))
    assert runtime.workers() == 3 and runtime.keys_folder() == tmp_path
    monkeypatch.delenv("MEDADAPT_WORKERS")
    assert runtime.workers() >= 1


def test_items_drawn_ahead_come_in_their_order_and_errors_come_through():
    assert list(runtime.prefetch(iter(range(50)))) == list(range(50))
    assert list(runtime.prefetch([])) == []

    def corrupted():
        yield 1
        raise ValueError("corrupted")

    with pytest.raises(ValueError, match="corrupted"):
        list(runtime.prefetch(corrupted()))


def test_the_next_item_is_drawn_while_the_present_one_is_used():
    drawn = threading.Event()

    def items():
        yield 1
        drawn.set()
        yield 2

    for item in runtime.prefetch(items()):
        assert item == 2 or drawn.wait(10)


def test_prefetched_passes_are_right_in_any_order_and_after_a_break():
    give = runtime.prefetch_passes(lambda number: [(number, item) for item in range(number)])
    for number in (2, 3, 0, 1, 2, 5, 2):
        assert list(give(number)) == [(number, item) for item in range(number)]
    assert next(give(3)) == (3, 0)
    assert list(give(3)) == [(3, item) for item in range(3)]
    assert next(give(4)) == (4, 0)
    assert list(give(5)) == [(5, item) for item in range(5)]


def test_a_pass_begins_to_be_drawn_when_the_one_before_it_ends():
    begun = threading.Event()

    def draw(number):
        if number == 1:
            begun.set()
        yield number

    give = runtime.prefetch_passes(draw)
    assert list(give(0)) == [0]
    assert begun.wait(10)
    assert list(give(1)) == [1]


def test_an_error_in_a_pass_comes_through():
    def draw(number):
        yield number
        raise ValueError(f"corrupted {number}")

    give = runtime.prefetch_passes(draw)
    with pytest.raises(ValueError, match="corrupted 3"):
        list(give(3))


@pytest.mark.parametrize("cure", ["git init -q", "dvc config core.no_scm true"])
def test_where_dvc_fails_without_git_the_error_says_what_to_call(cure, tmp_path, monkeypatch):
    """Each command that the error names makes DVC work."""
    (tmp_path / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", tmp_path / ".dvc")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match=r"call `git init`, or `dvc config core.no_scm true` to do without"):
        runtime.dvc("status")
    subprocess.run([sys.executable, "-m", *cure.split()] if cure.startswith("dvc") else cure.split(), check=True)
    assert "no data or pipelines tracked" in runtime.dvc("status")
