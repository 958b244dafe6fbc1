"""The interval of what the image adds to columns, for numbers and times."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.regression.errors import mae
from pipeline.metrics.wording import BOTH, COLUMNS, IMAGE
from pipeline.stages.calibrate.one_output_tables import increment_rows

N, FOLDS, BOOTSTRAP = 60, 5, Bootstrap(200, 0.95, 0)


def evaluated(folds):
    """Simulate predictions from columns, the image and both, of one image a patient."""
    rng = np.random.default_rng(0)
    true, patients = rng.normal(size=N), np.array([f"p{number}" for number in range(N)])

    def predicted(error, **parts):
        return SimpleNamespace(
            values=true + rng.normal(0, error, N), true=true, patients=patients, folds=folds, parts=parts
        )

    return predicted(0.5, **{COLUMNS: predicted(1.0), IMAGE: predicted(0.8)})


def gain_and_draws(folds):
    cases = evaluated(folds)
    rows = increment_rows(cases, lambda one: {"mae": partial(mae, one.values, one.true)}, ("mae",), BOOTSTRAP)
    row = next(row for row in rows if (row["prediction"], row["over"]) == (BOTH, COLUMNS))
    lost = [mae(one.values, one.true, BOOTSTRAP.weights(cases.patients)) for one in (cases.parts[COLUMNS], cases)]
    return row, lost[0] - lost[1]


def test_a_gain_of_one_model_has_the_spread_of_drawn_patients():
    row, drawn = gain_and_draws(np.full(N, "0"))
    spread = np.std(drawn[1:], ddof=1) * np.sqrt(N / (N - 1)) * t.ppf(0.975, N - 1)
    assert row["mae"] == pytest.approx(drawn[0], abs=1e-5)
    assert row["mae_upper"] - row["mae_lower"] == pytest.approx(2 * spread, rel=1e-3)


def test_a_gain_of_folds_is_widened_by_a_share_of_their_coupling():
    row, drawn = gain_and_draws(np.array([str(number % FOLDS) for number in range(N)]))
    spread = np.std(drawn[1:], ddof=1) * np.sqrt(N / (N - 1) * (1 + 0.35 * FOLDS / (FOLDS - 1))) * t.ppf(0.975, N - 1)
    assert row["mae_upper"] - row["mae_lower"] == pytest.approx(2 * spread, rel=1e-3)
