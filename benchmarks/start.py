"""How long `medadapt --help` and the help of each stage and command take, in fresh processes.

python benchmarks/start.py             # the best of 3 runs of each
python benchmarks/start.py --runs 10
"""

import argparse
import subprocess
import sys
import time

from trials import ROOT

from pipeline.__main__ import COMMANDS, STAGES

LIMIT = 0.4  # seconds


def main() -> None:
    """Print the seconds of each help and whether the slowest stays below the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3, help="processes for each; the fastest counts (default: 3)")
    runs = parser.parse_args().runs
    found = {name: min(seconds_of([name, "--help"]) for _ in range(runs)) for name in (*STAGES, *COMMANDS)}
    found["(program)"] = min(seconds_of(["--help"]) for _ in range(runs))
    for name, seconds in sorted(found.items(), key=lambda item: item[1]):
        print(f"{name:<12} {seconds:.3f} s")
    slowest = max(found.values())
    print(f"slowest {slowest:.3f} s: {'below' if slowest < LIMIT else 'ABOVE'} {LIMIT} s")


def seconds_of(words: list[str]) -> float:
    """Time one call in a process of its own."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "pipeline", *words], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
