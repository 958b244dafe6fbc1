"""Opening a bundle: unchanged ones are read back, and whatever is changed or would run code is refused."""

import pytest

from pipeline.bundle.layout import (
    ENSEMBLE,
    INFERENCE,
    METADATA,
    SCHEMA,
    STATE_DICT,
    WEIGHTS,
    calibration_steps,
)
from pipeline.bundle.manifest import LARGEST, MANIFEST, BrokenBundle, write_manifest
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.transforms import PrepareScand
from pipeline.imaging.preparation.preprocessor import Preprocessor
from tests.bundle.bundles import ARGUMENTS, CALIBRATOR, CLASSES, GEOMETRY, TEMPERATURE, fitted, rewrite, written


def test_an_opened_bundle_is_what_was_written(bundle):
    opened = open_bundle(bundle)
    assert PrepareScand(**opened.preparation).steps == Preprocessor(GEOMETRY)
    assert (opened.network, opened.calibrator, opened.classes) == (ARGUMENTS, CALIBRATOR, CLASSES)
    assert (opened.kind, opened.status) == ("volume", "candidate")


def test_an_opened_ensemble_has_its_members_and_the_map_of_their_mean(tmp_path):
    opened = open_bundle(written(tmp_path / "model", fitted("platt"), 2))
    assert opened.network == {"members": [ARGUMENTS, ARGUMENTS]} and opened.calibrator == fitted("platt")


def test_a_missing_or_unknown_activation_is_refused(bundle):
    old = {"method": "temperature", "temperature": TEMPERATURE}
    rewrite(bundle, METADATA, lambda values: values.update(calibration=old))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
        open_bundle(bundle)
    rewrite(bundle, METADATA, lambda values: values["calibration"].update(activation="relu"))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", [str(WEIGHTS), str(STATE_DICT), str(METADATA), str(INFERENCE), str(SCHEMA)])
def test_one_changed_byte_in_any_file_is_refused_by_the_files_name(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BrokenBundle, match=name):
        open_bundle(bundle)


def test_a_missing_an_added_file_and_no_manifest_are_refused(bundle):
    (bundle / "models" / "extra.pt").write_text("x")
    with pytest.raises(BrokenBundle, match="not part of this bundle"):
        open_bundle(bundle)
    (bundle / "models" / "extra.pt").unlink()
    (bundle / STATE_DICT).unlink()
    with pytest.raises(BrokenBundle, match="missing"):
        open_bundle(bundle)
    (bundle / "MANIFEST.json").unlink()
    with pytest.raises(BrokenBundle, match="missing or unreadable"):
        open_bundle(bundle)
    with pytest.raises(BrokenBundle, match="there is no bundle"):
        open_bundle(bundle / "nowhere")


def hostile(mark):
    evil = f"$__import__('pathlib').Path({str(mark)!r}).touch()"
    call = {"_target_": "os.system", "command": f"touch {mark}"}
    return {
        "transform": lambda v: v["preprocessing"]["transforms"][0].update(_target_="os.system"),
        "network": lambda v: v["network_def"].update(_target_="os.system"),
        "expression in a transform": lambda v: v["preprocessing"]["transforms"][0].update(keys=evil),
        "expression in the network": lambda v: v["network_def"].update(encoder=evil),
        "nested target": lambda v: v["network_def"].update(mean=call),
        "target in a list": lambda v: v["network_def"].update(mean=[call]),
        "target in a member": lambda v: v["network_def"].update(members=[call], _target_=ENSEMBLE),
        "members of another network": lambda v: v["network_def"].update(members=[ARGUMENTS]),
        "a classifier's arguments in an ensemble": lambda v: v["network_def"].update(_target_=ENSEMBLE),
        "calibrator": lambda v: v["postprocessing"]["transforms"][1].update(other=call),
        "another temperature": lambda v: v["postprocessing"]["transforms"][0].update(factor=0.0),
        "dataset": lambda v: v["dataset"].update(_target_="os.system"),
        "handler": lambda v: v["handlers"].append(call),
        "expression before the run": lambda v: v["run"].insert(0, evil),
        "import": lambda v: v.update(imports=["$import os"]),
        "macro of another file": lambda v: v.update(more=f"%{mark}#0"),
        "a further step": lambda v: v["postprocessing"]["transforms"].append({"_target_": "Lambdad", "func": evil}),
    }


@pytest.mark.parametrize("kind", hostile("x"))
def test_a_bundle_that_would_run_code_is_refused_and_runs_none(bundle, tmp_path, kind):
    rewrite(bundle, INFERENCE, hostile(tmp_path / "mark")[kind])
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)
    assert not (tmp_path / "mark").exists()


def test_metadata_that_would_run_code_are_refused(bundle, tmp_path):
    rewrite(bundle, METADATA, lambda values: values.update(description=f"$open({str(tmp_path / 'mark')!r}, 'w')"))
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["configs/logging.conf", "scripts/run.py", "models/model.pkl", "hubconf.py"])
def test_an_unknown_file_is_refused_even_if_its_hash_matches(bundle, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("[loggers]")
    write_manifest(bundle, {})
    with pytest.raises(BrokenBundle, match=f"{name} is not one of the files"):
        open_bundle(bundle)


@pytest.mark.parametrize("value", [{"_target_": "os.system", "command": "true"}, "$1 + 1"])
def test_a_map_that_would_run_code_is_refused_though_both_files_agree(tmp_path, value):
    bundle = written(tmp_path / "model", fitted("platt"))
    rewrite(bundle, METADATA, lambda values: values["calibration"].update(more=[value]))
    [step] = calibration_steps(fitted("platt") | {"more": [value]})
    rewrite(bundle, INFERENCE, lambda values: values["postprocessing"].update(transforms=[step]))
    with pytest.raises(BrokenBundle, match="not allowed"):
        open_bundle(bundle)


def test_a_second_transform_is_refused(bundle):
    rewrite(bundle, INFERENCE, lambda values: values["preprocessing"]["transforms"].append({"_target_": "Flipd"}))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
        open_bundle(bundle)


def test_another_projects_bundle_is_refused_with_the_reason(bundle):
    rewrite(bundle, METADATA, lambda values: values.pop("calibration"))
    with pytest.raises(BrokenBundle, match="not written by medadapt"):
        open_bundle(bundle)


@pytest.mark.parametrize("old", ["pipeline.learning.classifier.Classifier", "pipeline.learning.adapting.Anything"])
def test_a_bundle_from_before_the_public_names_is_refused_with_what_to_do(bundle, old):
    (bundle / "configs" / "limits_of_use.json").write_text("{}")  # every release of those versions has it
    rewrite(bundle, INFERENCE, lambda values: values["network_def"].update(_target_=old))
    with pytest.raises(BrokenBundle, match="earlier version of medadapt.*Release the model again"):
        open_bundle(bundle)


def test_a_manifest_of_absurd_size_is_refused_before_it_is_read(bundle):
    with (bundle / MANIFEST).open("r+b") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(BrokenBundle, match="missing or unreadable"):
        open_bundle(bundle)
