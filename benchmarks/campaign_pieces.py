"""The pieces of `campaign.py`: each tries one kind of damage and yields a row of counts, or a figure."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from pipeline import digests, disk
from pipeline.__main__ import main

TELLS_SECONDS = ("data/report",)
CANARY = "CANARY"
# What is damaged, and the stage or command that reads it; a bundle is read by verify.
READERS = {
    "data/prepared/cases/*.pack": "adapt --fold 0",
    "data/prepared/index.csv": "split",
    "data/cohort/cases.csv": "split",
    "data/split/0.csv": "finetune --fold 0",
    "data/adapted/0/*": "finetune --fold 0",
    "data/folds/0/*": "calibrate",
    "data/folds/final/model.safetensors": "release",
    "data/calibrated/*": "explain",
    "data/scratch/preprocess/*.pack": "preprocess",
    "data/scratch/activations/*/*": "finetune --fold 0",
    "data/scratch/evidence/*.npz": "evidence",
    "bundle, folder": "verify",
    "bundle, zip": "verify",
}


class Project:
    """A project in a folder; stages run in forks of this process, which has imported all libraries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def repro(self) -> None:
        """Run all stages."""
        subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=self.folder, check=True)

    def outs(self) -> dict[str, str]:
        """Read the hashes of all outputs but the report, which tells seconds."""
        stages = yaml.safe_load((self.folder / "dvc.lock").read_text())["stages"].values()
        return {out["path"]: out["md5"] for one in stages for out in one["outs"] if out["path"] not in TELLS_SECONDS}

    def attempt(self, words: str) -> tuple[int, str]:
        """Run a stage or command; return the exit code (70 after a traceback) and what it printed."""
        with tempfile.TemporaryFile() as log:  # not in the project, whose disk may be full
            child = os.fork()
            if not child:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                sys.stdout = sys.stderr = os.fdopen(1, "w", buffering=1)
                os.chdir(self.folder)
                os.environ |= {"DVC_STAGE": "campaign", "MEDADAPT_BACKEND": "threading"}
                code = 70
                try:
                    code = main(words.split())
                except BaseException:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
            _, status = os.waitpid(child, 0)
            log.seek(0)
            printed = log.read().decode(errors="replace")
        return (70 if "Traceback" in printed else os.waitstatus_to_exitcode(status)), printed

    def hashes(self, words: str) -> dict[str, str]:
        """Hash what a stage writes; nothing for a command."""
        stage, _, fold = words.partition(" --fold ")
        if stage.startswith("verify"):
            return {}
        with contextlib.chdir(self.folder):
            found = disk.outputs(stage, fold)
            return {str(out): digests.hash_of(out) for out in found if out.exists()}


def flips(project: Project, tries: int, draws: random.Random) -> Iterator[tuple[str, Counter]]:
    """Flip one bit and keep the time, as a damaged disk does; then let the next stage read it."""
    with contextlib.chdir(project.folder):
        zipped = zip_of(project)
        kinds = [kind for kind in READERS if candidates(project, kind, zipped)]
        for number, kind in enumerate(kinds):
            share = tries * (number + 1) // len(kinds) - tries * number // len(kinds)
            found = candidates(project, kind, zipped)
            outcomes = Counter(flip(project, kind, draws.choice(found), draws, zipped) for _ in range(share))
            yield f"{kind}, read by {READERS[kind].split()[0]}", outcomes


def zip_of(project: Project) -> Path:
    [bundle] = [path for path in Path("data/released").iterdir() if path.is_dir()]
    return Path(shutil.make_archive(str(project.folder.parent / "bundle"), "zip", bundle))


def candidates(project: Project, kind: str, zipped: Path) -> list[Path]:
    if kind == "bundle, zip":
        return [zipped]
    pattern = "data/released/*/**/*" if kind == "bundle, folder" else kind
    return sorted(path for path in Path().glob(pattern) if path.is_file() and path.stat().st_size)


def flip(project: Project, kind: str, file: Path, draws: random.Random, zipped: Path) -> str:
    known, content = file.stat(), file.read_bytes()
    at, bit = draws.randrange(len(content)), 1 << draws.randrange(8)
    bundle = zipped if kind == "bundle, zip" else next(Path("data/released").iterdir())
    words = f"verify {bundle}" if kind.startswith("bundle") else READERS[kind]
    kept = project.folder.parent / "kept"
    outs = [Path(out) for out in project.hashes(words)]
    before = project.hashes(words)
    shutil.rmtree(kept, ignore_errors=True)
    for out in outs:
        copy(out, kept / out)
    write(file, content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :], known)
    code, printed = project.attempt(words)
    after = project.hashes(words)
    for out in outs:
        copy(kept / out, out)
    write(file, content, known)
    if code == 70:
        return "traceback"
    if code or "damaged" in printed:
        return "noticed" if code or after == before else "silent change"
    same_content = kind == "bundle, zip"  # flags and dates of a zip; verify compared every file with its hash
    return "no effect" if after == before or same_content else "silent change"


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    elif source.exists():
        target.unlink(missing_ok=True)
        shutil.copy2(source, target)


def write(file: Path, content: bytes, known: os.stat_result) -> None:
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    os.utime(file, ns=(known.st_atime_ns, known.st_mtime_ns))


def kills(
    project: Project, expected: dict[str, str], tries: int, draws: random.Random
) -> Iterator[tuple[str, Counter]]:
    """Kill `dvc repro` with all its children: at any moment, and while dvc.lock is written; then let it end."""
    lock, at_lock = project.folder / "dvc.lock", Counter()
    for number in range(tries):
        run = subprocess.Popen(
            [sys.executable, "-m", "dvc", "repro", "-q"], cwd=project.folder, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until, state = time.monotonic() + draws.uniform(3, 25), stamp(lock)
        while run.poll() is None and time.monotonic() < until:
            if number % 2 and stamp(lock) != state and number > 1:
                break
            time.sleep(0.0005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        code, printed = project.attempt("repair")
        at_lock["lock restored" if "dvc.lock was cut off" in printed else "lock whole"] += 1
        if code:
            at_lock["traceback"] += 1
    project.repro()
    found = project.outs()
    changed = [path for path in expected if found.get(path) != expected[path]]
    yield (
        f"dvc repro ({dict(at_lock)}; outs: {len(expected)})",
        Counter({"no effect": tries - len(changed), "silent change": len(changed)}),
    )


def stamp(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def disks(project: Project, folder: Path, tries: int, draws: random.Random) -> Iterator[tuple[str, Counter]]:
    """Fill the disk before a stage; then make room and run it again. The mount is seen by one process only."""
    place = folder.resolve() / "disk"
    place.mkdir(exist_ok=True)
    stages = ["cohort", "preprocess", "split", "adapt --fold 0", "finetune --fold 0", "calibrate", "explain", "release"]
    points = [(draws.choice(stages), draws.choice([0, 20_000, 60_000, 200_000])) for _ in range(tries)]
    code = "import json, sys; import campaign_pieces as c; c.fill(*json.loads(sys.argv[1]))"
    words = json.dumps([str(project.folder), str(place), points])
    script = f'mount -t tmpfs -o size=900m none {place} && exec {sys.executable} -c "$0" "$@"'
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ['PYTHONPATH']}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, code, words], env=os.environ | {"PYTHONPATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    print(done.stderr, end="", file=sys.stderr)  # what was printed where the disk is not named
    yield (
        f"stages on a full disk ({', '.join(sorted({stage for stage, _ in points}))})",
        Counter(done.stdout.split("\n")[:-1]),
    )


def fill(project: str, place: str, points: list[tuple[str, int]]) -> None:
    """Try the points inside of the mount; print an outcome a line."""
    root = Path(place, "project")
    shutil.copytree(project, root, ignore=shutil.ignore_patterns(".git", "cache"))
    one, filler = Project(root), Path(place, "filler")
    for words, room in points:
        before = one.hashes(words)
        filler.write_bytes(bytes(max(shutil.disk_usage(place).free - room, 0)))
        code, printed = one.attempt(words)
        filler.unlink()
        told = "the disk of " in printed
        if code and not told:
            print(f"{words}, {room} bytes free: {printed[-1000:]}", file=sys.stderr)
        again, _ = one.attempt(words) if code else (0, "")
        same = not again and one.hashes(words) == before
        print(
            "traceback"
            if code == 70 or (code and not told)
            else "silent change"
            if not same
            else ("no effect", "noticed")[told]
        )


def names(project: Project, folder: Path) -> Iterator[tuple[str, str]]:
    """Run a cohort whose files and patients have a name, and look for it in every file that is written anywhere."""
    raw, rng, rows = project.folder / "data/raw/clinic", np.random.default_rng(0), []
    raw.mkdir(parents=True)
    for number in range(24):
        pixels = rng.normal(90, 15, (40, 48))
        pixels[10:22, 10:22] += 90 * (number // 3 % 2)
        name = f"{CANARY}_{number}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(raw / name)
        rows.append((name, f"{CANARY} {number}", name, ("well", "ill")[number // 3 % 2], f"site {number % 3}"))
    pd.DataFrame(rows, columns=["case_id", "patient_id", "image", "label", "site"]).to_csv(
        raw / "cohort.csv", index=False
    )
    values = yaml.safe_load((project.folder / "params.yaml").read_text())
    values["cohort"] |= {"path": "data/raw/clinic", "classes": ["well", "ill"], "positive": "ill", "public": False}
    values["split"] |= {"test": "none", "test_sites": []}
    values["calibrate"] |= {"subgroups": [], "baseline": []}
    values["release"] |= {"name": "auto", "description": "auto"}
    values["report"]["title"] = "auto"
    (project.folder / "params.yaml").write_text(yaml.safe_dump(values))
    calls = folder.resolve() / "calls"
    words = ["strace", "-f", "--seccomp-bpf", "-qq", "-y", "-s", "4096", "-e", "trace=%file", "-o", str(calls)]
    subprocess.run([*words, sys.executable, "-m", "dvc", "repro", "-q"], cwd=project.folder, check=True)
    lines = [
        line
        for line in calls.read_text(errors="replace").splitlines()
        if re.search(r"O_WRONLY|O_RDWR|O_CREAT|rename|link", line)
    ]
    paths = {Path(project.folder, name) for line in lines for name in re.findall(r'"((?:[^"\\]|\\.)*)"', line)}
    private = (raw, project.folder / ".cache", Path(os.environ["MEDADAPT_KEYS"]), calls)
    written = [path for path in paths if path.is_file() and not any(path.is_relative_to(one) for one in private)]
    hits = [path for path in written if CANARY in str(path) or CANARY.encode() in path.read_bytes()]
    yield f"files with a name, of {len(written)} written anywhere but in raw, .cache and keys", str(hits or 0)


def digests_of(project: Project) -> Iterator[tuple[str, str]]:
    """Measure the check of the inputs of each stage in processor seconds, as a share of those of the stage."""
    with contextlib.chdir(project.folder):
        for record in sorted(Path("data/cost").glob("*.json")):
            stage, _, fold = record.stem.partition("_")
            if "processor_seconds" not in (known := json.loads(record.read_text())):
                continue
            began = time.process_time()
            digests.check_inputs(stage, fold)
            took, whole = time.process_time() - began, known["processor_seconds"]
            yield (
                f"processor seconds of {stage} {fold}".strip(),
                f"{took:.3f} of {whole} ({took / max(whole, 0.1):.1%})",
            )
