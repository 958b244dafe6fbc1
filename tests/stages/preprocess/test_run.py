"""cohort, preprocess and split on awkward cohorts: what is refused, redone, found twice, and what never leaks."""

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset

from pipeline import cache, paths, runtime
from pipeline.__main__ import main
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.preparation import deface
from pipeline.imaging.preparation.fingerprint import voxel_hash
from pipeline.imaging.preparation.preprocessor import Preprocessor
from pipeline.imaging.preparation.region import MaskUse
from pipeline.stages.preprocess.histogram import histogram_of
from pipeline.stages.preprocess.run import prepare_case
from tests.conftest import ROOT, save_nifti
from tests.imaging.phantoms import save_series
from tests.stages.clinic import RAW, cohort, with_copy
from tests.stages.running import FOLDS, refusal, run, run_all
from tests.stages.stored import names_in, prepared_bytes

CANARY = "CANARY"


def entries():
    """Name the cached results of each stage."""
    return {name: names_in(paths.SCRATCH / name) for name in ("audit", "preprocess")}


def test_a_new_case_costs_one_case_and_a_changed_parameter_all(project, monkeypatch):
    root, computed, plain = project(), [], runtime.map_batches
    run("cohort", "preprocess")
    before = entries()

    def counting(function, items, doing):
        computed.append((doing, len(items)))
        return plain(function, items, doing)

    monkeypatch.setattr(runtime, "map_batches", counting)
    image = np.asarray(Image.open(root / RAW / "Doe_00_0.png"))[::-1]
    Image.fromarray(image).save(root / RAW / "new.png")
    with_copy(root, "Doe_00_0.png", "new.png", patient_id="new")
    run("cohort", "preprocess")
    after = entries()
    assert all(len(after[name]) == len(before[name]) + 1 and before[name] <= after[name] for name in before)
    assert computed == [("audit", 1), ("preprocess", 1)]
    project(preprocess__fit="stretch")
    run("cohort", "preprocess")
    redone = entries()
    assert len(redone["preprocess"]) == len(after["preprocess"]) and not redone["preprocess"] & after["preprocess"]
    assert redone["audit"] == after["audit"]


@pytest.mark.parametrize(
    ("file", "anew"),
    [
        ("stages/cohort/run.py", {"audit"}),
        ("stages/preprocess/run.py", {"preprocess"}),
        ("imaging/preparation/fingerprint.py", {"preprocess"}),
        ("stages/cohort/audit.py", {"audit"}),
        ("imaging/reading/images.py", {"audit", "preprocess"}),
        ("learning/training/loop.py", set()),
        ("imaging/augmentation/per_case.py", set()),
    ],
)
def test_changed_code_recomputes_the_cases_of_its_stage_alone(project, code, file, anew):
    project()
    run("cohort", "preprocess")
    before = entries()
    source = code / "pipeline" / file
    source.write_text(source.read_text() + "# changed\n")
    cache.code_of.cache_clear()
    run("cohort", "preprocess")
    after = entries()
    assert {name for name in before if not before[name] & after[name]} == anew
    assert all(before[name] == after[name] for name in before if name not in anew)


def test_changed_file_is_prepared_again_as_in_a_fresh_run(project):
    root = project()
    run("cohort", "preprocess")
    Image.fromarray(np.asarray(Image.open(root / RAW / "Doe_00_0.png"))[:, ::-1]).save(root / RAW / "Doe_00_0.png")
    run("cohort", "preprocess")
    patched = prepared_bytes()
    shutil.rmtree(paths.SCRATCH)
    run("cohort", "preprocess")
    assert prepared_bytes() == patched


def test_a_kill_amid_the_cases_loses_none_that_was_complete(project, monkeypatch):
    project()
    run("cohort", "preprocess")
    before, folder = prepared_bytes(), paths.SCRATCH / "preprocess"
    for former in (folder, paths.PREPARED):
        shutil.rmtree(former)
    place = {**os.environ, "PYTHONPATH": str(ROOT), "MEDADAPT_BACKEND": "loky", "MEDADAPT_WORKERS": "2"}
    words = [sys.executable, "-m", "pipeline", "preprocess"]
    with subprocess.Popen(words, env=place, start_new_session=True, stderr=subprocess.DEVNULL) as killed:
        while killed.poll() is None and not (folder.exists() and names_in(folder)):
            time.sleep(0.01)
        os.killpg(killed.pid, signal.SIGKILL)
    complete, computed = names_in(folder), []
    assert complete and not paths.PREPARED.exists()
    plain = runtime.map_batches
    monkeypatch.setattr(runtime, "map_batches", lambda *how: (computed.extend(how[1]), plain(*how))[1])
    run("preprocess")
    assert len(computed) == len(names_in(folder)) - len(complete) and prepared_bytes() == before


@pytest.mark.parametrize("backend", ["loky", "dask", "ray"])
def test_every_backend_prepares_the_bytes_that_threads_prepare(project, monkeypatch, backend):
    project()
    run("cohort", "preprocess")
    before = prepared_bytes()
    shutil.rmtree(paths.SCRATCH)
    monkeypatch.setenv("MEDADAPT_BACKEND", backend)
    monkeypatch.setenv("MEDADAPT_WORKERS", "2")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run("preprocess")
    assert prepared_bytes() == before


DASK = """
if __name__ == "__main__":
    from dask.distributed import LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        print(cluster.scheduler_address, flush=True)
        input()
"""


def test_dask_workers_in_another_folder_prepare_the_same_bytes(project, monkeypatch, tmp_path):
    pytest.importorskip("distributed")
    project()
    run("cohort", "preprocess")
    before = prepared_bytes()
    shutil.rmtree(paths.SCRATCH)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "start.py").write_text(DASK)
    words, place = [sys.executable, "start.py"], {**os.environ, "PYTHONPATH": str(ROOT)}
    piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, cwd=elsewhere, env=place, **piped) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.stdout.readline().strip())
        monkeypatch.setenv("MEDADAPT_BACKEND", "dask")
        run("preprocess")
        cluster.communicate("\n")
    assert prepared_bytes() == before
    assert [file.name for file in elsewhere.iterdir()] == ["start.py"]


def test_an_unknown_backend_is_refused_with_the_known_ones(project, monkeypatch, capsys):
    project()
    monkeypatch.setenv("MEDADAPT_BACKEND", "abacus")
    assert "loky, threading, dask, ray or slurm" in refusal(capsys, "cohort")


def test_findings_are_in_one_table_and_every_case_is_prepared_or_refused(project, capsys):
    root = project()
    (root / RAW / "Doe_04_0.png").write_bytes(b"broken")
    Image.fromarray(np.full((40, 48), 7, dtype=np.uint8)).save(root / RAW / "Doe_05_0.png")
    (root / RAW / "Doe_07_0.png").unlink()
    cohort(root, lambda table: table.assign(label=table["label"].where(table["case_id"] != "Doe_10_0.png", "odd")))
    with_copy(root, "Doe_01_0.png", "Doe_01_0.png")
    run("cohort")
    printed = capsys.readouterr().out
    for name, check in (("04", "unreadable"), ("05", "constant"), ("07", "missing")):
        assert re.search(rf"refused   1  {check}: .*: Doe_{name}_0.png\n", printed)
    assert "refused   2  case id twice: 2 rows have this case_id: Doe_01_0.png, Doe_01_0.png\n" in printed
    assert re.search(r"excluded  1  label: 'odd' .*cohort.classes decides\): Doe_10_0.png\n", printed)
    run("preprocess", "split")
    facts = paths.read_json(paths.COHORT_FACTS)
    assert (facts["cases_refused"], facts["cases_excluded"]) == (5, 1)
    assert facts["cases_in"] == 6 + len(pd.read_csv(paths.INDEX)) == 6 + len(pd.read_csv(paths.split("final")))


def test_duplicate_across_the_test_boundary_fails_until_acknowledged(project, capsys):
    root = project()
    pixels = Image.open(root / RAW / "Doe_00_0.png")
    pixels.save(root / RAW / "again.tif")  # another container, the same pixels
    with_copy(root, "Doe_00_0.png", "again.tif", patient_id="somebody else", split="test", site="outside")
    run("cohort", "preprocess")
    message = refusal(capsys, "split")
    assert "train/test boundary" in message and "labels same" in message and "Doe" not in message
    case = re.search(r"case-\w+", message).group()
    project(split__allow_leaks=[case])
    run("split")
    assert case in paths.read_json(paths.SPLIT_SUMMARY)["acknowledged_leaks"]
    for fold in FOLDS:
        run(f"adapt --fold {fold}", f"finetune --fold {fold}")
    run("calibrate", "release", "report")
    page = paths.REPORT.read_text()
    assert "Leaky test set" in page and "exact duplicate" in page


def test_duplicate_with_another_label_fails_and_names_both_cases(project, capsys):
    root = project()
    Image.open(root / RAW / "Doe_00_0.png").save(root / RAW / "flipped.png", compress_level=1)
    with_copy(root, "Doe_00_0.png", "flipped.png", patient_id="somebody else", label="ill")  # the first is well
    run("cohort", "preprocess")
    message = refusal(capsys, "split")
    assert "labels contradict" in message and len(set(re.findall(r"case-\w+", message))) >= 2


def test_people_who_share_an_image_are_assigned_to_the_same_fold(project):
    root = project()
    for number in ("00", "01", "03"):
        shutil.copy(root / RAW / f"Doe_{number}_0.png", root / RAW / f"copy_{number}.png")
        with_copy(root, f"Doe_{number}_0.png", f"copy_{number}.png", patient_id=f"twin of {number}")
    run("cohort", "preprocess", "split")
    copies = pd.read_csv(paths.DUPLICATES)
    exact = copies[copies["check"] == "exact duplicate"]
    assert len(exact) == 3 and set(exact["across"]) == {"patients"}
    for fold in FOLDS:
        roles = pd.read_csv(paths.split(fold)).set_index("case")["role"]
        for pair in exact.itertuples():
            assert roles[pair.case] == roles[pair.other]


def test_the_report_says_what_was_found_and_what_a_shortcut_would_give(project):
    root = project()
    (root / RAW / "Doe_04_0.png").write_bytes(b"broken")
    run_all()
    page = paths.REPORT.read_text()
    facts = paths.read_json(paths.COHORT_FACTS)
    assert f"{facts['cases_in']} images = {facts['cases_in'] - 1} prepared + 1 refused" in page
    assert "sees only grey values" in page and "sees only the site" in page
    assert "none: repair the file" in page


def fill_with_canaries(fields, depth=0):
    """Put the canary into every kind of text that DICOM has, nested and private ones too."""
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "AccessionNumber",
                    "InstitutionName", "ReferringPhysicianName", "StudyDescription", "SeriesDescription",
                    "PatientComments", "ImageComments", "StationName", "OperatorsName", "StudyID", "ProtocolName",
                    "OtherPatientIDs", "PatientAddress", "DeviceSerialNumber", "EthnicGroup"):  # fmt: skip
        setattr(fields, keyword, CANARY)
    fields.private_block(0x0029, "CANARY PRIVATE", create=True).add_new(0x01, "LO", CANARY)
    if depth == 0:
        nested = Dataset()
        fill_with_canaries(nested, 1)
        fields.RequestAttributesSequence = [nested]


def write_canary_volumes(root):
    """Twelve NIfTI files and twelve DICOM series, each with the canary wherever text can stand."""
    rng = np.random.default_rng(0)
    folder = root / RAW
    shutil.rmtree(folder)
    rows = []
    for number in range(24):
        volume = rng.integers(0, 60, (12, 12, 8)).astype(np.int16)
        ill = number // 2 % 2
        volume[4:8, 4:8, 2:6] += 150 * ill
        name = f"{CANARY}_{number}"
        if number % 2:
            image = nib.Nifti1Image(volume, np.eye(4))
            for field in ("descrip", "aux_file", "db_name", "intent_name"):
                image.header[field] = CANARY
            image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", CANARY.encode()))
            path = folder / name / f"{name}.nii.gz"
            path.parent.mkdir(parents=True)
            with open(path, "wb") as raw, gzip.GzipFile(f"{CANARY}.nii", "wb", fileobj=raw) as stream:
                stream.write(image.to_bytes())
        else:
            path = save_series(folder / name, volume, SeriesInstanceUID=f"1.2.{number}")
            for file in path.iterdir():
                fields = pydicom.dcmread(file)
                fill_with_canaries(fields)
                fields.save_as(path / f"{CANARY}_{file.name}")
                file.unlink()
        row = (name, f"{CANARY} {number}", str(path.relative_to(folder)), "ill" if ill else "well", "s", "")
        rows.append((*row, f"{CANARY} note"))
    columns = ["case_id", "patient_id", "image", "label", "site", "split", "comment"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "cohort.csv", index=False)


def write_canary_images(root):
    for file in (root / RAW).glob("*.png"):
        text = PngInfo()
        text.add_text("Comment", CANARY)
        exif = Image.Exif()
        exif[270], exif[315] = CANARY, CANARY
        Image.open(file).save(file, pnginfo=text, exif=exif)


@pytest.mark.parametrize("write", [write_canary_volumes, write_canary_images])
def test_no_text_of_a_scan_reaches_anything_that_leaves_the_cohort(project, write, capfd):
    root = project(split__test="none", preprocess__slices=2)
    write(root)
    run_all()
    printed = capfd.readouterr()
    assert CANARY not in printed.out + printed.err
    files = [file for file in (root / "data").rglob("*") if file.is_file() and "raw" not in file.parts]
    assert len(files) > 60
    for file in files:
        assert CANARY.encode() not in file.read_bytes() and CANARY not in str(file), file


def test_subgroup_columns_go_into_their_own_table_and_others_nowhere(project):
    root = project(calibrate__subgroups=["sex", "age"], calibrate__baseline=["age"])
    sexes, ages = ["F", "M", ""], [str(20 + 3 * n) for n in range(20)]
    cohort(root, lambda table: table.assign(
        sex=[sexes[n % 3] for n in range(len(table))], age=[ages[n % 20] for n in range(len(table))], note=CANARY
    ))  # fmt: skip
    run("cohort", "preprocess", "split")
    assert "column_" not in paths.CASES.read_text()
    cases = pd.read_csv(paths.COLUMNS, keep_default_na=False, dtype=str)
    assert set(cases["column_sex"]) == set(sexes) and set(cases["column_age"]) == set(ages)
    assert [name for name in cases if name.startswith("column_")] == ["column_sex", "column_age"]
    files = [file for file in (root / "data").rglob("*") if file.is_file() and "raw" not in file.parts]
    assert len(files) > 10 and not any(CANARY.encode() in file.read_bytes() for file in files)


@pytest.mark.parametrize("key", ["calibrate__subgroups", "calibrate__baseline"])
def test_identifying_column_stops_the_stage_and_is_not_written(project, capsys, key):
    root = project(**{key: ["referral"]})
    cohort(root, lambda table: table.assign(referral=[f"{CANARY} {n}" for n in range(len(table))]))
    message = refusal(capsys, "cohort")
    assert "column 'referral'" in message and "leave it out of calibrate.subgroups" in message and CANARY not in message
    files = [file for file in (root / "data").rglob("*") if file.is_file() and "raw" not in file.parts]
    assert not any(CANARY.encode() in file.read_bytes() for file in files) and not paths.CASES.exists()


def test_neither_dvc_nor_git_nor_the_machine_learns_a_name(project, private_keys):
    """Under the real `dvc repro`: lock file, cache, `git add --all`, and every file that is written anywhere."""
    root = project(split__test="none", preprocess__slices=2)
    write_canary_volumes(root)
    for name in ("pipeline", ".gitignore", ".dvcignore", "data/demo"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    dvc = [sys.executable, "-m", "dvc"]
    for command in (["git", "init", "-q"], [*dvc, "init", "-q"], ["cp", str(ROOT / ".dvc/config"), ".dvc/config"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    traced = [*traced_to(root.parent / "calls"), *dvc, "repro", "-q", "split"]
    for command in (traced, ["git", "add", "-A"]):
        subprocess.run(command, cwd=root, check=True, capture_output=True)
    tracked = subprocess.run(["git", "ls-files"], cwd=root, check=True, capture_output=True, text=True).stdout
    assert "dvc.lock" in tracked and CANARY not in tracked and "data/raw" not in tracked and ".cache" not in tracked
    grep = subprocess.run(["git", "grep", "--cached", "-l", CANARY], cwd=root, capture_output=True, text=True)
    assert grep.stdout == ""
    cached = [file for file in (root / ".dvc" / "cache").rglob("*") if file.is_file()]
    assert len(cached) > 20
    private = (root / "data" / "raw", root / ".cache", private_keys)
    assert (root / ".cache").stat().st_mode & 0o777 == 0o700
    for file in {*cached, *written_files(root.parent / "calls", root)}:
        if not any(file.is_relative_to(folder) for folder in private):
            assert CANARY.encode() not in file.read_bytes() and CANARY not in str(file), file


def traced_to(file):
    """Trace the names of all files that a command and its children open, where the system lets us."""
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-o", str(file)]
    allowed = shutil.which("strace") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return words if allowed else []


def written_files(calls, root):
    """List the files that are still there of those that a traced command created, wrote or renamed."""
    text = calls.read_text(errors="replace") if calls.exists() else ""
    lines = [line for line in text.splitlines() if re.search(r"O_WRONLY|O_RDWR|O_CREAT|rename|link|creat|mkdir", line)]
    names = {Path(root, name) for line in lines for name in re.findall(r'"((?:[^"\\]|\\.)*)"', line)}
    assert not lines or len(names) > 100
    return {name for name in names if name.is_file() and not name.is_relative_to("/proc")}


def test_the_face_of_a_case_with_a_mask_is_fitted_once(monkeypatch, tmp_path):
    volume = np.random.default_rng(0).integers(1, 100, (20, 20, 20)).astype(np.int16)
    marked = np.zeros((20, 20, 20), dtype=np.uint8)
    marked[4:9, 5:12, 6:15] = 1
    file, mask = save_nifti(tmp_path / "scan.nii.gz", volume), save_nifti(tmp_path / "mask.nii.gz", marked)
    fits = []

    def without_front(voxels, affine):
        fits.append(1)
        return np.where(np.arange(20)[:, None] < 14, voxels, 0).astype(voxels.dtype)

    monkeypatch.setattr(deface, "deface", without_front)
    geometry = Geometry("volume", 16, 4, 1, spacing=(1.0, 1.0, 1.0), fit="pad", intensity="percentile")
    steps = Preprocessor(geometry.with_mask, deface=True, mask=MaskUse("both", 2.0))
    row, arrays = prepare_case(("case", file, mask), steps)
    assert len(fits) == 1
    scan = steps.read(file)
    np.testing.assert_array_equal(arrays["channels"], steps.prepare(scan, mask).channels)
    np.testing.assert_array_equal(arrays["mask"], steps.marked(scan, mask))
    defaced, not_defaced = (replace(steps.without_masks, deface=one).prepare(scan).channels for one in (True, False))
    assert row["voxel_hash"] == voxel_hash(defaced) != voxel_hash(not_defaced)
    assert row["histogram_before"]["counts"] == histogram_of(scan.voxels).as_json()["counts"]


def test_case_that_cannot_be_prepared_is_refused_and_counted(project):
    """Defacing needs a head; these volumes are none, except that nothing else is wrong with them."""
    root = project(split__test="none", preprocess__slices=2, preprocess__deface=True)
    write_canary_volumes(root)
    run("cohort")
    assert main(["preprocess"]) == 1  # none is left
    assert len(entries()["preprocess"]) == 24
