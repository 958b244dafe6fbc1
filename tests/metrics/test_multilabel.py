"""Several labels a case: against scikit-learn label by label, and against the metrics of two classes."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as oracle

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.metrics.calibration import evaluated_confidence
from pipeline.metrics.multilabel import PER_LABEL, macro_auc, per_label, summarise_labels
from pipeline.metrics.summary import BadProbabilities, reliability, summarise

NAMES = ["edema", "mass", "nodule"]
SETTINGS = {"bins": 10, "bootstrap": Bootstrap(200, 0.95, 0)}


def sample(n=150, n_labels=3, unknown=0.2, seed=0):
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(-0.5, 1.5, (n, n_labels)))
    labels = (rng.random(p.shape) < p).astype(float)
    labels[rng.random(p.shape) < unknown] = np.nan
    return p, labels, np.array([f"p{i // 2}" for i in range(n)])


def test_macro_metrics_equal_scikit_learns_on_known_cases_of_each_label():
    p, labels, patients = sample()
    found = summarise_labels(p, labels, patients, NAMES, **SETTINGS)
    oracles = {"auc": oracle.roc_auc_score, "log_loss": oracle.log_loss, "brier": oracle.brier_score_loss}
    for name, metric in oracles.items():
        known = [np.isfinite(column) for column in labels.T]
        each = [metric(labels[mask, c], p[mask, c]) for c, mask in enumerate(known)]
        assert found[name]["value"] == pytest.approx(np.mean(each), abs=1e-6), name
        assert found[name]["lower"] < found[name]["value"] < found[name]["upper"]


def test_one_label_that_is_always_known_has_the_metrics_of_two_classes():
    p, labels, patients = sample(n_labels=1, unknown=0)
    both = summarise(np.hstack([1 - p, p]), labels[:, 0].astype(int), patients, **SETTINGS)
    alone = summarise_labels(p, labels, patients, ["edema"], **SETTINGS)
    for name in ("auc", "log_loss", "brier", "ece", "calibration_slope", "ece_if_perfect"):
        assert alone[name] == pytest.approx(both[name]), name
    assert [alone[name] for name in ("n", "patients", "events")] == [both[name] for name in ("n", "patients", "events")]


def test_predictions_for_unknown_pairs_change_no_metric():
    p, labels, patients = sample()
    other = np.where(np.isnan(labels), 0.123, p)
    assert not np.array_equal(p, other)
    assert summarise_labels(p, labels, patients, NAMES, **SETTINGS) == summarise_labels(
        other, labels, patients, NAMES, **SETTINGS
    )


def test_a_label_without_events_is_left_out_of_the_mean_and_counted():
    p, labels, patients = sample()
    labels[:, 1] = np.where(np.isnan(labels[:, 1]), np.nan, 0)
    found = summarise_labels(p, labels, patients, NAMES, **SETTINGS)
    others = summarise_labels(p[:, [0, 2]], labels[:, [0, 2]], patients, ["edema", "nodule"], **SETTINGS)
    assert found["auc"]["value"] == others["auc"]["value"]
    assert found["labels_in_mean"] == {"auc": 2, "log_loss": 3, "brier": 3, "ece": 3, "calibration_slope": 2}
    assert found["labels"]["mass"] == {"n": int(np.isfinite(labels[:, 1]).sum()), "events": 0}
    table = per_label(p, labels, patients, NAMES, bootstrap=Bootstrap(100, 0.95, 0))
    assert table["auc"].isna().tolist() == [False, True, False]


def test_a_label_that_nobody_looked_for_is_in_no_mean_and_no_error():
    p, labels, patients = sample()
    labels[:, 2] = np.nan
    found = summarise_labels(p, labels, patients, NAMES, **SETTINGS)
    assert found["labels_in_mean"]["log_loss"] == 2 and found["labels"]["nodule"] == {"n": 0, "events": 0}
    assert found["log_loss"] == summarise_labels(p[:, :2], labels[:, :2], patients, NAMES[:2], **SETTINGS)["log_loss"]
    assert per_label(p, labels, patients, NAMES, bootstrap=Bootstrap(100, 0.95, 0)).loc[2, "n_known"] == 0


def test_a_case_of_which_nothing_is_known_is_not_counted():
    p, labels, patients = sample()
    labels[:2] = np.nan
    labels[2:, 0] = np.nan_to_num(labels[2:, 0])
    found = summarise_labels(p, labels, patients, NAMES, **SETTINGS)
    assert (found["n"], found["patients"]) == (148, 74)
    assert found["pairs"] == np.isfinite(labels).sum() and found["events"] == (labels == 1).sum()


def test_duplicated_images_narrow_no_multilabel_interval():
    p, labels, patients = sample()
    once = summarise_labels(p, labels, patients, NAMES, **SETTINGS)
    twice = summarise_labels(np.tile(p, (2, 1)), np.tile(labels, (2, 1)), np.tile(patients, 2), NAMES, **SETTINGS)
    for name in ("auc", "log_loss"):
        assert twice[name] == pytest.approx(once[name], abs=2e-6), name
    slopes = [one["calibration_slope"] for one in (once, twice)]  # its design effect is that of a jackknife
    assert slopes[1] == pytest.approx(slopes[0], rel=0.05) and slopes[1]["value"] == slopes[0]["value"]


def test_multilabel_ece_exceeds_its_null_only_if_miscalibrated():
    true, perfect, false = [], [], []
    for seed in range(5):
        p, labels, patients = sample(200, seed=seed)
        found = summarise_labels(p, labels, patients, NAMES, **SETTINGS)
        true.append(found["ece"]["value"])
        perfect.append(found["ece_if_perfect"]["value"])
        false.append(summarise_labels(np.sqrt(p), labels, patients, NAMES, **SETTINGS)["ece"]["value"])
    assert np.mean(true) == pytest.approx(np.mean(perfect), rel=0.12)
    assert np.mean(false) > 1.5 * np.mean(perfect)


def test_a_mean_over_no_label_is_no_number():
    assert np.isnan(macro_auc(np.full((3, 1), 0.5), np.ones((3, 1)), np.ones((2, 3)))).all()
    assert np.isnan(macro_auc(np.full((3, 1), 0.5), np.full((3, 1), np.nan), np.ones((2, 3)))).all()


def test_each_label_has_its_row_with_what_is_known_of_it():
    p, labels, patients = sample()
    table = per_label(p, labels, patients, NAMES, bootstrap=Bootstrap(100, 0.95, 0))
    assert list(table.columns) == PER_LABEL and table["class"].tolist() == NAMES
    for c, row in enumerate(table.itertuples()):
        known = np.isfinite(labels[:, c])
        assert (row.n_known, row.events) == (known.sum(), (labels[:, c] == 1).sum())
        assert row.auc == pytest.approx(oracle.roc_auc_score(labels[known, c], p[known, c]))
        assert row.sensitivity == pytest.approx(oracle.recall_score(labels[known, c], p[known, c] >= 0.5))


def test_curves_are_of_all_known_pairs_in_one():
    p, labels, _ = sample()
    confidence, events = evaluated_confidence(p, labels)
    known = np.isfinite(labels)
    np.testing.assert_array_equal(confidence, p[known])
    assert events.dtype == bool and events.sum() == (labels == 1).sum()
    assert reliability(p, labels, 10)["n"].sum() == known.sum()


@pytest.mark.parametrize(
    ("corrupt", "said"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (1.2, "between 0 and 1"), (-0.2, "between 0 and 1")],
)
def test_probabilities_that_are_none_are_an_error(corrupt, said):
    p, labels, patients = sample()
    p[3, 0] = corrupt
    with pytest.raises(BadProbabilities, match=said):
        summarise_labels(p, labels, patients, NAMES, **SETTINGS)
