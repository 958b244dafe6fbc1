"""Prepare the cases of a cohort with each engine of MEDADAPT_BACKEND: processor seconds of all processes, and bytes.

    OMP_NUM_THREADS=1 python benchmarks/scale.py /tmp/scale --cases 500 2000 --stages cohort
    OMP_NUM_THREADS=1 python benchmarks/engines.py /tmp/scale/here-500 /tmp/scale/here-2000

Wall seconds count on a quiet machine alone. Processes that outlive the stage (of ray) are adopted and waited for, so
that their seconds count as well.
"""

import argparse
import ctypes
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from trials import ROOT

ENGINES = [("loky", 1), ("loky", 2), ("dask", 2), ("ray", 2)]
PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="written by benchmarks/scale.py, with the stage cohort")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for folder in parser.parse_args().folders:
        for engine, workers in ENGINES:
            shutil.rmtree(folder / "data/scratch/preprocess", ignore_errors=True)
            print(folder.name, engine, workers, *measure(folder, engine, workers), flush=True)


def measure(folder: Path, engine: str, workers: int) -> tuple[str, ...]:
    """Run the stage; give processor seconds, wall seconds and the hash of all that it wrote."""
    place = {"PYTHONPATH": str(ROOT), "MEDADAPT_BACKEND": engine, "MEDADAPT_WORKERS": str(workers)}
    environment, words = os.environ | place, [sys.executable, "-m", "pipeline", "preprocess"]
    before, start = seconds_of_children(), time.perf_counter()
    process = subprocess.Popen(words, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status = process.wait()
    wall = time.perf_counter() - start
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    used = seconds_of_children() - before
    return f"{used:.1f} processor s", f"{wall:.1f} wall s", digest(folder / "data/prepared") if not status else "failed"


def seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(file.relative_to(folder).as_posix().encode() + file.read_bytes())
    return total.hexdigest()[:12]


if __name__ == "__main__":
    main()
