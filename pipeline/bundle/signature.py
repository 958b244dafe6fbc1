"""Sign a bundle with an ssh key, and verify its signature.

Hashes detect accidents; a signature detects forgery, too. `ssh-keygen -Y sign -n medadapt` writes `MANIFEST.json.sig`
(OpenSSH, PROTOCOL.sshsig), so anyone with OpenSSH can verify it without medadapt. The reader keeps a file of allowed
signers in the format ALLOWED SIGNERS of ssh-keygen(1), a line each: `name@hospital ssh-ed25519 AAAA...`.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pipeline.bundle.manifest import MANIFEST, SIGNATURE, BrokenBundle, readable

NAMESPACE = "medadapt"
SECONDS = 60


class CannotSign(ValueError):
    """A key that cannot sign; the message says why."""


def sign(bundle: Path, key: Path, project: Path) -> None:
    """Sign the manifest of a bundle with a private ssh key that has no passphrase or is held by an agent.

    Raises
    ------
    CannotSign
        If the key is inside the project or missing, or ssh-keygen cannot sign with it.
    """
    if key.resolve().is_relative_to(project.resolve()):
        raise CannotSign(
            f"release.signing_key: {key.name} is inside the project; move it out, so that git cannot commit it"
        )
    if not key.is_file():
        raise CannotSign(f"release.signing_key: {key.name} does not exist; check the path")
    (bundle / SIGNATURE).unlink(missing_ok=True)
    words = ["-Y", "sign", "-f", str(key.absolute()), "-n", NAMESPACE, MANIFEST]
    done = _ssh_keygen(words, bundle)
    if done is None or done.returncode:
        why = "ssh-keygen is not installed" if done is None else _last_line(done.stderr)
        raise CannotSign(f"release.signing_key: {key.name} cannot sign: {why}")


def signer_of(bundle: Path, allowed: Path) -> str:
    """Verify a bundle's signature, and return the signer's name.

    Raises
    ------
    BrokenBundle
        If there is no signature, or it is not by an allowed signer, or not of this manifest.
    UnreadableBundle
        If the file of allowed signers cannot be read.
    """
    if not (bundle / SIGNATURE).is_file():
        raise BrokenBundle("unsigned: the signer is unknown; ask its source for a signed release")
    with readable(allowed):
        allowed.open("rb").close()
    signature, signers = str(bundle.absolute() / SIGNATURE), str(allowed.absolute())
    found = _ssh_keygen(["-Y", "find-principals", "-f", signers, "-s", signature], bundle)
    if found is None:
        raise BrokenBundle("ssh-keygen is not installed, so the signature cannot be verified; install OpenSSH")
    names = found.stdout.decode(errors="replace").splitlines()
    if found.returncode or not names:
        raise BrokenBundle(f"signed by a key that is not in {allowed}; do not trust it")
    name = names[0].split(",")[0]
    words = ["-Y", "verify", "-f", signers, "-I", name, "-n", NAMESPACE, "-s", signature]
    done = _ssh_keygen(words, bundle, (bundle / MANIFEST).read_bytes())
    if done is None or done.returncode:
        raise BrokenBundle(f"the signature in the name of {name} is not of this {MANIFEST}: it was forged or changed")
    return name


def _ssh_keygen(
    words: list[str], folder: Path, given: bytes | None = None
) -> subprocess.CompletedProcess[bytes] | None:
    """Run ssh-keygen without prompts; None if it is not installed."""
    program = shutil.which("ssh-keygen")
    if program is None:
        return None
    quiet = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    asked: Any = {"input": given} if given is not None else {"stdin": subprocess.DEVNULL}
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [program, *words], cwd=folder, env=quiet, capture_output=True, timeout=SECONDS, start_new_session=True, **asked
    )
    return done


def _last_line(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it gives no reason"
