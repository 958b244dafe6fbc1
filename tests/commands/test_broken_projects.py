"""Stages and commands of a project over broken files of its user: an error that names the file, never a traceback.

`test_broken_inputs.py` has the commands that read scans, tables and bundles.
"""

import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image

from pipeline import paths
from pipeline.__main__ import COMMANDS, PER_FOLD, STAGES, main
from pipeline.errors import UserError
from pipeline.stages.calibrate.openings import read_openings
from tests.commands.broken import CONTENTS, fails_with_a_reason
from tests.conftest import ROOT
from tests.stages.by_hand import predict_two_classes
from tests.stages.conftest import project  # noqa: F401 - a fixture

ELSEWHERE = {"predict", "listen", "serve", "verify", "monitor", "package"}  # commands without a project
WORDS = {
    "import": ["csv", "x.csv", "--into", "raw", "--use"],
    "plan": [],
    "run": ["data"],
    "encoders": [],
    "folds": ["--launcher", "dummy"],
    "status": [],
    "repair": [],
    "show": [],
    "compare": ["workspace", "c"],
    "whois": ["case-1"],
}
YAML = {
    "bytes": CONTENTS["bytes"],
    "latin-1": "cohort: {path: K\xf6ln}".encode("latin-1"),
    "deep": b"[" * 500,
    "number": b"3",
    "list": b"- 1",
    "no date": b"cohort: {path: 2026-99-99}",
    "no time": b"cohort: !!timestamp x",
    "no truth": b"cohort: !!bool x",
    "keys": b"{1: 2, null: {}}",
    "sections": b"{cohort: 3, release: [], split: null}",
}
DAMAGED = ("nothing", "bytes", "deep")


def words_of(name):
    return [name, *(["--fold", "0"] if name in PER_FOLD else WORDS.get(name, []))]


def fail(capsys, *names):
    for name in names:
        fails_with_a_reason(words_of(name), capsys)


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A folder with dvc.yaml, a cohort of two images and a table to import."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDADAPT_BACKEND", "threading")
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    (tmp_path / "c").mkdir()
    for number in range(2):
        Image.new("L", (4, 4)).save(tmp_path / "c" / f"{number}.png")
    (tmp_path / "c" / "cohort.csv").write_text("case_id,image,label\n1,0.png,a\n2,1.png,b\n")
    (tmp_path / "x.csv").write_text("image,label\nc/0.png,a\nc/1.png,b\n")
    (tmp_path / "params.yaml").write_text("cohort: {path: c}\n")
    return tmp_path


def test_every_command_is_run_over_broken_files():
    assert {*WORDS, *ELSEWHERE} == set(COMMANDS)


@pytest.mark.parametrize("content", YAML.values(), ids=YAML)
def test_params_of_anything_end_with_a_reason(bare, capsys, content):
    (bare / "params.yaml").write_bytes(content)
    fail(capsys, *STAGES, *WORDS)
    assert not (bare / "raw").exists()


@pytest.mark.parametrize("content", [*YAML.values(), b"stages: 3", b"stages: {cohort: 3}", b""])
def test_a_dvc_yaml_of_anything_ends_with_a_reason(bare, capsys, content):
    (bare / "dvc.yaml").write_bytes(content)
    fail(capsys, *STAGES)


@pytest.mark.parametrize("name", ["cohort.yaml", "card.yaml", "recipe.yaml"])
def test_texts_beside_a_cohort_of_anything_end_with_a_reason(bare, capsys, name):
    for content in YAML.values():
        (bare / "c" / name).write_bytes(content)
        fail(capsys, "cohort", "plan")
    (bare / "c" / name).unlink()
    (bare / "c" / name).mkdir()
    if name != "recipe.yaml":  # a folder of that name is no recipe
        assert main(["cohort"]) == 1 and str(Path("c", name)) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["names.csv", "cohort.json", "salt"])
def test_a_damaged_key_folder_ends_with_a_reason(project, private_keys, capsys, name):  # noqa: F811
    project()
    assert main(["cohort"]) == 0
    (folder,) = {file.parent for file in private_keys.rglob("names.csv")}
    for content in DAMAGED:
        (folder / name).write_bytes(CONTENTS[content])
        fail(capsys, "whois")
        assert main(["cohort"]) == 1 and str(folder / name) in capsys.readouterr().err


def test_damaged_outputs_end_stages_and_commands_with_a_reason(project, capsys):  # noqa: F811
    predict_two_classes(project, ["0", "1", "2", "final"])
    assert main(["calibrate"]) == 0
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    deps = {name: declared[name]["deps"] for name in ("preprocess", "split", "calibrate", "report")}
    deps |= {"compare": [str(paths.PREDICTIONS), str(paths.COHORT_FACTS)], "show": [str(paths.STAMPS)]}
    refused = 0
    for name, files in deps.items():
        for file in (Path(one) for one in files if one.startswith("data/") and Path(one).is_file()):
            kept = file.read_bytes()
            for content in DAMAGED[: 2 if file.suffix == ".csv" else 3]:  # brackets are a sound csv table
                file.write_bytes(CONTENTS[content])
                refused += main(words_of(name))  # 0 if it needs the file in other settings only
            file.write_bytes(kept)
    assert "Traceback" not in capsys.readouterr().err and refused > 20


@pytest.mark.parametrize("content", [*DAMAGED, "numbers"])
def test_a_damaged_list_of_openings_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "openings.csv").write_bytes(CONTENTS[content])
    with pytest.raises(UserError, match=r"openings.csv (is damaged|lacks the column)"):
        read_openings(tmp_path / "openings.csv")
