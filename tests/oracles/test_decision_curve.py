"""Net benefit, AUC and Brier score of the data that dcurves ships."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from pipeline.metrics import discrimination, multilabel
from pipeline.metrics.paired_tests import auc_covariance
from pipeline.stages.calibrate.utility import decision_curve

THRESHOLDS = np.array([0.05, 0.1, 0.15, 0.2, 0.35])


def shipped(name, outcome):
    """All columns, the predictions (n,) of one marker, and events (n,)."""
    dcurves = pytest.importorskip("dcurves")
    cases = pd.read_csv(Path(dcurves.data) / f"df_{name}.csv")
    return cases, cases["cancerpredmarker"].to_numpy(), cases[outcome].to_numpy(dtype=bool)


@pytest.mark.parametrize(
    ("name", "outcome", "prevalence"), [("binary", "cancer", None), ("case_control", "casecontrol", 0.15)]
)
def test_dcurves_gives_the_same_curve(name, outcome, prevalence):
    cases, prediction, events = shipped(name, outcome)
    dcurves = pytest.importorskip("dcurves")
    theirs = dcurves.dca(cases, outcome, ["cancerpredmarker"], thresholds=THRESHOLDS, prevalence=prevalence)
    of_model = theirs.set_index("model")["net_benefit"]
    table = decision_curve(
        prediction, events, np.ones((3, len(cases))), THRESHOLDS, confidence=0.95, prevalence=prevalence
    )
    np.testing.assert_allclose(table["net_benefit"], of_model["cancerpredmarker"], atol=1e-12)
    np.testing.assert_allclose(table["treat_all"], of_model["all"], atol=1e-12)


def test_its_data_have_the_metrics_of_the_reference():
    _, prediction, events = shipped("binary", "cancer")
    weights = np.ones((3, len(events)))
    table = decision_curve(prediction, events, weights, THRESHOLDS, confidence=0.95)
    np.testing.assert_allclose(table["net_benefit"], [0.105544, 0.087407, 0.079216, 0.067333, 0.050154], atol=5e-7)
    np.testing.assert_allclose(table["treat_all"], [0.094737, 0.044444, -0.011765, -0.075, -0.323077], atol=5e-7)
    assert discrimination.roc_auc(prediction, events, weights)[0] == pytest.approx(0.860628, abs=5e-7)
    assert multilabel.brier(prediction, events, weights)[0] == pytest.approx(0.084929, abs=5e-7)
    (area,), covariance = auc_covariance(prediction[None], events)
    half = norm.ppf(0.975) * np.sqrt(covariance[0, 0])
    np.testing.assert_allclose([area - half, area + half], [0.821927, 0.899328], atol=5e-7)
