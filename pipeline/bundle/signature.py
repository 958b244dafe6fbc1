"""A detached signature of a bundle by an ssh key: hashes find accidents, this finds forgery.

`MANIFEST.json.sig` is what `ssh-keygen -Y sign -n medadapt` writes (OpenSSH, PROTOCOL.sshsig), and anyone who has
OpenSSH can check it without us. Who may sign stands in a file of the reader's own, in the form of ALLOWED SIGNERS of
ssh-keygen(1): `name@hospital ssh-ed25519 AAAA...`, a line each.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from pipeline.bundle.manifest import MANIFEST, SIGNATURE, BrokenBundle

NAMESPACE = "medadapt"
SECONDS = 60


class CannotSign(ValueError):
    """A key that does not sign; the message says what is wrong."""


def sign(bundle: Path, key: Path, project: Path) -> None:
    """Sign the manifest of a bundle with a private ssh key that asks for no passphrase, or one that an agent holds.

    Raises
    ------
    CannotSign
        If the key lies in the project or is not there, or ssh-keygen does not sign with it.
    """
    if key.resolve().is_relative_to(project.resolve()):
        raise CannotSign(f"release.signing_key: {key.name} lies in the project; move it out, or git may take it")
    if not key.is_file():
        raise CannotSign(f"release.signing_key: {key.name} is not there")
    (bundle / SIGNATURE).unlink(missing_ok=True)
    words = ["-Y", "sign", "-f", str(key.absolute()), "-n", NAMESPACE, MANIFEST]
    done = _ssh_keygen(words, bundle)
    if done is None or done.returncode:
        why = "ssh-keygen is not installed" if done is None else _last_line(done.stderr)
        raise CannotSign(f"release.signing_key: {key.name} does not sign: {why}")


def signer_of(bundle: Path, allowed: Path) -> str:
    """Check a bundle's signature, and name who signed it.

    Raises
    ------
    BrokenBundle
        If there is no signature, or it is of none of the allowed signers, or of another manifest.
    """
    if not (bundle / SIGNATURE).is_file():
        raise BrokenBundle("unsigned: nobody vouches for it; ask its source for a signed release")
    if not allowed.is_file():
        raise BrokenBundle(f"--allowed-signers: {allowed} is not there")
    signature, signers = str(bundle.absolute() / SIGNATURE), str(allowed.absolute())
    found = _ssh_keygen(["-Y", "find-principals", "-f", signers, "-s", signature], bundle)
    if found is None:
        raise BrokenBundle("ssh-keygen is not installed, so the signature cannot be checked; install OpenSSH")
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
    """Run ssh-keygen, which may not ask anything; None where there is none."""
    program = shutil.which("ssh-keygen")
    if program is None:
        return None
    quiet = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    asked: Any = {"input": given} if given is not None else {"stdin": subprocess.DEVNULL}
    done: subprocess.CompletedProcess[bytes] = subprocess.run(
        [program, *words], cwd=folder, env=quiet, capture_output=True, timeout=SECONDS, start_new_session=True, **asked
    )
    return done


def _last_line(told: bytes) -> str:
    lines = told.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it does not say why"
