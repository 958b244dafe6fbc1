"""Which stages run on this machine."""

import json
import os
import subprocess
import sys

import pytest

from pipeline.commands.running import being_written, job_of


@pytest.mark.parametrize(
    ("words", "job"),
    [
        (["python", "-m", "pipeline", "finetune", "--fold", "final"], ("finetune", "final")),
        (["python", "-u", "-m", "pipeline", "split"], ("split", "")),
        (["python", "-m", "pipeline", "adapt", "--verbose", "--fold=0"], ("adapt", "0")),
        (["/venv/bin/python", "/venv/bin/medadapt", "adapt", "--fold", "0", "--verbose"], ("adapt", "0")),
        (["medadapt", "split"], ("split", "")),
        (["vim", "-R", "medadapt", "split"], None),
        (["medadapt"], None),
        (["python", "-m", "pipeline"], None),
        (["sh", "-c", "python -m pipeline split"], None),
        ([], None),
    ],
)
def test_a_stage_is_known_by_the_words_of_its_process(words, job):
    assert job_of(words) == job


def test_a_lock_of_a_process_that_is_gone_counts_for_nothing(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = tmp_path / "rwlock"
    lock.write_text(json.dumps({"write": {"/a": {"pid": gone.pid, "cmd": ""}, "/b": {"pid": os.getpid(), "cmd": ""}}}))
    assert being_written(lock) == {"/b"}
    lock.write_text("{")
    assert being_written(lock) == set() == being_written(tmp_path / "none")
