"""Normalisation statistics that are estimated on the training images."""

import pytest
import torch

from pipeline.learning.models.adabn import normalisation_statistics
from pipeline.learning.training.batch_statistics import estimate_statistics
from pipeline.learning.training.evaluation import EVALUATED_AT_ONCE
from tests.learning.training.labelled import images, labelled, network

HELD_OUT = 8  # of `labelled`


@pytest.mark.parametrize("of_views", [False, True])
def test_a_case_more_than_a_batch_is_estimated_with_the_batch(of_views):
    model = network()
    cases, _ = labelled(model, images(EVALUATED_AT_ONCE + 1 + HELD_OUT)).whole()
    assert len(cases.targets) % EVALUATED_AT_ONCE == 1
    before = normalisation_statistics(model)
    estimate_statistics(model, cases, seed=0, of_views=of_views)
    after = normalisation_statistics(model)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
