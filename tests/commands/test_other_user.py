"""A bundle in the hands of a user who did not release it, and files that this user may not read."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.bundle.layout import REFERENCE, WEIGHTS
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.monitoring_reference import reference_of
from pipeline.stages.release.archive import let_others_read
from tests.bundle.bundles import CLASSES
from tests.bundle.releases import released
from tests.conftest import save_nifti
from tests.other_user import another_user, public  # noqa: F401 - a fixture


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A bundle written under a umask that keeps everything private."""
    before = os.umask(0o077)
    folder = released(tmp_path_factory.mktemp("private") / "model")
    table = pd.DataFrame({"patient": range(4), "ood_score": [0.0, 0.1, 0.2, 0.3]})
    known = table.assign(**{f"probability_{number}": 1 / 3 for number in range(3)})
    (folder / REFERENCE).parent.mkdir()
    (folder / REFERENCE).write_text(json.dumps(reference_of(known, known["patient"].to_numpy() % 3, CLASSES, 4, 0)))
    write_manifest(folder, {})
    os.umask(before)
    return folder


@pytest.fixture
def bundle(private, public):  # noqa: F811
    """The private bundle, released."""
    folder = Path(shutil.copytree(private, public / "model"))
    let_others_read(folder)
    return folder


def shared(path):
    path.chmod(0o755 if path.is_dir() else 0o644)
    return path


@pytest.fixture
def scan(public, asymmetric):  # noqa: F811
    return shared(save_nifti(public / "scan.nii.gz", asymmetric))


def as_another(capsys, *words):
    """Run a command as another user: its exit code and what it printed."""
    capsys.readouterr()
    with another_user():
        code = main(list(map(str, words)))
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_another_user_verifies_predicts_and_monitors(bundle, scan, public, capsys, form):  # noqa: F811
    if form == "zip":
        bundle = shared(public / shutil.make_archive(str(public / "model"), "zip", bundle))
    out = public / "out"
    out.mkdir()
    out.chmod(0o777)
    assert as_another(capsys, "verify", bundle)[0] == 0
    assert as_another(capsys, "predict", bundle, scan, "--out", out / "results.csv")[0] == 0
    assert as_another(capsys, "monitor", bundle, out / "results.csv")[0] == 0


def test_every_file_of_a_release_has_the_same_open_mode(bundle):
    assert {oct(path.stat().st_mode & 0o777) for path in bundle.rglob("*") if path.is_file()} == {"0o644"}
    assert {oct(path.stat().st_mode & 0o777) for path in (bundle, *bundle.rglob("*")) if path.is_dir()} == {"0o755"}


@pytest.mark.parametrize("name", [str(WEIGHTS), "MANIFEST.json", "models", "configs", "zip", "."])
@pytest.mark.parametrize("command", ["verify", "predict", "monitor"])
def test_a_locked_bundle_is_not_called_changed(bundle, scan, public, capsys, name, command):  # noqa: F811
    if name == "zip":
        bundle = shared(public / shutil.make_archive(str(public / "model"), "zip", bundle))
    (bundle if name in ("zip", ".") else bundle / name).chmod(0)
    code, out, err = as_another(capsys, command, bundle, *([scan] if command != "verify" else []))
    assert code == 1 and "cannot be read (permission denied); ask its owner for read access" in err
    assert not any(word in out + err for word in ("changed", "missing", "released", "not part of", "FAILED"))


def test_a_bundle_that_is_missing_or_below_a_file_is_told_in_a_sentence(scan, capsys):
    for path in (scan.with_name("gone"), scan / "inside"):
        for words in (["verify", path], ["predict", path, scan], ["monitor", path, scan]):
            code, _, err = as_another(capsys, *words)
            assert code == 1 and ("check the path" in err) and err.count("\n") == 1


def test_a_locked_scan_is_one_line_among_the_others(bundle, scan, public, capsys):  # noqa: F811
    inbox = shared_folder(public / "inbox")
    for name in ("a", "b", "deep/c", "locked/d"):
        shared_folder((inbox / name).parent)
        shared(shutil.copy(scan, inbox / f"{name}.nii.gz") and inbox / f"{name}.nii.gz")
    (inbox / "b.nii.gz").chmod(0)
    (inbox / "locked").chmod(0)
    code, out, _ = as_another(capsys, "predict", bundle, inbox)
    assert code == 0 and "scans: 4" in out
    assert out.count("it cannot be read (permission denied)") == 2


def shared_folder(folder):
    folder.mkdir(exist_ok=True, parents=True)
    return shared(folder)


def test_locked_inputs_are_named_with_their_option(bundle, scan, public, capsys):  # noqa: F811
    locked = public / "locked"
    locked.mkdir()
    locked.chmod(0)
    table = public / "table.csv"
    table.write_text("scan,label\nscan.nii.gz,a\n")
    table.chmod(0)
    predict = ["predict", bundle, scan]
    for words, named in [
        (["predict", bundle, locked], f"{locked} cannot be read"),
        (["predict", bundle, table], f"{table} cannot be read"),
        ([*predict, "--calibration", table], f"--calibration: {table} cannot be read"),
        (["predict", bundle, "--site-recalibrate", table, "--out", "/tmp/x"], f"{table} cannot be read"),
        (["verify", bundle, "--allowed-signers", table], f"--allowed-signers: {table} cannot be read"),
        (["monitor", bundle, table], f"{table} cannot be read"),
    ]:
        code, _, err = as_another(capsys, *words)
        assert code == 1 and f"{named} (permission denied)" in err and err.count("\n") == 1, words


def test_outputs_that_cannot_be_written_are_refused_before_the_work(bundle, scan, public, capsys):  # noqa: F811
    locked = public / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    for option, path in (("--out", locked / "x.csv"), ("--saliency", locked), ("--saliency", locked / "maps")):
        code, out, err = as_another(capsys, "predict", bundle, scan, option, path)
        assert code == 1 and err.startswith(f"error: {option}: {path} cannot be")
        assert "scans: " not in out
