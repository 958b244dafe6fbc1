"""AUC and average precision beside torchmetrics and MONAI, DeLong's interval beside confidenceinterval."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from pipeline.metrics import discrimination
from pipeline.metrics.paired_tests import auc_covariance


def scored(n=300, seed=0):
    """Scores (n,) with many ties, and events (n,)."""
    rng = np.random.default_rng(seed)
    events = rng.random(n) < 0.3
    return (1 / (1 + np.exp(-rng.normal(size=n) - events))).round(2), events


def test_torchmetrics_gives_the_same_areas_under_both_curves():
    theirs = pytest.importorskip("torchmetrics.functional.classification")
    scores, events = scored()
    known, weights = (torch.tensor(scores), torch.tensor(events.astype(int))), np.ones((1, len(events)))
    assert discrimination.roc_auc(scores, events, weights)[0] == pytest.approx(
        float(theirs.binary_auroc(*known)), abs=1e-6
    )
    precision = float(theirs.binary_average_precision(*known))
    assert discrimination.average_precision(scores, events, weights)[0] == pytest.approx(precision, abs=1e-6)


def test_monai_gives_the_same_area_under_the_roc_curve():
    theirs = pytest.importorskip("monai.metrics")
    scores, events = scored()
    area = theirs.compute_roc_auc(torch.tensor(scores), torch.tensor(events.astype(int)))
    assert discrimination.roc_auc(scores, events, np.ones((1, len(events))))[0] == pytest.approx(area, abs=1e-9)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_confidenceinterval_gives_delongs_interval(confidence):
    theirs = pytest.importorskip("confidenceinterval")
    scores, events = scored()
    area, limits = theirs.roc_auc_score(events.astype(int).tolist(), scores.tolist(), confidence_level=confidence)
    (found,), covariance = auc_covariance(scores[None], events)
    half = norm.ppf((1 + confidence) / 2) * np.sqrt(covariance[0, 0])
    np.testing.assert_allclose([found, found - half, found + half], [area, *limits], atol=1e-6)
