"""How many small faults, planted at random in five areas of the code, the tests notice.

    python benchmarks/mutants.py sample --out mutants.json --n 200 --seed 0
    OMP_NUM_THREADS=1 python benchmarks/mutants.py run mutants.json --out results.json

benchmarks/mutants.json holds the 200 mutants of the state before the tree was rebuilt, by their places now, and
benchmarks/mutants_before.json what became of each then: 135 killed.

`sample` draws mutants, as many from each area, and describes each so that it can be found again after a refactoring.
`run` plants one at a time, in memory only, and runs the fast tests that import the module: killed, if one fails or all
take too long; survived; or not_found. It writes after every mutant, and goes on where it was stopped.

Libraries are imported once; each mutant is a fork of that process, whose import of the mutated file is intercepted.
Tests that start a process of their own see the code as it is on the disk.
"""

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import importlib.machinery
import json
import math
import operator
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from mutations import Site, sites_of

TRAINING, SPLIT = "pipeline/learning/training", "pipeline/stages/split"
AREAS = {
    "metrics": ["pipeline/metrics/*.py", "pipeline/metrics/calibrators/*.py", "pipeline/stages/calibrate/*_curve*.py"],
    "splitting": [f"{SPLIT}/{part}.py" for part in ("leakage", "partition", "shortcuts", "run")],
    "caches": ["pipeline/cache.py", "pipeline/stages/finetune/activation_cache.py", f"{TRAINING}/checkpoint.py"],
    "opening": [f"pipeline/bundle/{part}.py" for part in ("opening", "manifest", "allowed", "zipped", "signature")],
    "training": [
        f"{TRAINING}/{part}.py"
        for part in ("loop", "recipe", "finetuning", "averaging", "batches", "mixing", "selection")
    ],
}
LEFT_OUT = ("test_run", "test_stages", "oracles", "test_end_to_end")  # tried only where there is nothing else
NAMED = {  # what matters beside the tests that import a module
    "pipeline/cache.py": ["tests/stages/preprocess/test_run.py", "tests/stages/finetune/test_run.py"],
    "pipeline/stages/finetune/activation_cache.py": ["tests/stages/finetune/test_run.py"],
    "pipeline/stages/split/run.py": [
        f"tests/stages/{name}.py"
        for name in ("preprocess/test_run", "calibrate/test_left_out_sites", "release/test_run")
    ],
}
MOST_SECONDS, MOST_FOR_ONE = 40, 5  # of the processor, for a file of tests and for a single test; others are left out
SECONDS = 90  # of the clock, for all tests of a mutant at least, and PATIENCE times what they take of the processor
PATIENCE = 8
ALIKE = 0.6  # of a line and the one that it became

OK, FAILED, NOT_LOADED, NO_TESTS = 0, 1, 3, 5  # exit codes; 0, 1 and 5 are pytest's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_subparsers(dest="what", required=True, metavar="sample or run")
    sampling, running = names.add_parser("sample"), names.add_parser("run")
    sampling.add_argument("--n", type=int, default=200)
    sampling.add_argument("--seed", type=int, default=0)
    running.add_argument("mutants", type=Path)
    for one in (sampling, running):
        one.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.what == "sample":
        drawn = sample(arguments.n, arguments.seed)
        arguments.out.write_text(json.dumps(drawn, indent=1) + "\n")
    else:
        run(json.loads(arguments.mutants.read_text()), arguments.out)


def sample(n: int, seed: int) -> list[dict[str, Any]]:
    """Draw as many mutants from every area."""
    rng, drawn = random.Random(seed), []
    for area, patterns in AREAS.items():
        modules = sorted({str(file) for pattern in patterns for file in Path().glob(pattern)})
        sites = [site for module in modules for site, _ in sites_of(module)[1]]
        chosen = sorted(rng.sample(range(len(sites)), n // len(AREAS)))
        drawn += [{"area": area} | asdict(sites[place]) for place in chosen]
        print(f"{area}: {len(chosen)} of {len(sites)} sites in {len(modules)} modules")
    return drawn


def run(mutants: Sequence[dict[str, Any]], out: Path) -> None:
    """Try every mutant that `out` does not know yet."""
    sys.path.insert(0, str(Path.cwd()))
    import_libraries()
    done: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"tests": {}, "mutants": {}}
    places = matched(mutants)
    imports = {str(file): imported_by(file) for folder in ("pipeline", "tests") for file in Path(folder).rglob("*.py")}
    chosen: dict[str, list[str]] = {}
    for number, mutant in enumerate(mutants):
        if str(number) in done["mutants"]:
            continue
        place, alike = places.get(number, (None, 0.0))
        result: dict[str, Any] = {"area": mutant["area"], "status": "not_found"}
        if place is not None:
            module, begin = place.module, time.monotonic()
            if module not in chosen:
                chosen[module] = checked(tests_of(module, imports), done["tests"])
                out.write_text(json.dumps(done, indent=1) + "\n")
            expected = sum(done["tests"][file]["seconds"] for file in chosen[module])
            without = [test for file in chosen[module] for test in done["tests"][file]["without"]]
            code, *_ = in_a_fork(place, chosen[module], without, max(SECONDS, PATIENCE * expected))
            status = {OK: "survived", NOT_LOADED: "survived", NO_TESTS: "survived", None: "timeout"}.get(code, "killed")
            result |= {"status": status, "loaded": code not in (NOT_LOADED, NO_TESTS), "alike": round(alike, 2)}
            result |= {"seconds": round(time.monotonic() - begin, 1)} | {"place": asdict(place)}
        done["mutants"][str(number)] = result
        out.write_text(json.dumps(done, indent=1) + "\n")
        print(number, result["status"], *(f"{mutant[key]!s}:" for key in ("module", "number", "kind")), mutant["line"])
    report(done["mutants"])


def report(results: dict[str, Any]) -> None:
    """Print what became of the mutants of each area."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for result in results.values():
        table[result["area"]][result["status"]] += 1
    for area, counts in table.items():
        print(area, *(f"{status} {count}" for status, count in sorted(counts.items())))


def import_libraries() -> None:
    """Import once what every test would import anew, but nothing of ours."""
    names = {name for file in Path("pipeline").rglob("*.py") for name in imported_by(file, at_the_top=True)}
    for name in sorted({"monai.bundle", *names}):
        if name.split(".")[0] not in ("pipeline", "tests"):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    if any(name.split(".")[0] == "pipeline" for name in sys.modules):
        raise RuntimeError("a library imported `pipeline`, which no mutant would change any more")
    gc.freeze()


def imported_by(file: Path, at_the_top: bool = False) -> set[str]:
    """Name the modules, and what may be modules, that a file imports."""
    tree, names = ast.parse(file.read_text()), set()
    for node in tree.body if at_the_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | (set() if at_the_top else {f"{node.module}.{alias.name}" for alias in node.names})
    return names


def tests_of(module: str, imports: dict[str, set[str]]) -> Collection[str]:
    """Choose the files of tests that matter: of the module itself and the named ones, or of modules that import it."""

    def importing(file: str) -> set[str]:
        return {other for other, names in imports.items() if file[:-3].replace("/", ".") in names and other != file}

    def of(file: str) -> set[str]:
        mirrored = str(Path("tests", *Path(file).parts[1:]).with_name(f"test_{Path(file).name}"))
        found = {test for test in importing(file) | {mirrored} if Path(test).name.startswith("test_")}
        return {test for test in found if test in imports and not set(LEFT_OUT) & {*Path(test).parts, Path(test).stem}}

    users = {user for user in importing(module) if user.startswith("pipeline/")}
    named = {test for test in NAMED.get(module, []) if test in imports}
    return of(module) | named or set().union(*map(of, users))


def checked(files: Collection[str], known: dict[str, Any]) -> list[str]:
    """Leave out tests that fail or take long without any mutation; the fastest files come first."""
    for file in sorted(set(files) - set(known)):
        code, seconds, calls = in_a_fork(None, [file], [], SECONDS * PATIENCE)
        without = sorted(test for test, used in calls.items() if used > MOST_FOR_ONE)
        seconds -= sum(calls[test] for test in without if calls[test] < math.inf)
        known[file] = {"seconds": round(seconds, 1), "without": without, "use": len(without) < len(calls)}
        known[file]["use"] &= code in (OK, FAILED) and seconds <= MOST_SECONDS
        print(f"{file}: {seconds:.1f} s of the processor, {len(calls)} tests without {without}", flush=True)
    return sorted((file for file in files if known[file]["use"]), key=lambda file: (known[file]["seconds"], file))


def matched(mutants: Sequence[dict[str, Any]]) -> dict[int, tuple[Site, float]]:
    """Find for each mutant the site that is most like it, none for two, and how like their lines are."""
    pairs = []
    for number, mutant in enumerate(mutants):
        for site, _ in sites_of(mutant["module"])[1] if Path(mutant["module"]).exists() else ():
            if site.kind == mutant["kind"]:
                pairs.append((*likeness(mutant, site), number, site))
    found: dict[int, tuple[Site, float]] = {}
    taken = set()
    for _, alike, number, site in sorted(pairs, key=operator.itemgetter(0), reverse=True):
        if alike >= ALIKE and number not in found and site not in taken:
            found[number] = (site, alike)
            taken.add(site)
    return found


def likeness(mutant: dict[str, Any], site: Site) -> tuple[float, float]:
    """Score a site, by which candidates are ordered, and its line alone."""
    alike = difflib.SequenceMatcher(None, mutant["line"], site.line, autojunk=False).ratio()
    same_name = mutant["function"].rpartition(".")[2] == site.function.rpartition(".")[2]
    same_node = difflib.SequenceMatcher(None, mutant["node"], site.node, autojunk=False).ratio()
    near = 1 / (1 + abs(mutant["ordinal"] - site.ordinal))
    return alike + 0.3 * same_name + 0.3 * same_node + 0.1 * near, alike


def in_a_fork(
    place: Site | None, files: Sequence[str], without: Sequence[str], limit: float
) -> tuple[int | None, float, dict[str, float]]:
    """Run tests on one mutant.

    Returns
    -------
    code : int, optional
        Of the exit; None after `limit` seconds.
    seconds : float
        Of the processor.
    calls : dict
        Seconds of the processor by test, without a mutant.
    """
    if not files:
        return NO_TESTS, 0.0, {}
    folder, begin = Path(tempfile.mkdtemp(prefix="mutant-")), time.monotonic()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            os._exit(tested(place, files, without, folder))
        finally:
            os._exit(FAILED)
    ended, code = 0, None
    while not ended and time.monotonic() - begin < limit:
        time.sleep(0.05)
        ended, status, used = os.wait4(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # it, or what it left running
    if ended:
        code = os.waitstatus_to_exitcode(status)
    else:
        used = os.wait4(child, 0)[2]
    record = folder / "calls.json"
    calls = json.loads(record.read_text()) if record.exists() else {}
    shutil.rmtree(folder, ignore_errors=True)
    return code, used.ru_utime + used.ru_stime, calls


class Clock:
    """A plugin of pytest: the time of the processor, other processes included, that each test takes; inf if it fails.

    A test that hangs is made to fail, such as one of a cluster, which does not work in a fork.
    """

    def __init__(self) -> None:
        self.calls: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Time what a test does, without its fixtures."""
        begin = sum(os.times()[:4])
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.alarm(SECONDS)
        try:
            yield
        except KeyboardInterrupt as error:
            raise TimeoutError("the test hangs") from error
        finally:
            signal.alarm(0)
            self.calls[item.nodeid] = sum(os.times()[:4]) - begin

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what fails."""
        if report.failed:
            self.calls[report.nodeid] = math.inf


def tested(place: Site | None, files: Sequence[str], without: Sequence[str], folder: Path) -> int:
    """Plant the mutant in this process, run pytest in silence, and give its exit code."""
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silence, stream)
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={folder / 'tests'}"]
    if place is None:
        clock = Clock()
        code = int(pytest.main([*files, *options], plugins=[clock]))
        (folder / "calls.json").write_text(json.dumps(clock.calls))
        return code
    loaded, left_out = plant(place), [f"--deselect={test}" for test in without]
    code = int(pytest.main([*files, *options, *left_out, "-x"]))
    return code if loaded or code else NOT_LOADED


def plant(place: Site) -> list[str]:
    """Let the import of a module find its mutant; gives a list that will tell whether it was imported."""
    tree, sites = sites_of(place.module)
    for site, change in sites:
        if (site.kind, site.ordinal) == (place.kind, place.ordinal):
            change()
    file, loaded = str(Path(place.module).resolve()), []
    mutant = compile(ast.fix_missing_locations(tree), file, "exec")
    original = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> Any:
        if os.path.realpath(loader.get_filename(name)) != file:
            return original(loader, name)
        loaded.append(name)
        return mutant

    importlib.machinery.SourceFileLoader.get_code = get_code
    return loaded


if __name__ == "__main__":
    main()
