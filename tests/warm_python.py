"""A Python that has imported torch and DVC: `medadapt`, `python -m pipeline` and `dvc` are forks of it.

A page has dozens of commands and a run has a process for each stage; each would spend seconds on imports.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT

CLIENT = """
import json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect(sys.argv[1])
asked = json.dumps({"words": sys.argv[2:], "cwd": os.getcwd(), "environment": dict(os.environ)})
socket.send_fds(line, [asked.encode()], [0, 1, 2])
answers = line.makefile()
worker = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(worker, number))
sys.exit(int(answers.readline() or 1))
"""
PROGRAMS = {
    "medadapt": 'exec {client} pipeline "$@"\n',
    "dvc": 'exec {client} dvc.cli "$@"\n',
    "python": """case "$1 $2" in
"-m pipeline") shift 2; exec {client} pipeline "$@" ;;
"-m dvc") shift 2; exec {client} dvc.cli "$@" ;;
esac
exec {python} "$@"
""",
}
STAGES = [f"pipeline.stages.{file.parent.name}.run" for file in sorted((ROOT / "pipeline/stages").glob("*/run.py"))]
IMPORTED = ["pipeline.__main__", *STAGES, "pipeline.commands.predict.run", "dvc.cli", "dvc.repo", "dvc.commands.repro"]


@contextmanager
def warm_python(folder: Path) -> Iterator[Path]:
    """Fill a folder, the `bin` of a virtual environment, and answer its programs until the end."""
    (folder / "client.py").write_text(CLIENT)
    for program in Path(sys.executable).parent.iterdir():
        if program.name not in PROGRAMS and not program.name.startswith("python"):
            (folder / program.name).symlink_to(program)
    client = f"{sys.executable} -SE {folder}/client.py {folder}/socket"
    for name, script in PROGRAMS.items():
        (folder / name).write_text("#!/bin/sh\n" + script.format(client=client, python=sys.executable))
        (folder / name).chmod(0o755)
    server = subprocess.Popen([sys.executable, "-m", "tests.warm_python", folder], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert server.stdout and server.stdout.readline() == b"ready\n"
        yield folder
    finally:
        server.kill()
        server.wait()


def serve(folder: Path) -> None:
    """Import everything once, then fork for each call."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(folder / "socket"))
        door.listen()
        print("ready", flush=True)
        while True:
            line, _ = door.accept()
            if not os.fork():
                door.close()
                answer(line, folder)
            line.close()


def answer(line: socket.socket, folder: Path) -> None:
    """Run one call in a process of its own and send its number and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asked, files, *_ = socket.recv_fds(line, 1 << 20, 3)
    worker = os.fork()
    if worker:
        line.sendall(f"{worker}\n".encode())
        line.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])}\n".encode())
        os._exit(0)
    line.close()
    call = json.loads(asked)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["environment"])
    module, *words = call["words"]
    sys.argv, sys.executable = [module.split(".")[0], *words], str(folder / "python")
    code = 1
    try:
        code = importlib.import_module("pipeline.__main__" if module == "pipeline" else module).main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)  # to take all the modules apart would take a second


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
