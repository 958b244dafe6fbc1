"""Preprocessing side by side with MONAI and TorchIO: the same volumes, the same steps, the same output.

    python benchmarks/preprocess.py                     # 6 heads of 240 x 240 x 180 voxels, 5 rounds
    python benchmarks/preprocess.py --volumes 3 --rounds 3 --scale 3

Steps: read .nii.gz, orient to RAS, 0.5th and 99.5th percentile to 0 and 255, resample, cut or pad, store. MONAI runs
them under `PersistentDataset`; TorchIO resamples onto our grid in one step, which saves it the cutting. Each runs in a
process of its own, one thread, in turns, so that a noisy machine is noisy for all; ratios of medians are printed, with
the peak memory above what the imports took.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
METHODS = ("medadapt", "monai", "torchio")
TOLERANCE = 0.51  # grey levels; the peers do not round
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"), "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=int, default=2, help="heads of 120 x 120 x 90 voxels are enlarged by this")
    parser.add_argument("--run", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(arguments.run, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_heads(Path(folder), arguments.volumes, arguments.scale)
        write_grids(Path(folder))
        compare(Path(folder), arguments.rounds)


def make_heads(folder: Path, count: int, scale: int) -> None:
    """Enlarge real T1 heads (IXI) and add scanner noise, as int16 .nii.gz in the orientation PSR."""
    import nibabel as nib
    from scipy.ndimage import zoom

    data = Path(os.environ.get("MEDADAPT_TEST_DATA", ROOT.parent / "shared" / "data"))
    sources = sorted((data / "ixi_t1_2mm").glob("*.nii.gz"))
    if not sources:
        sys.exit(f"{data / 'ixi_t1_2mm'} holds no heads; name the folder above it in MEDADAPT_TEST_DATA")
    rng = np.random.default_rng(0)
    for number in range(count):
        image = nib.load(sources[number % len(sources)])
        voxels = zoom(image.get_fdata(dtype=np.float32), scale, order=1) * 8 + rng.normal(
            0, 15, [size * scale for size in image.shape]
        )
        affine = image.affine @ np.diag([1 / scale] * 3 + [1])
        nib.save(nib.Nifti1Image(voxels.clip(0).astype(np.int16), affine), folder / f"{number}.nii.gz")


def write_grids(folder: Path) -> None:
    """Write the affine of each head's stored grid, (x, y, z) to RAS+ millimetres, for TorchIO to resample onto."""
    from pipeline.imaging.preparation.preprocessor import Preprocessor

    last = geometry().image_size - 1
    channel_index = np.array([[0, 0, 1, 0], [0, -1, 0, last], [-1, 0, 0, last], [0, 0, 0, 1]], dtype=float)
    placements = [Preprocessor(geometry()).prepare_file(file).placement for file in sorted(folder.glob("*.nii.gz"))]
    np.save(folder / "grids.npy", [one.scan_affine @ one.to_scan @ channel_index for one in placements])


def compare(folder: Path, rounds: int) -> None:
    results: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for _ in range(rounds):
        for method in METHODS:
            command = [sys.executable, __file__, "--run", method, "--folder", str(folder)]
            environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            results[method].append(json.loads(done.stdout.splitlines()[-1]))
    ours = statistics.median(result["seconds"] for result in results["medadapt"])
    print(f"{'':10}{'volumes/s/core':>16}{'time, ours = 1':>16}{'peak MiB':>10}{'largest difference':>20}")
    reference = {file.stem: np.load(file) for file in sorted((folder / "medadapt").glob("*.npy"))}
    for method, rows in results.items():
        seconds = statistics.median(row["seconds"] for row in rows)
        peak = statistics.median(row["peak_mib"] for row in rows)
        worst = max(np.abs(np.load(folder / method / f"{n}.npy") - channels).max() for n, channels in reference.items())
        print(f"{method:10}{len(reference) / seconds:16.2f}{seconds / ours:16.2f}{peak:10.0f}{worst:20.2f}")
        assert worst <= TOLERANCE, f"{method} gives other channels"


def run(method: str, folder: Path) -> dict[str, float]:
    """Prepare every head with one method and leave its channels in `folder/method`; peak above the imports."""
    prepare = {"medadapt": with_medadapt, "monai": with_monai, "torchio": with_torchio}[method](folder)
    files = sorted(folder.glob("*.nii.gz"))
    (folder / method).mkdir(exist_ok=True)
    idle = peak_kib()
    start = time.perf_counter()
    for number, file in enumerate(files):
        np.save(folder / method / f"{number}.npy", prepare(number, file))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak_mib": (peak_kib() - idle) / 1024}


def peak_kib() -> int:
    """Read this process's peak memory; `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def geometry():
    from pipeline.imaging.geometry import Geometry

    return Geometry("volume", 128, 16, 3, (1.9, 1.9, 3.7), "pad", "percentile")


def with_medadapt(_):
    from pipeline.imaging.preparation.preprocessor import Preprocessor

    steps = Preprocessor(geometry())
    return lambda number, file: steps.prepare_file(file).channels.astype(np.float32)


def with_monai(folder: Path):
    import torch
    from monai.data import PersistentDataset

    from tests.imaging.preparation.monai_twin import as_channels, volume_twin

    torch.set_num_threads(1)
    files = [{"image": str(file)} for file in sorted(folder.glob("*.nii.gz"))]
    cache = tempfile.mkdtemp(dir=folder)  # a new one each time: what is timed is the first pass
    dataset = PersistentDataset(files, volume_twin(geometry()), cache_dir=cache)
    return lambda number, _: as_channels(dataset[number]["image"]).numpy()


def with_torchio(folder: Path):
    import torch
    import torchio as tio

    torch.set_num_threads(1)
    shape = geometry()
    grids = np.load(folder / "grids.npy")
    empty = torch.zeros(1, shape.image_size, shape.image_size, shape.depth)
    rescale = tio.RescaleIntensity((0, 255), percentiles=(0.5, 99.5))

    def prepare(number: int, file: Path) -> np.ndarray:
        resample = tio.Resample(tio.ScalarImage(tensor=empty, affine=grids[number]))
        prepared = resample(rescale(tio.ToCanonical()(tio.ScalarImage(file))))
        return prepared.data[0].permute(2, 1, 0).flip(1, 2).numpy()

    return prepare


if __name__ == "__main__":
    main()
