"""`predict --site-adapt` and `--adaptation`: limits refitted to unlabelled scans of a new site."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.bundle.layout import LIMITS
from pipeline.bundle.manifest import write_manifest
from pipeline.bundle.opening import open_bundle
from tests.bundle.bundles import written
from tests.commands.predict.limits import predicted, with_limits
from tests.conftest import save_nifti


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle with limits in a folder of this module."""
    folder = written(tmp_path_factory.mktemp("adapted") / "model")
    with_limits(folder)
    return folder


def scans_of_site(folder, count, seed, level=110.0):
    """Write scans of a hospital that is brighter than those of the development."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        save_nifti(folder / f"{number}.nii.gz", rng.normal(level, 14, (12, 14, 10)).astype(np.float32))
    return folder


def adapted(bundle, scans, out):
    return main(["predict", str(bundle), str(scans), "--site-adapt", "--out", str(out)])


def test_a_new_site_is_answered_after_adaptation_and_odd_scans_are_not(bundle, tmp_path, capsys):
    before = (bundle / "MANIFEST.json").read_bytes()
    assert adapted(bundle, scans_of_site(tmp_path / "site", 24, seed=1), tmp_path / "ours.json") == 0
    assert "out of distribution: 24 patients before, " in capsys.readouterr().out
    new = scans_of_site(tmp_path / "new", 20, seed=2)
    save_nifti(tmp_path / "odd" / "blank.nii.gz", np.ones((12, 14, 10), np.float32))
    plain = predicted(tmp_path, bundle, new)
    refitted = predicted(tmp_path, bundle, new, tmp_path / "odd", "--adaptation", tmp_path / "ours.json")
    reasons = refitted["abstains"].str.contains("out of distribution")
    assert plain["abstains"].str.contains("out of distribution").all()
    assert reasons.drop("blank.nii.gz").mean() <= 0.2 and (refitted["abstains"]["blank.nii.gz"] != "")
    assert (bundle / "MANIFEST.json").read_bytes() == before and open_bundle(bundle)


def test_scans_of_a_patient_count_once(bundle, tmp_path, capsys):
    scans = scans_of_site(tmp_path / "site", 8, seed=1)
    table = pd.DataFrame({"image": [f"{number}.nii.gz" for number in range(8)], "patient_id": list("aabbccdd")})
    table.to_csv(scans / "list.csv", index=False)
    assert adapted(bundle, scans / "list.csv", tmp_path / "ours.json") == 1
    assert "4 patients are too few; give unlabelled scans of at least 5" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values["bundle"].update(manifest="0"), "changed after it was written"),
        (lambda values: values["limits"]["detector"].update(threshold=100.0), "changed after it was written"),
        (lambda values: values.pop("limits"), "holds no limits of a site"),
    ],
)
def test_an_adaptation_that_was_changed_is_refused(bundle, tmp_path, capsys, change, told):
    out = tmp_path / "ours.json"
    assert adapted(bundle, scans_of_site(tmp_path / "site", 6, seed=1), out) == 0
    values = json.loads(out.read_text())
    change(values)
    out.write_text(json.dumps(values))
    assert main(["predict", str(bundle), str(tmp_path / "site"), "--adaptation", str(out)]) == 1
    assert told in (message := capsys.readouterr().err) and "--site-adapt" in message


def test_an_adaptation_of_another_release_is_refused(bundle, tmp_path, capsys):
    out, other = tmp_path / "ours.json", written(tmp_path / "other")
    with_limits(other)
    write_manifest(other, {"version": "2"})
    assert adapted(bundle, scans_of_site(tmp_path / "site", 6, seed=1), out) == 0
    assert main(["predict", str(other), str(tmp_path / "site"), "--adaptation", str(out)]) == 1
    assert "made for another release" in capsys.readouterr().err


def test_scans_that_look_like_another_part_of_the_body_are_refused(tmp_path, capsys):
    folder = written(tmp_path / "model")
    _, limits = with_limits(folder)
    (folder / LIMITS).write_text(json.dumps({"limits": replace(limits, foreign=1.5).as_json(), "tested": []}))
    write_manifest(folder, {})
    assert adapted(folder, scans_of_site(tmp_path / "site", 6, seed=1, level=400.0), tmp_path / "ours.json") == 1
    assert "another part of the body" in (said := capsys.readouterr().err) and "repeat with --force" in said
    assert not (tmp_path / "ours.json").exists()
    again = [
        "predict",
        str(folder),
        str(tmp_path / "site"),
        "--site-adapt",
        "--force",
        "--out",
        str(tmp_path / "o.json"),
    ]
    assert main(again) == 0 and (tmp_path / "o.json").exists()
