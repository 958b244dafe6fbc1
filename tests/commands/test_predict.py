import json

import numpy as np
import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.commands.predict import sites_of
from pipeline.releasing.bundle import METADATA, Opened
from pipeline.releasing.manifest import write_manifest
from tests.conftest import save_nifti
from tests.releasing.test_bundle import CALIBRATOR, CLASSES, expected, fitted, rewrite, written


@pytest.mark.parametrize("members", [0, 3])
@pytest.mark.parametrize(
    ("method", "activation"), [("temperature", "softmax"), ("temperature", "sigmoid"), ("platt", "softmax")]
)
def test_a_scan_is_given_one_probability_for_each_class_or_label(tmp_path, asymmetric, method, activation, members):
    calibrator = fitted(method, activation)
    folder = written(tmp_path / "model", calibrator, members)
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(folder), str(scan), "--out", str(tmp_path / "found.csv")]) == 0
    found = pd.read_csv(tmp_path / "found.csv")
    [row] = found[CLASSES].to_numpy()
    assert found["model_status"].tolist() == ["candidate"]
    np.testing.assert_array_equal(row, expected(folder, scan, calibrator))
    assert np.ptp(row) > 0.01


def test_a_release_from_before_there_were_other_maps_is_opened_and_judges_as_it_did(tmp_path, asymmetric):
    folder = written(tmp_path / "model")
    old = {"method": "temperature", "temperature": CALIBRATOR["temperature"]}
    rewrite(folder, METADATA, lambda values: [values.pop("released"), values.update(calibration=old)])
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(folder), str(scan), "--out", str(tmp_path / "found.csv")]) == 0
    [row] = pd.read_csv(tmp_path / "found.csv")[CLASSES].to_numpy()
    np.testing.assert_array_equal(row, expected(folder, scan, CALIBRATOR))


def test_a_map_that_this_version_does_not_know_is_refused_with_the_cure(tmp_path, asymmetric, capsys):
    values = {"method": "splines", "activation": "softmax", "knots": [1.0]}
    folder = written(tmp_path / "model", fitted("platt"))
    for file in (folder / "configs").glob("*.json"):
        text = file.read_text().replace(json.dumps(fitted("platt")), json.dumps(values))
        file.write_text(text)
    rewrite(folder, METADATA, lambda content: content.update(calibration=values))
    write_manifest(folder, {})
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(folder), str(scan)]) == 1
    assert "splines" in (message := capsys.readouterr().err) and "update medadapt" in message


def test_the_sites_of_an_ensemble_are_those_that_any_member_knows(tmp_path):
    members = [{"sites": ["north", "south"]}, {}, {"sites": ["south", "west"]}]
    bundle = Opened({}, {"members": members}, tmp_path, {}, [], "volume", "candidate")
    assert sites_of(bundle) == ["north", "south", "west"]
