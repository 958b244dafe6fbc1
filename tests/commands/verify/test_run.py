import hashlib
import io
import json
import pickle
import random
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from pipeline.__main__ import main
from pipeline.bundle.layout import CARD, EXPECTED, INFERENCE, LIMITS, METADATA, STATE_DICT, STATUS, WEIGHTS
from pipeline.bundle.manifest import MANIFEST, SEAL, sha256_of, write_manifest
from pipeline.bundle.signature import sign
from pipeline.commands.verify import run
from pipeline.stages.release.card import missing_sections
from tests.bundle.bundles import new_key
from tests.bundle.releases import GATES, TITLES, released
from tests.conftest import save_nifti

REFUSED = {"phantom_1.nii.gz": {"refused": "x"}}


@pytest.fixture
def bundle(tmp_path):
    return released(tmp_path / "model")


def forge(bundle, file, change):
    """Change plain values as a forger would, who writes all hashes anew."""
    values = json.loads((bundle / file).read_text())
    change(values)
    (bundle / file).write_text(json.dumps(values))
    write_manifest(bundle, {})


def verdicts(bundle, capsys):
    """The exit code, and the checks that failed with what they said."""
    capsys.readouterr()
    code = main(["verify", str(bundle)])
    lines = [line.partition(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    return code, dict(line.split(": ", 1) for line in lines)


def test_a_bundle_as_it_was_released_passes_every_check_and_both_commands(bundle, tmp_path, asymmetric, capsys):
    assert main(["verify", str(bundle)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("passed: ") == 9 and "FAILED" not in printed
    assert "2 simulated scans in the bundle were predicted again as at the release: outputs differ by 0; 0" in printed
    assert "its authors left 1 field of it empty, marked" in printed and "model status: candidate" in printed
    assert main(["predict", str(bundle), str(save_nifti(tmp_path / "scan.nii.gz", asymmetric))]) == 0


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")
def test_the_signer_is_named_and_an_untrusted_one_refused_unopened(bundle, tmp_path, capsys):
    key, allowed = new_key(tmp_path / "key"), tmp_path / "allowed"
    allowed.write_text(f"someone@clinic {key.with_suffix('.pub').read_text()}")
    asked = ["verify", str(bundle), "--allowed-signers", str(allowed)]
    assert main(["verify", str(bundle)]) == 0 and "unsigned: hashes detect" in capsys.readouterr().out
    assert main(asked) == 3 and "FAILED: signature: unsigned" in capsys.readouterr().out
    sign(bundle, key, bundle)
    assert main(["verify", str(bundle)]) == 0 and "the signer was not checked" in capsys.readouterr().out
    assert main(asked) == 0 and "passed: signature: by someone@clinic" in capsys.readouterr().out
    (bundle / CARD).write_text((bundle / CARD).read_text() + "forged")
    write_manifest(bundle, {})
    assert main(["verify", str(bundle)]) == 0 and main(asked) == 3
    printed = capsys.readouterr()
    assert "FAILED: signature: the signature in the name of someone@clinic" in printed.out
    assert "a trusted signer; it was not opened" in printed.err and printed.out.count("configuration") == 1


def test_a_changed_byte_is_refused_by_verify_and_predict_unopened(bundle, tmp_path, asymmetric, capsys, monkeypatch):
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    files = sorted(file for file in bundle.rglob("*") if file.is_file())
    draw = random.Random(0)
    places = [(file, draw.randrange(file.stat().st_size)) for file in [*files, *draw.choices(files, k=20)]]
    assert len(places) > 28 and {bundle / MANIFEST, bundle / SEAL} < set(files)
    monkeypatch.setattr("pipeline.bundle.scoring.load_file", lambda *_: pytest.fail("weights were opened"))
    monkeypatch.setattr("pipeline.bundle.opening.calibrator_in", lambda *_: pytest.fail("metadata were opened"))
    for file, place in places:
        content = file.read_bytes()
        file.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        for words in (["verify", str(bundle)], ["predict", str(bundle), str(scan)]):
            capsys.readouterr()
            assert main(words) == (3 if words[0] == "verify" else 1), (file, place)
            printed = capsys.readouterr()
            assert "has changed since the release" in printed.out + printed.err, (file, place)
            assert "passed" not in printed.out
        file.write_bytes(content)
    monkeypatch.undo()
    assert main(["verify", str(bundle)]) == 0


@pytest.mark.parametrize("name", ["models/more.py", "unlisted.txt", "phantoms/phantom_3.nii.gz", "a folder"])
def test_a_file_or_a_link_that_is_not_in_the_manifest_is_refused(bundle, tmp_path, capsys, name):
    if name == "a folder":
        (bundle / name).symlink_to(tmp_path)
    else:
        (bundle / name).write_text("x")
    code, failed = verdicts(bundle, capsys)
    assert code == 3 and list(failed) == ["checksums"] and "not part of this bundle" in failed["checksums"]


@pytest.mark.parametrize("name", [MANIFEST, SEAL, str(EXPECTED), str(WEIGHTS)])
def test_a_file_that_is_gone_is_refused(bundle, capsys, name):
    (bundle / name).unlink()
    code, failed = verdicts(bundle, capsys)
    assert code == 3 and "missing" in failed["checksums"] and name in failed["checksums"]


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", '{"files": 3}', "{", "\xff"])
def test_a_manifest_that_cannot_be_read_is_refused_though_its_hash_holds(bundle, capsys, text):
    (bundle / MANIFEST).write_bytes(text.encode("latin-1"))
    (bundle / SEAL).write_text(f"{sha256_of(bundle / MANIFEST)}  {MANIFEST}\n")
    code, failed = verdicts(bundle, capsys)
    assert code == 3 and "unreadable" in failed["checksums"]


def test_the_hash_of_the_manifest_is_one_that_sha256sum_reads(bundle):
    digest, name = (bundle / SEAL).read_text().split("  ")
    assert name == f"{MANIFEST}\n" and digest == hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()


def off(by):
    """Move the first logit of the first phantom."""

    def change(values):
        logits = values["scans"]["phantom_1.nii.gz"]["logits"]
        logits[0] = float(np.nextafter(np.float32(logits[0]), np.float32(9e9))) if by is None else logits[0] + by

    return change


def elsewhere(values):
    values["computed_on"]["processor"] = "another"


def other_metadata(**changes):
    return lambda values: values.update(changes)


@pytest.mark.parametrize(
    ("file", "changes", "check", "told"),
    [
        (EXPECTED, [off(None)], "same predictions", "0 is allowed on a processor of the same kind"),
        (EXPECTED, [off(2e-3), elsewhere], "same predictions", "0.001 is allowed on another kind"),
        (EXPECTED, [off(float("nan"))], "same predictions", "not a finite number"),
        (
            EXPECTED,
            [lambda v: v["scans"].update({"phantom_1.nii.gz": {"refused": "x"}})],
            "same predictions",
            "differ by inf",
        ),
        (EXPECTED, [lambda v: v["scans"].clear()], "same predictions", "empty"),
        (EXPECTED, [lambda v: v["scans"].update({"../model.pt": {"logits": []}})], "same predictions", "Invalid name"),
        (METADATA, [other_metadata(version=3)], "metadata", "version: 3 is not of type 'string'"),
        (METADATA, [lambda v: v.pop("copyright")], "metadata", "'copyright' is a required property"),
        (METADATA, [other_metadata(status="validated")], "status", "disagree"),
        (METADATA, [other_metadata(gates=GATES[:1])], "status", "disagree"),
        (INFERENCE, [lambda v: v["network_def"].update(_target_="os.system")], "configuration", "not allowed"),
    ],
)
def test_what_a_forger_changes_fails_its_own_check_though_every_hash_holds(bundle, capsys, file, changes, check, told):
    for change in changes:
        forge(bundle, file, change)
    code, failed = verdicts(bundle, capsys)
    assert code == 3 and told in failed[check]
    # a configuration that is refused is not run
    assert set(failed) <= {check, "same predictions", "predictions"} | ({"other files"} if "finite" in told else set())


def test_last_bits_may_differ_on_another_processor(bundle, capsys):
    for change in (off(5e-4), elsewhere):
        forge(bundle, EXPECTED, change)
    assert verdicts(bundle, capsys) == (0, {})


def test_other_weights_are_found_by_what_they_make_of_the_phantoms(bundle, capsys):
    state = load_file(bundle / WEIGHTS)
    save_file({**state, "head.bias": state["head.bias"] + 0.01}, bundle / WEIGHTS)
    write_manifest(bundle, {})
    code, failed = verdicts(bundle, capsys)
    assert code == 3 and list(failed) == ["state dict", "same predictions"] and "0.01" in failed["same predictions"]
    assert "models/model.pt has another value of head.bias" in failed["state dict"]


@pytest.mark.parametrize("title", TITLES)
def test_a_card_without_a_section_or_a_word_in_it_is_not_complete(bundle, capsys, title):
    text = (bundle / CARD).read_text()
    assert missing_sections(text) == []
    for change in (f"## {title}\n\n\n", f"### {title}\n\nwords\n"):
        assert missing_sections(text.replace(f"## {title}\n\nwords\n", change)) == [title]


def test_status_must_follow_from_the_gates_and_stand_in_the_card(bundle, capsys):
    (bundle / CARD).write_text((bundle / CARD).read_text().replace("candidate", "validated"))
    write_manifest(bundle, {})
    assert "does not state the status 'candidate'" in verdicts(bundle, capsys)[1]["status"]
    (bundle / STATUS).write_text((bundle / STATUS).read_text().replace("candidate", "validated"))
    forge(bundle, METADATA, other_metadata(status="validated"))
    assert "contradicts the missed gates: events" in verdicts(bundle, capsys)[1]["status"]


def test_the_distance_of_two_outcomes_is_that_of_their_furthest_logit():
    assert run.distance({"logits": [1.0, 2.0]}, {"logits": [1.5, 1.0]}) == 1.0
    assert run.distance({"refused": "a"}, {"refused": "a"}) == 0.0
    assert run.distance({"refused": "a"}, {"refused": "b"}) == np.inf


class Mark:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return open, (self.file, "w")


def hostile_weights(kind, mark):
    if kind == "pickle":
        return pickle.dumps(Mark(mark))
    if kind == "pickle in a zip":
        stream = io.BytesIO()
        torch.save(Mark(mark), stream)
        return stream.getvalue()
    if kind == "oversized header":
        return (1 << 60).to_bytes(8, "little") + b"{}"
    return safetensors.torch.save({"other": torch.zeros(3)})


@pytest.mark.parametrize("kind", ["pickle", "pickle in a zip", "oversized header", "of another network"])
def test_malicious_weights_with_valid_hashes_are_refused_and_run_nothing(bundle, tmp_path, asymmetric, capsys, kind):
    (bundle / WEIGHTS).write_bytes(hostile_weights(kind, tmp_path / "mark"))
    write_manifest(bundle, {})
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    for command in (["verify", str(bundle)], ["predict", str(bundle), str(scan)]):
        capsys.readouterr()
        assert main(command) == (3 if command[0] == "verify" else 1)
        printed = capsys.readouterr()
        assert "does not fit the network" in printed.out + printed.err
    assert not (tmp_path / "mark").exists()


def test_a_bundle_in_a_zip_is_verified_and_used_as_it_is(bundle, tmp_path, asymmetric, capsys):
    zipped = shutil.make_archive(str(tmp_path / "packed"), "zip", bundle.parent, bundle.name)
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    for name in (str(bundle), zipped):
        assert main(["verify", name]) == 0
        assert f"{name} is unchanged since its release" in capsys.readouterr().out
        assert main(["predict", name, str(scan), "--out", str(tmp_path / f"{Path(name).suffix}.csv")]) == 0
    assert (tmp_path / ".csv").read_text() == (tmp_path / ".zip.csv").read_text()


def test_a_zip_is_refused_once_a_bit_of_any_file_in_it_has_changed(bundle, tmp_path, capsys):
    zipped = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", bundle.parent, bundle.name))
    content, draw, released, refused = zipped.read_bytes(), random.Random(0), files_in(zipped), 0
    with zipfile.ZipFile(zipped) as archive:
        entries = [entry for entry in archive.infolist() if entry.compress_size]
    for entry in draw.choices(entries, k=20):
        begin = entry.header_offset + 30 + len(entry.filename)
        changed = bytearray(content)
        changed[begin + draw.randrange(entry.compress_size)] ^= 1 << draw.randrange(8)
        zipped.write_bytes(changed)
        same = files_in(zipped) == released  # a bit that only pads the compressed stream
        assert main(["verify", str(zipped)]) == (0 if same else 3), entry.filename
        assert "Traceback" not in capsys.readouterr().err
        refused += not same
    assert refused > 15


def files_in(zipped):
    """Read what a zip holds; None if it cannot be read."""
    try:
        with zipfile.ZipFile(zipped) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error):
        return None


class Runs:
    """What a pickle may do when it is opened."""

    def __reduce__(self):
        return (Path.touch, (Path("PWNED"),))


def state_of_others(bundle):
    state = load_file(bundle / WEIGHTS)
    name = next(iter(state))
    return state | {name: state[name] + 1}


FORGED = {
    "a pickle that runs code": lambda bundle: (bundle / STATE_DICT).write_bytes(pickle.dumps(Runs())),
    "a state dict of another model": lambda bundle: torch.save(state_of_others(bundle), bundle / STATE_DICT),
    "a state dict of other tensors": lambda bundle: torch.save({"a": torch.zeros(1)}, bundle / STATE_DICT),
    "deep limits": lambda bundle: (bundle / LIMITS).write_text("[" * 200_000),
    "limits of NaN": lambda bundle: (bundle / LIMITS).write_text('{"limits": NaN}'),
    "limits of an infinite number": lambda bundle: (bundle / LIMITS).write_text('{"limits": 1e999}'),
    "limits of something else": lambda bundle: (bundle / LIMITS).write_text('{"limits": []}'),
    "a deep reference": lambda bundle: (bundle / "monitoring/reference.json").write_text("[" * 60 + "]" * 60),
    "deep metadata": lambda bundle: (bundle / METADATA).write_text('{"a":' * 200_000),
    "a deep configuration": lambda bundle: (bundle / INFERENCE).write_text("[" * 200_000 + "]" * 200_000),
    "weights of NaN": lambda bundle: save_file(
        {name: value * float("nan") for name, value in load_file(bundle / WEIGHTS).items()}, bundle / WEIGHTS
    ),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_what_a_forger_resealed_fails_verify_and_no_command_crashes(
    bundle, tmp_path, asymmetric, capsys, monkeypatch, forgery
):
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    monkeypatch.chdir(tmp_path)
    (bundle / "monitoring").mkdir()
    FORGED[forgery](bundle)
    write_manifest(bundle, {})
    code, failed = verdicts(bundle, capsys)
    assert code == 3 and failed
    unread = {"a pickle that runs code", "a deep reference", *(name for name in FORGED if "state dict" in name)}
    assert main(["predict", str(bundle), str(scan)]) == (0 if forgery in unread else 1)
    assert not Path("PWNED").exists()
