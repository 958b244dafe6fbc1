import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from pipeline.metrics.calibrators.fitting import Temperature
from pipeline.metrics.evaluation import TaskSpec, evaluated_by
from pipeline.stages.calibrate.patients import of_patients

TWO = TaskSpec(["well", "ill"])
LABELS = TaskSpec(["edema", "mass"], "multilabel")
PATIENTS = ["q", "p", "q", "p", "r"]
LOGITS = np.array([[0.0, 1.0], [2.0, 0.0], [0.0, 3.0], [0.0, -1.0], [1.0, 1.5]])


def images(patients=PATIENTS, labels=("ill", "well", "ill", "well", "ill"), logits=LOGITS, spec=TWO, targets=None):
    cases = pd.DataFrame({"case": [f"c{i}" for i in range(len(patients))], "patient": patients, "label": labels})
    cases = cases.assign(site=["x", "x", "y", "x", "y"][: len(patients)], fold="0")
    cases[[f"logit_{c}" for c in range(logits.shape[1])]] = logits
    activation = "sigmoid" if spec.task == "multilabel" else "softmax"
    numbers = np.array([spec.classes.index(label) for label in labels]) if targets is None else targets
    return evaluated_by(Temperature(2.0, activation), cases, numbers)


def test_mean_averages_logits_and_applies_the_calibrator_of_the_images():
    found = of_patients(images(), "mean", TWO)
    joined = np.array([[1, -0.5], [0, 2], [1, 1.5]])  # of p, q and r
    np.testing.assert_allclose(found.uncalibrated, softmax(joined, axis=1))
    np.testing.assert_allclose(found.calibrated, softmax(joined / 2, axis=1))
    assert found.patients.tolist() == ["p", "q", "r"] and found.labels.tolist() == [0, 1, 1]


def test_max_takes_the_image_with_the_highest_prediction_of_the_last_class():
    found = of_patients(images(), "max", TWO)
    np.testing.assert_allclose(found.uncalibrated, softmax([[0, -1], [0, 3], [1, 1.5]], axis=1))


@pytest.mark.parametrize("rule", ["mean", "max"])
def test_temperature_before_or_after_aggregation_is_the_same(rule):
    warm = images()
    cases = warm.cases.copy()
    cases[["logit_0", "logit_1"]] /= 2
    cooled = evaluated_by(Temperature(1.0), cases, warm.labels)
    after, before = of_patients(warm, rule, TWO).calibrated, of_patients(cooled, rule, TWO).calibrated
    np.testing.assert_allclose(after, before)


def test_max_of_several_labels_is_taken_label_by_label():
    targets = np.array([[1, 0], [0, np.nan], [1, 0], [np.nan, np.nan], [1, 1.0]])
    found = of_patients(images(spec=LABELS, targets=targets), "max", LABELS)
    np.testing.assert_allclose(found.uncalibrated, expit(np.array([[2, 0], [0, 3], [1, 1.5]])))
    np.testing.assert_allclose(found.calibrated, expit(np.array([[2, 0], [0, 3], [1, 1.5]]) / 2))


def test_a_label_that_is_known_of_one_image_is_known_of_the_patient():
    targets = np.array([[1, 0], [0, np.nan], [np.nan, 0], [np.nan, np.nan], [1, 1.0]])
    found = of_patients(images(spec=LABELS, targets=targets), "mean", LABELS)
    np.testing.assert_array_equal(found.labels, [[0, np.nan], [1, 0], [1, 1]])


def test_patients_with_images_of_different_labels_are_refused_by_pseudonym():
    with pytest.raises(ValueError, match="different labels: p; give them one label"):
        of_patients(images(labels=("ill", "well", "ill", "ill", "ill")), "mean", TWO)
    targets = np.array([[1, 0], [0, 0], [1, 1], [0, 0], [1, 1.0]])
    with pytest.raises(ValueError, match="different labels: q;"):
        of_patients(images(spec=LABELS, targets=targets), "max", LABELS)


@pytest.mark.parametrize("spec", [TaskSpec(["a", "b", "c"]), TaskSpec(["low", "high"], "ordinal")])
def test_max_of_several_classes_or_of_grades_is_an_error_with_a_cure(spec):
    logits = np.zeros((2, len(spec.classes)))
    evaluated = images(["p", "p"], [spec.classes[0]] * 2, logits, spec)
    with pytest.raises(ValueError, match=f"{spec.task}.*mean takes any number"):
        of_patients(evaluated, "max", spec)
    assert len(of_patients(evaluated, "mean", spec).labels) == 1


def test_a_patient_keeps_only_columns_that_all_images_share():
    cases = of_patients(images(), "mean", TWO).cases.set_index("patient")
    assert cases["images"].to_dict() == {"p": 2, "q": 2, "r": 1}
    assert cases["site"].to_dict() == {"p": "x", "q": "", "r": "y"}
    assert cases["case"].to_dict() == {"p": "", "q": "", "r": "c4"}
    assert cases.loc["q", ["logit_0", "logit_1"]].tolist() == [0, 2]


def test_the_order_of_the_images_changes_nothing():
    order = [4, 2, 0, 3, 1]
    shuffled = images(
        [PATIENTS[i] for i in order], [["ill", "well", "ill", "well", "ill"][i] for i in order], LOGITS[order]
    )
    for rule in ("mean", "max"):
        np.testing.assert_array_equal(
            of_patients(shuffled, rule, TWO).calibrated, of_patients(images(), rule, TWO).calibrated
        )
