"""The application for MONAI Deploy: what it is made of, and that it answers a study as `predict` does."""

import ast
import os
import shutil
import subprocess

import pandas as pd
import pydicom
import pytest
import yaml

from pipeline import __version__
from pipeline.__main__ import main
from pipeline.bundle.manifest import verify_manifest
from pipeline.commands.study import answer_study
from pipeline.errors import UserError
from tests.commands.listen.studies import study
from tests.commands.predict.limits import recalibration
from tests.conftest import ROOT

SDK_PYTHON = os.environ.get("MEDADAPT_TEST_SDK_PYTHON", "")
needs_sdk = pytest.mark.skipif(
    not SDK_PYTHON, reason="MEDADAPT_TEST_SDK_PYTHON names no Python with MONAI Deploy's SDK"
)


@pytest.fixture(scope="module")
def place(limited, tmp_path_factory):
    """A folder with an application with a recalibration, and a study: a scan, a CT, a report and a cut series."""
    folder = tmp_path_factory.mktemp("package")
    site = recalibration(limited[0], folder / "site.json")
    words = ["package", str(limited[0]), "--map", str(folder / "app"), "--calibration", str(site)]
    assert main([*words, "--modality", "mr,ct"]) == 0
    for number in (0, 2, 6, 7):
        study(folder / "study" / str(number), number, limited[1] / "0.nii.gz")
    (folder / "study" / "note.txt").write_text("Dear colleague")
    return folder


def settings_in(place):
    settings = yaml.safe_load((place / "app" / "application" / "app.yaml").read_text())["medadapt"]
    return settings | {"calibration": place / "app" / "application" / settings["calibration"]}


def of_predict(place, limited):
    """The table and the UIDs of `predict` for the three series that are scans."""
    scans = [str(place / "study" / name) for name in "027"]
    out, objects = place / "predicted.csv", place / "objects"
    words = ["--calibration", str(place / "site.json"), "--dicom", str(objects), "--out", str(out)]
    assert main(["predict", str(limited[0]), *scans, *words]) == 0
    return pd.read_csv(out, dtype=str, keep_default_na=False), uids_in(objects)


def uids_in(folder):
    return {pydicom.dcmread(file).SOPInstanceUID for file in folder.glob("*.dcm")}


def check_alike(results, place, limited):
    ours = pd.read_csv(results / "results.csv", dtype=str, keep_default_na=False)
    table, uids = of_predict(place, limited)
    columns = [name for name in table if name not in ("scan", "dicom", "reason")]
    assert set(ours) == set(table) and ours[columns].values.tolist() == table[columns].values.tolist()
    assert list(ours["abstains"]) == ["", "", "bad image"] and all(ours["reason"].iloc[2:])
    assert uids_in(results) == uids and len(uids) == 6


def test_the_core_of_the_application_answers_as_predict_does(place, limited, tmp_path, capsys):
    answer_study(place / "app" / "models", place / "study", tmp_path, settings_in(place))
    printed = capsys.readouterr().out
    assert "series 3 is left out: modality SR is not one of MR, CT" in printed
    assert "files that are no DICOM file of a series: 1" in printed
    check_alike(tmp_path, place, limited)


@needs_sdk
def test_the_sdk_runs_the_application_with_the_answers_of_predict(place, limited, tmp_path):
    app, environment = place / "app", {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [SDK_PYTHON, app / "application", "-i", place / "study", "-o", tmp_path, "-m", app / "models"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    check_alike(tmp_path, place, limited)
    (tmp_path / "empty").mkdir()
    command[3] = tmp_path / "empty"
    assert subprocess.run(command, env=environment, capture_output=True).returncode == 1


@needs_sdk
def test_the_packager_of_the_sdk_takes_models_and_description(place):
    code = (
        "import sys; from pathlib import Path; from holoscan_cli.packager.config_reader import *; "
        "from holoscan_cli.packager.models import Models; one = ApplicationConfiguration(); "
        "one.read(Path(sys.argv[1]) / 'application' / 'app.yaml'); "
        "print(one.title(), sorted(Models().build(Path(sys.argv[1]) / 'models')))"
    )
    done = subprocess.run([SDK_PYTHON, "-c", code, place / "app"], capture_output=True, text=True)
    assert done.stdout.strip().endswith("model (research use only) ['model']"), done.stderr[-2000:]


def test_python_files_are_whole_and_name_what_they_call(place):
    names = set()
    for file in (place / "app" / "application").glob("*.py"):
        tree = ast.parse(file.read_text())
        names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        done = subprocess.run(["ruff", "check", "--quiet", "--isolated", file], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert {"answer_study", "Application", "Operator", "BundleApplication"} <= names


def test_the_description_has_the_fields_that_the_packager_reads(place):
    text = (place / "app" / "application" / "app.yaml").read_text()
    found = yaml.safe_load(text)
    application, resources = found["application"], found["resources"]
    assert application["title"] == "model (research use only)" and application["version"] == "1.0.0"
    for name in ("inputFormats", "outputFormats", "input-formats", "output-formats"):
        assert application[name] == ["file"]
    assert resources == {"cpu": 1, "gpu": 0, "memory": "4Gi"}
    assert found["medadapt"] == {"modality": "mr,ct", "calibration": "recalibration.json"}
    assert str(place) not in text


def test_requirements_name_this_release_and_the_sdk(place):
    lines = (place / "app" / "application" / "requirements.txt").read_text().split()
    assert lines[0] == f"medadapt[clinic]=={__version__}" and lines[1].startswith("monai-deploy-app-sdk")


def test_the_bundle_goes_along_unchanged(place, limited):
    inside = place / "app" / "models" / "model"
    assert verify_manifest(inside) == verify_manifest(limited[0])
    assert (inside / "MANIFEST.json").read_bytes() == (limited[0] / "MANIFEST.json").read_bytes()


def test_the_container_runs_as_no_root_and_has_the_paths_of_a_package(place):
    lines = (place / "app" / "Containerfile").read_text().splitlines()
    assert lines.index("USER reader") > max(n for n, line in enumerate(lines) if line.startswith("RUN"))
    text = "\n".join(lines)
    for name in ("INPUT", "OUTPUT", "MODEL"):
        assert f"HOLOSCAN_{name}_PATH=" in text
    copied = {line.split()[1] for line in lines if line.startswith("COPY")}
    assert all((place / "app" / name).exists() for name in copied) and "http" not in text


def test_a_zip_of_the_bundle_is_taken_and_no_folder_is_overwritten(limited, tmp_path, capsys):
    zipped = shutil.make_archive(str(tmp_path / "model"), "zip", limited[0])
    assert main(["package", zipped, "--map", str(tmp_path / "new" / "app")]) == 0
    assert (tmp_path / "new" / "app" / "models" / "model" / "MANIFEST.json").is_file()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["app"]
    assert main(["package", zipped, "--map", str(tmp_path / "new" / "app")]) == 1
    assert "exists; name a new folder" in capsys.readouterr().err


def test_what_does_not_fit_the_bundle_is_refused_and_nothing_is_written(limited, tmp_path, capsys):
    (tmp_path / "other.json").write_text("{}")
    for words, said in (
        (["--calibration", str(tmp_path / "other.json")], "is not the recalibration of a site"),
        (["--adaptation", str(tmp_path / "other.json")], "holds no limits of a site"),
        (["--site", "north"], "the model has no separate parameters for sites"),
    ):
        assert main(["package", str(limited[0]), "--map", str(tmp_path / "app"), *words]) == 1
        assert said in capsys.readouterr().err and not (tmp_path / "app").exists()


def test_a_study_without_a_readable_scan_is_an_error(place, tmp_path):
    shutil.copytree(place / "study" / "6", tmp_path / "report")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="holds no scan that the model takes"):
        answer_study(place / "app" / "models", tmp_path / "report", tmp_path / "out", {})
    with pytest.raises(UserError, match="no scan could be read; see the reasons in"):
        answer_study(place / "app" / "models", place / "study" / "7", tmp_path / "out", {})
    with pytest.raises(UserError, match="holds 0 bundles"):
        answer_study(tmp_path / "out", place / "study", tmp_path / "out", {})
