"""The pack on its way to somebody else: tagged, pushed to a real SFTP server, fetched in an empty folder, verified."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import asyncssh
import pytest
import yaml

from pipeline.__main__ import main
from tests.bundle.releases import released
from tests.conftest import ROOT

USER = "clinic"


@pytest.fixture
def sftp(tmp_path):
    """A server on loopback that lets one key in, and shows it one folder."""
    key, host = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    key.write_public_key(tmp_path / "key.pub")
    (tmp_path / "store").mkdir()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def chrooted(channel):
        return asyncssh.SFTPServer(channel, chroot=str(tmp_path / "store"))

    async def serve():
        allowed = asyncssh.import_authorized_keys((tmp_path / "key.pub").read_text())
        options = {"server_host_keys": [host], "authorized_client_keys": allowed, "sftp_factory": chrooted}
        return await asyncssh.listen("127.0.0.1", 0, **options)

    server = asyncio.run_coroutine_threadsafe(serve(), loop).result(30)
    yield server.get_port(), tmp_path / "key", tmp_path / "store"
    server.close()
    loop.call_soon_threadsafe(loop.stop)


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    environment |= {"DVC_NO_ANALYTICS": "1", "ITERATIVE_DO_NOT_TRACK": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def repository(folder: Path) -> Path:
    """A checkout whose pipeline has released a model, with the artifacts that our dvc.yaml names."""
    artifacts = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    stage = {"cmd": "true", "outs": ["data/released"]}
    folder.mkdir()
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"release": stage}, "artifacts": artifacts}))
    (folder / ".gitignore").write_text("/data/released\n")
    run(folder, "git", "init", "-q")
    for name, value in {"user.name": "a", "user.email": "a@b"}.items():
        run(folder, "git", "config", name, value)
    run(folder, "dvc", "init", "-q")
    released(folder / "data/released/model")
    run(folder, "dvc", "commit", "-q", "-f")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "release")
    return folder


def test_a_pack_that_was_pushed_by_sftp_is_fetched_by_its_tag_and_verified(sftp, tmp_path, capsys):
    port, key, store = sftp
    made = repository(tmp_path / "made")
    run(made, "dvc", "remote", "add", "-d", "hospital", f"ssh://{USER}@127.0.0.1:{port}/")
    run(made, "dvc", "remote", "modify", "hospital", "keyfile", str(key))
    run(made, "git", "commit", "-qam", "remote")
    run(made, "gto", "register", "model", "--version", "v1.0.0")
    run(made, "gto", "assign", "model", "--version", "v1.0.0", "--stage", "clinic")
    assert "pushed" in run(made, "dvc", "push")
    assert len([file for file in store.rglob("*") if file.is_file()]) > 5
    shutil.rmtree(made / ".dvc/cache")
    shutil.rmtree(made / "data")

    empty = tmp_path / "empty"
    empty.mkdir()
    run(empty, "dvc", "artifacts", "get", made.as_uri(), "model", "--stage", "clinic", "--out", "fetched")
    assert main(["verify", str(empty / "fetched/model")]) == 0
    assert "is unchanged since its release" in capsys.readouterr().out
