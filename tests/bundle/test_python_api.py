"""The examples of docs/reference/python-api.md, and the predictor that notebooks use."""

import doctest
import re
import shutil

import numpy as np
import pytest
import torch

from pipeline.bundle import Prediction, Predictor
from pipeline.bundle.manifest import BrokenBundle
from tests.bundle.bundles import CALIBRATOR, CLASSES, expected, written
from tests.conftest import ROOT, save_nifti

PAGE = ROOT / "docs" / "reference" / "python-api.md"


@pytest.fixture
def bundle(tmp_path):
    torch.manual_seed(0)
    return written(tmp_path / "model")


def test_every_example_of_the_page_runs(tmp_path, monkeypatch, asymmetric):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "data" / "released" / "demo_lesion_classification", classes=("control", "lesion"))
    save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    (tmp_path / "letter.txt").write_text("Dear colleague")
    code = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    page = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, str(PAGE), 0)
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(page)
    assert found.failed == 0 and found.attempted > 20


def test_a_scan_is_predicted_as_network_and_calibrator_compute_it(bundle, tmp_path, asymmetric):
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    predictor = Predictor.from_bundle(bundle)
    found = predictor(str(scan))
    assert list(found.probabilities) == CLASSES
    np.testing.assert_array_equal(list(found.probabilities.values()), expected(bundle, scan, CALIBRATOR))
    assert (found.set, found.abstains, found.reason, found.ood_score) == ("", (), "", None)
    np.testing.assert_array_equal(
        predictor.calibrator.apply(found.output.logits[None])[0], expected(bundle, scan, CALIBRATOR)
    )


def test_a_zip_is_needed_only_while_it_is_loaded(bundle, tmp_path, asymmetric):
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    direct = Predictor.from_bundle(bundle)(scan)
    archive = shutil.make_archive(str(tmp_path / "model"), "zip", bundle)
    predictor = Predictor.from_bundle(archive)
    (tmp_path / "model.zip").unlink()
    assert predictor(scan) == direct and direct.probabilities


def test_a_scan_that_cannot_be_read_is_a_prediction_with_a_reason(bundle, tmp_path):
    found = Predictor.from_bundle(bundle)(tmp_path / "gone.nii.gz")
    assert found == Prediction(abstains=("bad image",), reason="the file does not exist; check the path")


def test_a_changed_bundle_raises(bundle):
    (bundle / "configs" / "inference.json").write_text("{}")
    with pytest.raises(BrokenBundle, match="has changed since the release"):
        Predictor.from_bundle(bundle)
