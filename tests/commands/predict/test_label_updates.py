"""The update of labels that stand each by itself, at a simulated hospital."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from pipeline.commands.predict.label_updates import update_labels
from pipeline.commands.predict.site_update import update_site
from pipeline.commands.site_files import changes_from
from pipeline.metrics.questions import both_ways

CLASSES = ["edema", "mass", "cyst"]


@pytest.fixture(scope="module")
def site():
    """Edema is commoner here, predictions of mass are too sure, of cyst all are without; one in ten is not known."""
    rng = np.random.default_rng(0)
    predictions = expit(rng.normal(0, 2, (400, 3)))
    truth = expit(np.array([1.2, 0, 0]) + np.array([1, 0.5, 1]) * logit(predictions))
    labels = (rng.random((400, 3)) < truth).astype(float)
    labels[:, 2] = 0
    labels[rng.random((400, 3)) < 0.1] = np.nan
    return predictions, labels, np.arange(400).astype(str)


@pytest.fixture(scope="module")
def found(site):
    return update_labels(*site, CLASSES)


def test_each_label_is_updated_by_its_own_shift_and_slope(found):
    edema, mass = found["edema"], found["mass"]
    shift = edema.intervals["intercept of edema against no edema"]
    assert shift["lower"] > 0 and shift["lower"] < 1.2 < shift["upper"]
    assert edema.intervals["slope"]["upper"] > 1
    slope = mass.intervals["slope"]
    assert slope["upper"] < 1 and slope["lower"] < 0.5 < slope["upper"]
    assert edema.after["log-loss"]["value"] < edema.before["log-loss"]["value"]
    assert edema.before["calibration in the large"]["lower"] > 0
    assert abs(edema.after["calibration in the large"]["value"]) < 0.15


def test_a_label_is_updated_like_two_classes_on_its_known_patients(site, found):
    predictions, labels, patients = (one[np.isfinite(site[1][:, 1])] for one in site)
    pair, events = both_ways(predictions[:, 1]), labels[:, 1].astype(int)
    assert found["mass"] == update_site(pair, events, patients, ["no mass", "mass"])
    assert sum(found["mass"].patients.values()) == len(patients) < 400


def test_a_label_that_nobody_has_stays_bit_for_bit_as_it_was(site, found):
    changes = changes_from(written(found), CLASSES)
    assert found["cyst"] is None
    updated = changes.apply(site[0])
    np.testing.assert_array_equal(updated[:, 2], site[0][:, 2])
    assert np.abs(updated[:, :2] - site[0][:, :2]).max(axis=0).min() > 0.05


def test_updates_survive_json_and_are_matched_to_labels_by_name(site, found):
    values = json.loads(json.dumps(written(found)))
    changes = changes_from(dict(reversed(values.items())), CLASSES)
    assert changes.changes == (found["edema"].change, found["mass"].change, None)
    alone = found["mass"].change.apply(both_ways(site[0][:, 1]))[:, 1]
    np.testing.assert_array_equal(changes.apply(site[0])[:, 1], alone)


@pytest.mark.parametrize("classes", [["edema", "mass"], ["edema", "mass", "tumour"]])
def test_changes_of_other_labels_are_refused(found, classes):
    with pytest.raises(ValueError, match="an update of each of the labels edema"):
        changes_from(written(found), classes)


def test_labels_none_of_which_is_there_and_not_there_are_refused(site):
    predictions, labels, patients = site
    with pytest.raises(ValueError, match="no label has both"):
        update_labels(predictions, np.where(np.isfinite(labels), 1.0, np.nan), patients, CLASSES)


def written(found):
    return {name: one.as_json() if one else None for name, one in found.items()}
