"""Phantoms with known answers, and a network small enough to train in a second."""

import gc
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from pipeline import cache
from pipeline.imaging.tables.pseudonyms import write_private

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("MEDADAPT_TEST_DATA", ROOT.parent / "shared" / "data"))
TINY_ENCODER = "test_efficientnet"  # timm's own doll-size network
PLAIN = {  # what a training recipe needs and most tests do not care about
    "class_weights": "balanced",
    "label_smoothing": 0.0,
    "mix": "none",
    "mix_alpha": 0.2,
    "average": "none",
    "rank": 0,
}


def classifier(
    channels: int = 3,
    n_classes: int = 2,
    *,
    encoder: str = TINY_ENCODER,
    pooled_stages: int = 1,
    filter_depth: int = 1,
    **parts: Any,
) -> Any:
    """Build a small `Classifier`; `parts` are its further arguments."""
    from pipeline.learning.models.classifier import Classifier

    arguments = {"name": encoder, "pooled_stages": pooled_stages, "filter_depth": filter_depth}
    return Classifier(arguments, {"channels": channels}, {"n_classes": n_classes}, **parts)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one of them in the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, "stages" not in item.path.parts))


def pytest_collection_finish() -> None:
    """Spare the garbage collector all that was imported, as the command line does."""
    gc.freeze()


@pytest.fixture(autouse=True)
def private_keys(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test writes to the user's key folder, and the pseudonyms, hence folds and seeds, are the same every time."""
    folder = key_folder(tmp_path_factory.mktemp("keys"))
    monkeypatch.setenv("MEDADAPT_KEYS", str(folder))
    return folder


def key_folder(folder: Path) -> Path:
    """Put the salt of the cohort `clinic` into a folder."""
    write_private(folder / "clinic" / "salt", hashlib.sha256(b"clinic").hexdigest())
    return folder


def dvc(*words: str) -> None:
    """Run a command of DVC in this process, which has no start to pay for; the commands of stages are processes."""
    from dvc.cli import main

    assert main([*words, "-q"]) == 0, words


def flip_bit(file: Path, at: int = 0) -> None:
    """Flip a bit of a byte and keep the time, as a damaged disk does."""
    known, content = file.stat(), bytearray(file.read_bytes())
    content[at % len(content)] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))


@pytest.fixture(autouse=True)
def same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture
def code(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of our code that caches and checkpoints are keyed by, to be changed; what runs stays what it is.

    The current folder becomes that of the copy unless it holds a project already.
    """
    root = tmp_path_factory.mktemp("code")
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", root)
    monkeypatch.setattr(cache, "PACKAGE", root / "pipeline")
    if Path.cwd() == ROOT:
        monkeypatch.chdir(root)
    cache.code_of.cache_clear()
    yield root
    cache.code_of.cache_clear()


@pytest.fixture
def asymmetric() -> np.ndarray:
    """A volume that looks different from every side: right is bright, front brighter, top brightest."""
    volume = np.zeros((12, 14, 10), dtype=np.float32)
    volume[1:-1, 1:-1, 1:-1] = 10
    volume[8:11, 5:8, 4:6] = 40
    volume[4:7, 10:13, 4:6] = 70
    volume[4:7, 5:8, 7:9] = 100
    return volume


def save_nifti(
    file: Path, volume: np.ndarray, orientation: str = "RAS", spacing: tuple[float, ...] = (1, 1, 1)
) -> Path:
    """Write a RAS volume as a scanner of another orientation would have stored it."""
    image = nib.Nifti1Image(volume, np.diag([*spacing, 1.0]))
    wanted = nib.orientations.axcodes2ornt(orientation)
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)), file)
    return file


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `medadapt`, `dvc` and `python` that start at once; it goes to the front of PATH."""
    from tests.warm_python import warm_python

    with warm_python(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Give a browser without a window, or skip with the reason."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium on this machine; Debian's package is called chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        window = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield window
        window.close()


def offline_page(browser: Any, contexts: list[Any], asked: list[str], width: int, **options: Any) -> Any:
    """Open an empty page that reads files alone; what it asks of a network is refused and noted in `asked`."""

    def cut(route: Any) -> None:
        allowed = route.request.url.startswith("file:")
        if not allowed:
            asked.append(route.request.url)
        route.continue_() if allowed else route.abort()

    contexts.append(browser.new_context(viewport={"width": width, "height": 844}, **options))
    contexts[-1].set_default_timeout(10_000)
    page = contexts[-1].new_page()
    page.route("**/*", cut)
    return page


def shared(name: str) -> Path:
    """Find real images, or skip with the reason."""
    folder = SHARED / name
    if not folder.exists():
        pytest.skip(f"the development images {name} are not at hand (set MEDADAPT_TEST_DATA)")
    return folder
