import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from pipeline.commands.predict.site_calibration import helpful
from pipeline.commands.predict.site_update import cross_fitted, update_for, update_site
from pipeline.commands.site_files import change_from
from pipeline.errors import UserError
from pipeline.metrics.calibrators.updating import fit_recalibration

CLASSES = ["well", "ill"]


def site(n=600, shift=1.2, slope=0.5, seed=0):
    """A hospital with more ill patients, and predictions that are too sure there."""
    rng = np.random.default_rng(seed)
    prediction = expit(rng.normal(0, 2, n))
    labels = (rng.random(n) < expit(shift + slope * logit(prediction))).astype(int)
    return np.stack([1 - prediction, prediction], axis=1), labels, np.arange(n).astype(str)


def test_intervals_contain_the_shift_and_slope_of_a_simulated_hospital():
    found = update_site(*site(), CLASSES)
    assert found.update == "intercept and slope"
    shift, slope = found.intervals["intercept of ill against well"], found.intervals["slope"]
    assert shift["lower"] < 1.2 < shift["upper"] and slope["lower"] < 0.5 < slope["upper"]
    assert slope["upper"] < 1 and shift["lower"] > 0


def test_before_and_after_are_told_and_what_is_after_is_right_again():
    found = update_site(*site(), CLASSES)
    assert found.before["calibration in the large"]["lower"] > 0 and found.before["calibration slope"]["upper"] < 1
    after = found.after
    assert abs(after["calibration in the large"]["value"]) < 0.15
    assert abs(after["calibration slope"]["value"] - 1) < 0.2
    assert after["log-loss"]["value"] < found.before["log-loss"]["value"]


def test_an_update_that_raises_the_log_loss_of_others_does_not_help():
    assert update_site(*site(), CLASSES).helps
    raised = [update_site(*site(30, shift=0, slope=1, seed=seed), CLASSES) for seed in range(5)]
    assert not all(found.helps for found in raised)


def test_of_several_labels_only_those_that_improve_are_updated(capsys):
    better = update_site(*site(), CLASSES)
    worse = replace(better, before=better.after, after=better.before)
    assert helpful({"a": better, "b": worse, "c": None}) == {"a": better, "b": None, "c": None}
    assert "left unchanged, because the log-loss does not become lower: b " in capsys.readouterr().out
    with pytest.raises(UserError, match="nothing is written"):
        helpful({"b": worse, "c": None})


def test_no_patient_is_predicted_with_an_update_fitted_on_that_patient():
    probabilities, labels, patients = site(80)
    found = cross_fitted(probabilities, labels, patients, "intercept")
    part = np.unique(patients, return_inverse=True)[1] % 10 == 3
    expected = fit_recalibration(probabilities[~part], labels[~part], "intercept").apply(probabilities[part])
    np.testing.assert_array_equal(found[part], expected)
    labels[part] = 1 - labels[part]
    np.testing.assert_array_equal(cross_fitted(probabilities, labels, patients, "intercept")[part], expected)


def test_without_a_shift_the_interval_of_the_update_contains_zero():
    shift = update_site(*site(200, shift=0, slope=1), CLASSES).intervals["intercept of ill against well"]
    assert shift["lower"] < 0 < shift["upper"]


@pytest.mark.parametrize(
    ("counts", "update"),
    [
        ([19, 90], "intercept"),
        ([20, 90], "intercept and slope"),
        ([25, 25, 90], "intercept"),
        ([30] * 3, "intercept and slope"),
    ],
)
def test_the_slope_needs_ten_patients_of_the_rarest_class_per_parameter(counts, update):
    assert update_for(counts) == update


def test_patients_are_counted_not_their_images():
    probabilities, labels, patients = site(60)
    labels[:30], patients[:30] = 1, np.array(["one", "two"])[np.arange(30) % 2]
    labels[30:] = 0
    found = update_site(probabilities, labels, patients, CLASSES)
    assert found.patients == {"well": 30, "ill": 2} and found.update == "intercept" and found.change.slope == 1


def test_a_class_that_nobody_has_is_refused_by_its_name():
    probabilities, labels, patients = site(40)
    with pytest.raises(ValueError, match="no scan is labelled 'ill'"):
        update_site(probabilities, 0 * labels, patients, CLASSES)
    with pytest.raises(ValueError, match="only 1 patient is labelled 'ill', and 2 of each class are needed"):
        update_site(probabilities, np.arange(len(labels)) == 0, patients, CLASSES)


def test_an_update_survives_json_and_invalid_ones_are_refused():
    found = update_site(*site(), CLASSES)
    values = json.loads(json.dumps(found.as_json()))
    assert change_from(values, 2) == found.change
    for broken in ({"intercepts": [0.0] * 3, "slope": 1}, {"intercepts": [0.0, float("nan")], "slope": 1}):
        with pytest.raises(ValueError, match="finite"):
            change_from(values | {"change": broken}, 2)
