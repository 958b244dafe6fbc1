"""What enters git, what is asked of the network, and which packages are installed."""

import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib

import pytest

from pipeline import __version__
from tests.conftest import ROOT


@pytest.mark.parametrize(
    "file",
    [
        "data/raw/hospital/cohort.csv",
        "data/raw/hospital/cohort.yaml",
        "data/raw/hospital/images/a.png",
        "data/cohort/cases.csv",
        "data/cohort/simulated/north/sub-001/scan.nii.gz",
        "data/prepared/index.csv",
        "data/split/duplicates.csv",
        "data/scratch/audit/0.pack",
        "data/scratch/preprocess/0.pack",
        "data/prepared/cases/0a.pack",
        "data/split/0.csv",
        "data/adapted/0/encoder.safetensors",
        "data/adapted/0/search.csv",
        "data/folds/0/model.safetensors",
        "data/folds/0/predictions.csv",
        "data/folds/0/features.npz",
        "data/calibrated/predictions.csv",
        "data/released/model/models/model.pt",
        "data/report/index.html",
        "data/metrics/pooled/index.csv",
        "data/raw/hospital/data/metrics/roc.csv",
    ],
)
def test_git_ignores_every_image_table_of_cases_and_weight(file: str) -> None:
    assert subprocess.run(["git", "check-ignore", "-q", "--no-index", file], cwd=ROOT).returncode == 0, file


@pytest.mark.parametrize(
    "file",
    [
        "data/demo/cohort.yaml",
        "data/demo/card.yaml",
        "data/metrics/folds/0.json",
        "data/metrics/summary.json",
        "data/metrics/verdicts.csv",
        "data/metrics/roc.csv",
        "data/metrics/search.csv",
        "data/metrics/left_out.csv",
        "data/folds/0/history.csv",
        "data/openings.csv",
        "dvc.lock",
    ],
)
def test_git_keeps_metrics_curves_and_the_count_of_openings(file: str) -> None:
    assert subprocess.run(["git", "check-ignore", "-q", "--no-index", file], cwd=ROOT).returncode == 1, file


def test_no_network_is_asked_at_import() -> None:
    names = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in sorted((ROOT / "pipeline").rglob("*.py"))
        if file.stem not in ("__main__",)
    ]
    code = f"""
import socket
def refuse(*args, **kwargs): raise SystemExit("a connection was tried")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
import importlib
for name in {names!r}: importlib.import_module(name.removesuffix(".__init__"))
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(("told", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_solves_of_numpy_take_one_thread_unless_told_otherwise(tmp_path, told, threads) -> None:
    code = """
from pipeline.__main__ import main
main(["whois", "nobody"])
import numpy, threadpoolctl
print({pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"})
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"} | told
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == str({min(threads, os.cpu_count() or 1)}), done.stderr


def test_the_augmentation_library_is_the_one_with_the_free_licence() -> None:
    installed = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions() if dist.metadata["Name"]}
    assert "albumentations" in installed
    assert "albumentationsx" not in installed


def test_pinned_requirements_name_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.txt").read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text and "index-url" not in text


def links_of(page: str) -> set[str]:
    """List what a page of the repository links to, as paths from the root; anchors and addresses are left out."""
    found = re.findall(r"\]\(([^)#\s]+)", (ROOT / page).read_text())
    return {os.path.normpath(os.path.join(os.path.dirname(page), link)) for link in found if "://" not in link}


def pages() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [page for page in listed.splitlines() if page.startswith(("README", "CONTRIBUTING", "data/", "docs/"))]


def test_every_link_between_pages_leads_to_a_file() -> None:
    missing = {(page, link) for page in pages() for link in links_of(page) if not (ROOT / link).exists()}
    assert not missing


@pytest.mark.parametrize("index", ["README.md", "docs/index.md"])
def test_every_page_of_docs_is_linked_from_readme_and_index(index: str) -> None:
    kinds = [page for page in pages() if page.startswith("docs/") and not page.startswith("docs/decisions/")]
    assert not set(kinds) - links_of(index) - {"docs/index.md"}


def test_readme_has_at_most_130_lines_and_800_words_of_prose() -> None:
    text = (ROOT / "README.md").read_text()
    prose = re.sub(r"^```.*?^```|^\|.*?$|\]\([^)]*\)", "", text, flags=re.MULTILINE | re.DOTALL)
    assert text.count("\n") <= 130
    assert len(prose.split()) <= 800


def test_one_version_stands_in_package_project_and_bundles():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    required = re.search(r'"medadapt": "([^"]+)"', (ROOT / "pipeline/bundle/layout.py").read_text())[1]
    assert __version__ == named == required
