"""Openings of the test set, counted for each cohort."""

import numpy as np
import pandas as pd
import pytest

from pipeline.stages.calibrate.openings import count_opening, openings_of


def predictions(probability):
    return np.array([[1 - probability, probability]])


@pytest.fixture
def file(tmp_path):
    return tmp_path / "openings.csv"


def test_each_different_model_of_a_cohort_counts_once(file):
    for probability, cohort in ((0.2, "mine"), (0.2, "mine"), (0.3, "mine"), (0.2, "a, b")):
        count_opening(file, cohort, "m", predictions(probability))
    assert [openings_of(file, cohort) for cohort in ("mine", "a, b", "demo")] == [(2, 0), (1, 0), (0, 0)]


def test_line_of_an_earlier_version_gets_a_cohort_once_it_is_known(file):
    count_opening(file, "mine", "m", predictions(0.2))
    known = pd.read_csv(file).drop(columns="cohort")
    other = known.assign(predictions_sha256="f" * 64)
    pd.concat([known, other]).to_csv(file, index=False)
    assert openings_of(file, "mine") == (0, 2)
    count_opening(file, "mine", "m", predictions(0.2))
    assert openings_of(file, "mine") == (1, 1) and len(pd.read_csv(file)) == 2


def test_without_the_file_nothing_was_opened(file):
    assert openings_of(file, "mine") == (0, 0)
