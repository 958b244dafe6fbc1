"""Seconds a study of `listen` beside `predict`: the same studies from an Orthanc, from a watched folder, and named.

    python benchmarks/clinic.py BUNDLE SCANS --into DIR

SCANS is a folder of heads as NIfTI. Each becomes a DICOM series of its own study. All commands run in one process, in
turns, after a first round that does not count. What a command takes for one study is subtracted from what it takes for
all, so that opening the bundle does not count. Needs Debian's orthanc and orthanc-dicomweb.
"""

import argparse
import io
import os
import shutil
import statistics
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import nibabel as nib
import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.__main__ import main as program  # noqa: E402 - the path above
from tests.commands.listen import orthanc  # noqa: E402
from tests.commands.listen.studies import header_of  # noqa: E402
from tests.imaging.phantoms import save_series  # noqa: E402

WAYS = ("predict", "predict --dicom", "listen --watch", "listen --archive")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("scans", type=Path)
    parser.add_argument("--into", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    os.environ |= {"MEDADAPT_ARCHIVE_USER": orthanc.USER, "MEDADAPT_ARCHIVE_PASSWORD": orthanc.PASSWORD}
    folders = {count: arguments.into / f"{count}" for count in (1, arguments.studies)}
    servers = {}
    for count, folder in folders.items():
        write_studies(folder / "studies", arguments.scans, count)
        servers[count] = filled(folder)
    try:
        took = {(way, count): [] for way in WAYS for count in folders}
        for way in WAYS:
            timed(way, arguments.bundle, folders[1], servers[1])
        for _ in range(arguments.rounds):
            for (way, count), found in took.items():
                found.append(timed(way, arguments.bundle, folders[count], servers[count]))
            report(took, arguments.studies)
    finally:
        for server in servers.values():
            server.stop()


def report(took: dict[tuple[str, int], list[tuple[float, float]]], studies: int) -> None:
    """Print medians over the rounds so far, with the smallest and the largest."""
    for way in WAYS:
        pairs = zip(took[way, 1], took[way, studies], strict=True)
        each = [[(b - a) / (studies - 1) for a, b in zip(one, many, strict=True)] for one, many in pairs]
        wall, cpu = ([round(one[kind], 2) for one in each] for kind in (0, 1))
        said = [f"{statistics.median(some):.2f} ({min(some)} to {max(some)})" for some in (wall, cpu)]
        print(f"{len(each)} rounds, {way}: {said[0]} s a study, {said[1]} s of it on the processor", flush=True)


def write_studies(folder: Path, scans: Path, count: int) -> None:
    """Write heads as series of axial slices."""
    files = sorted(scans.glob("*.nii*"))
    for number in range(count):
        image = nib.as_closest_canonical(nib.load(files[number % len(files)]))
        volume = np.asarray(image.dataobj).clip(0).astype(np.uint16)
        header = header_of(number) | {"SeriesInstanceUID": f"1.2.826.1.{number}.1"}
        save_series(folder / f"{number}", volume, spacing=image.header.get_zooms()[:3], **header)


def filled(folder: Path) -> orthanc.Orthanc:
    """Start an Orthanc and send the studies to it."""
    (folder / "orthanc").mkdir()
    server = orthanc.Orthanc(folder / "orthanc").start()
    for file in sorted((folder / "studies").rglob("*")):
        if file.is_file() and not server.upload(file):
            sys.exit(f"Orthanc does not take {file}")
    return server


def timed(way: str, bundle: Path, folder: Path, server: orthanc.Orthanc) -> tuple[float, float]:
    """Run a command on all studies from nothing; return its seconds, and those of this process on the processor."""
    for name in ("ledger", "results"):
        shutil.rmtree(folder / name, ignore_errors=True)
    remove_results(server)
    studies, results = str(folder / "studies"), str(folder / "results")
    ledger = ["--ledger", str(folder / "ledger"), "--every", "0", "--once"]
    words = {
        "predict": ["predict", str(bundle), studies],
        "predict --dicom": ["predict", str(bundle), studies, "--dicom", results],
        "listen --watch": ["listen", str(bundle), "--watch", studies, "--results", results, *ledger],
        "listen --archive": ["listen", str(bundle), "--archive", f"{server.url}/dicom-web", *ledger],
    }[way]
    began, busy = time.perf_counter(), time.process_time()
    with redirect_stdout(io.StringIO()) as printed:
        code = program(words)
    if code:
        sys.exit(f"{way}: {printed.getvalue()[-2000:]}")
    return time.perf_counter() - began, time.process_time() - busy


def remove_results(server: orthanc.Orthanc) -> None:
    """Delete what `listen` stored, so that it stores again."""
    for _, series, _ in server.results():
        server.delete(series["SeriesInstanceUID"])


if __name__ == "__main__":
    main()
