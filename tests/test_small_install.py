"""The small install: predict and verify where nothing that only training needs can be imported."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.bundle.releases import released
from tests.conftest import ROOT, save_nifti

WITHOUT = """
import sys
from importlib.machinery import PathFinder
class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in sys.argv[1].split(",") else super().find_spec(name, path, target)
sys.meta_path[:] = [Absent if finder is PathFinder else finder for finder in sys.meta_path]
try:
    import dvc
except ModuleNotFoundError:
    print("dvc is absent")
from pipeline.__main__ import main
sys.exit(main(["verify", sys.argv[2]]) or main(["predict", sys.argv[2], sys.argv[3]]))
"""


def absent():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    beyond = ("train", "clinic", "dask", "ray", "live", "slurm")
    names = [Requirement(one).name for key in beyond for one in extras[key]]
    return [name.replace("-", "_") for name in names]


def test_predict_and_verify_run_without_packages_of_training(tmp_path, asymmetric):
    bundle = released(tmp_path / "model")
    blocked = absent()
    assert {"dvc", "albumentations", "accelerate", "pydantic", "onnx", "onnxruntime"} <= set(blocked)
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    command = [sys.executable, "-c", WITHOUT, ",".join(blocked), str(bundle), str(scan)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (
        "dvc is absent" in done.stdout
        and "is unchanged since its release" in done.stdout
        and "scan.nii.gz" in done.stdout
    )


def test_the_container_runs_every_command_without_root_and_downloads():
    lines = (ROOT / "Containerfile").read_text().splitlines()
    said = dict(line.split(" ", 1) for line in lines if line and not line.startswith((" ", "#", "RUN", "ENV", "COPY")))
    assert said["ENTRYPOINT"] == '["medadapt"]'
    assert said["USER"].split(":")[0] not in ("root", "0")
    assert lines.index(f"USER {said['USER']}") > max(n for n, line in enumerate(lines) if line.startswith("RUN"))
    assert any("HF_HUB_OFFLINE=1" in line for line in lines)


def test_the_container_has_torch_of_the_lock_and_hashes_for_the_rest():
    text, lock = (ROOT / "Containerfile").read_text(), (ROOT / "requirements.txt").read_text()
    pinned = re.search(r'^ARG TORCH="(.*)"$', text, flags=re.MULTILINE)[1].split()
    assert len(pinned) == 2 and all(f"\n{one} " in lock for one in pinned)
    assert "--require-hashes" in text and "http" not in text


@pytest.mark.parametrize("file", ["Containerfile", "docs/how-to/hand-over.md"])
def test_the_documented_command_of_the_container_can_write_its_results(file):
    command = (ROOT / file).read_text().split("docker run ")[1].split("```")[0].split("ARG ")[0]
    assert '--volume "$PWD":/work:ro' in command and '--volume "$PWD/results":/results' in command
    assert "--out /results/" in command and "--report /results/" in command and "--user" in command


def installed_with(name, seen):
    """List a package with all that it requires without extras, of those that are installed here."""
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:  # of another system or Python
        return seen
    for one in map(Requirement, found.requires or ()):
        if canonicalize_name(one.name) not in seen and (not one.marker or one.marker.evaluate({"extra": ""})):
            seen.add(canonicalize_name(one.name))
            installed_with(one.name, seen)
    return seen


def licences_of(name):
    try:
        values = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    classifiers = [one for one in values.get_all("Classifier") or [] if one.startswith("License")]
    return " ".join(
        [values.get("License-Expression") or (values.get("License") or "").partition("\n")[0], *classifiers]
    )


def test_the_default_install_is_free_of_the_gpl_and_dvcs_parts_are_told():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    small = set().union(*(installed_with(Requirement(one).name, set()) for one in project["dependencies"]))
    assert len(small) > 30 and not [name for name in small if re.search(r"\bA?GPL", licences_of(name))]
    page = (ROOT / "docs/reference/licences.md").read_text()
    of_dvc = {name for name in installed_with("dvc", set()) if re.search(r"\bA?GPL", licences_of(name))}
    assert of_dvc and all(name in page for name in of_dvc)
