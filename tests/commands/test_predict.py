import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import expit, softmax

from pipeline.__main__ import main
from pipeline.imaging.preparation import Steps
from pipeline.learning.classifier import Classifier
from pipeline.learning.encoder import inference
from pipeline.releasing.bundle import WEIGHTS
from tests.conftest import save_nifti
from tests.releasing.test_bundle import ARGUMENTS, CLASSES, GEOMETRY, TEMPERATURE, written


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_scan_is_given_one_probability_for_each_class_or_label(tmp_path, asymmetric, activation):
    folder = written(tmp_path / "model", activation)
    scan = save_nifti(tmp_path / "scan.nii.gz", asymmetric)
    assert main(["predict", str(folder), str(scan), "--out", str(tmp_path / "found.csv")]) == 0
    [row] = pd.read_csv(tmp_path / "found.csv")[CLASSES].to_numpy()
    network = Classifier(**ARGUMENTS)
    network.load_state_dict(load_file(folder / WEIGHTS))
    inference(network)
    with torch.inference_mode():
        logits = network(torch.from_numpy(Steps(GEOMETRY).prepare_file(scan).planes)[None]).double().numpy()[0]
    expected = expit(logits / TEMPERATURE) if activation == "sigmoid" else softmax(logits / TEMPERATURE)
    np.testing.assert_allclose(row, expected)
