"""What holds original names is readable by its owner only, and stands in the project or the key folder."""

from pathlib import Path

from pipeline import runtime
from pipeline.__main__ import main
from pipeline.private import STATE_OF_DVC
from tests.conftest import ROOT


def mode(path):
    return path.stat().st_mode & 0o777


def test_the_state_of_dvc_is_kept_in_the_project_for_its_owner(tmp_path, monkeypatch):
    assert f"site_cache_dir = {STATE_OF_DVC}/" in (ROOT / ".dvc" / "config").read_text()
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    STATE_OF_DVC.mkdir(mode=0o755)
    main(["show"])
    assert mode(STATE_OF_DVC) == 0o700


def test_the_usual_key_folder_is_closed_to_others(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MEDADAPT_KEYS")
    (tmp_path / ".medadapt").mkdir(mode=0o755)
    assert mode(runtime.keys_folder()) == 0o700
