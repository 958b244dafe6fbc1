"""Signatures by a throw-away key of ssh, and the archive of versions."""

import shutil
import subprocess

import pytest

from pipeline.bundle.manifest import MANIFEST, SIGNATURE, BrokenBundle, verify_manifest, write_manifest
from pipeline.bundle.signature import CannotSign, sign, signer_of
from pipeline.stages.release.archive import AlreadyKept, keep
from tests.bundle.bundles import new_key

needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A key that is trusted, one that is not, and the file that says so."""
    folder = tmp_path_factory.mktemp("ssh")
    ours, theirs = new_key(folder / "ours"), new_key(folder / "theirs")
    allowed = folder / "allowed"
    allowed.write_text(f"someone@clinic {ours.with_suffix('.pub').read_text()}")
    return ours, theirs, allowed


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "model" / "models").mkdir(parents=True)
    (tmp_path / "model" / "models" / "weights").write_text("numbers")
    write_manifest(tmp_path / "model", {})
    return tmp_path / "model"


@needs_ssh
def test_a_signed_bundle_names_its_signer_and_is_still_whole(bundle, keys):
    sign(bundle, keys[0], bundle)
    assert signer_of(bundle, keys[2]) == "someone@clinic"
    verify_manifest(bundle)
    sign(bundle, keys[0], bundle)  # again, over the first one
    assert signer_of(bundle, keys[2]) == "someone@clinic"


@needs_ssh
def test_a_forger_who_writes_all_hashes_anew_is_found(bundle, keys):
    sign(bundle, keys[0], bundle)
    (bundle / "models" / "weights").write_text("other numbers")
    write_manifest(bundle, {})
    verify_manifest(bundle)  # hashes alone see nothing
    with pytest.raises(BrokenBundle, match="forged or changed"):
        signer_of(bundle, keys[2])
    sign(bundle, keys[1], bundle)
    with pytest.raises(BrokenBundle, match="a key that is not in"):
        signer_of(bundle, keys[2])


@needs_ssh
def test_a_signature_made_for_something_else_or_of_no_meaning_is_refused(bundle, keys):
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", keys[0], "-n", "file", bundle / MANIFEST], check=True)
    with pytest.raises(BrokenBundle, match="forged or changed"):
        signer_of(bundle, keys[2])
    (bundle / SIGNATURE).write_text("-----BEGIN SSH SIGNATURE-----\n")
    with pytest.raises(BrokenBundle, match="not in"):
        signer_of(bundle, keys[2])


@needs_ssh
def test_what_is_unsigned_or_asked_without_signers_is_refused(bundle, keys, tmp_path):
    with pytest.raises(BrokenBundle, match="unsigned"):
        signer_of(bundle, keys[2])
    sign(bundle, keys[0], bundle)
    with pytest.raises(BrokenBundle, match="nowhere does not exist"):
        signer_of(bundle, tmp_path / "nowhere")


@needs_ssh
def test_a_key_that_is_absent_encrypted_or_in_the_project_does_not_sign(bundle, tmp_path):
    with pytest.raises(CannotSign, match="nowhere does not exist"):
        sign(bundle, tmp_path / "nowhere", bundle)
    with pytest.raises(CannotSign, match="encrypted cannot sign: .*passphrase"):
        sign(bundle, new_key(tmp_path / "encrypted", "a phrase"), bundle)
    with pytest.raises(CannotSign, match="is inside the project; move it out"):
        sign(bundle, tmp_path / "encrypted", tmp_path)
    assert not (bundle / SIGNATURE).exists()


def test_a_version_is_kept_once_and_never_written_over(bundle, tmp_path):
    archive = tmp_path / "archive"
    assert keep(bundle, archive, "model", "1.0.0").endswith("1.0.0: archived")
    verify_manifest(archive / "model" / "1.0.0")
    assert "already archived" in keep(bundle, archive, "model", "1.0.0")
    (bundle / "models" / "weights").write_text("better numbers")
    write_manifest(bundle, {})
    with pytest.raises(AlreadyKept, match=r"another model 1\.0\.0; increase release\.version"):
        keep(bundle, archive, "model", "1.0.0")
    assert (archive / "model" / "1.0.0" / "models" / "weights").read_text() == "numbers"
    keep(bundle, archive, "model", "1.0.1")
    assert sorted(file.name for file in (archive / "model").iterdir()) == ["1.0.0", "1.0.1"]
