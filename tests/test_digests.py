"""What a stage reads is what an earlier stage wrote: by content, as DVC recorded it, whatever size and time say."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline import digests
from pipeline.errors import UserError
from pipeline.lock_file import LOCK
from tests.conftest import dvc, flip_bit

WRITE = (
    "import os; os.makedirs('data/prepared/cases', exist_ok=True); "
    "[open(f'data/prepared/cases/{n}.npy', 'wb').write(bytes(1000)) for n in range(3)]; "
    "open('data/prepared/index.csv', 'w').write('case')"
)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A project of which DVC ran the first stage."""
    monkeypatch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("template")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(folder / "site"))
    Path("data").mkdir()
    stages = {
        "preprocess": {"cmd": f'{sys.executable} -c "{WRITE}"', "outs": ["data/prepared"]},
        "finetune": {"cmd": "true", "deps": ["data/prepared"]},
        "split": {"cmd": "true", "deps": ["data/prepared/index.csv"]},
    }
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    dvc("init", "--no-scm")
    dvc("repro", "preprocess")
    monkeypatch.undo()
    return folder


@pytest.fixture
def written(template, tmp_path, monkeypatch):
    """A copy of that project; a later stage asks about its inputs as it does when DVC starts it."""
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("DVC_STAGE", "finetune@0")
    return Path("data/prepared/cases/1.npy")


def test_what_a_stage_wrote_is_taken_and_its_hash_is_that_of_dvc(written):
    digests.check_inputs("finetune")
    [out] = yaml.safe_load(LOCK.read_text())["stages"]["preprocess"]["outs"]
    assert digests.hash_of(Path("data/prepared")) == out["md5"]


def test_a_flipped_bit_is_refused_with_the_file_the_stage_and_the_cure(written):
    flip_bit(written, 500)
    with pytest.raises(UserError, match=r"data/prepared/cases/1.npy: .* preprocess wrote .*`medadapt repair`"):
        digests.check_inputs("finetune")


def test_a_flipped_bit_is_refused_where_the_cache_is_gone_or_rotten(written):
    flip_bit(written, 500)
    for listing in Path(".dvc/cache").rglob("*.dir"):
        flip_bit(listing, 500)
    with pytest.raises(UserError, match="data/prepared: "):
        digests.check_inputs("finetune")
    shutil.rmtree(".dvc/cache")
    with pytest.raises(UserError, match="data/prepared: "):
        digests.check_inputs("finetune")


def test_a_stage_checks_only_the_files_that_it_reads(written):
    flip_bit(written, 500)
    digests.check_inputs("split")


def test_a_rotten_file_that_dvc_brings_back_is_refused(written):
    for file in (Path(".dvc/cache") / "files").rglob("*"):
        if file.is_file() and file.stat().st_size == 1000:
            flip_bit(file, 500)
    shutil.rmtree("data/prepared")
    dvc("checkout")
    with pytest.raises(UserError, match="content is not what preprocess wrote"):
        digests.check_inputs("finetune")


def test_a_stage_begun_by_hand_reads_what_others_wrote_by_hand(written, monkeypatch):
    monkeypatch.delenv("DVC_STAGE")
    digests.check_inputs("finetune")
    flip_bit(written, 500)
    os.utime(written, (time.time() + 5, time.time() + 5))
    digests.check_inputs("finetune")
    os.utime(written, (time.time() - 500, time.time() - 500))
    with pytest.raises(UserError, match=r"1.npy"):
        digests.check_inputs("finetune")


def test_without_a_record_of_dvc_nothing_is_refused(written):
    LOCK.unlink()
    flip_bit(written, 500)
    digests.check_inputs("finetune")
