"""The small install: predict and verify where nothing that only training needs can be imported."""

import os
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement

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
    names = [Requirement(one).name for key in ("train", "dask", "ray", "live", "slurm") for one in extras[key]]
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


def test_the_container_predicts_without_root_and_without_downloads():
    lines = (ROOT / "Containerfile").read_text().splitlines()
    said = dict(line.split(" ", 1) for line in lines if line and not line.startswith((" ", "#", "RUN", "ENV", "COPY")))
    assert said["ENTRYPOINT"] == '["python", "-m", "pipeline", "predict"]'
    assert said["USER"].split(":")[0] not in ("root", "0")
    assert lines.index(f"USER {said['USER']}") > max(n for n, line in enumerate(lines) if line.startswith("RUN"))
    assert any("HF_HUB_OFFLINE=1" in line for line in lines)
