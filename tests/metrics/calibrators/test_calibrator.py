"""What a calibrator does with logits, and how it is written and read."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, softmax

from pipeline.metrics.calibrators.fitting import (
    Temperature,
    calibrator_from,
    digest_of,
    fit,
    identity_for,
)
from tests.metrics.calibrators.simulated import EVERY_MAP, OF_TWO, cases_of, overconfident, overconfident_of_two


def test_the_identity_changes_nothing():
    logits, labels = overconfident(20, 1.0)
    assert_array_equal(identity_for(labels).apply(logits), softmax(logits, axis=1))
    assert_array_equal(identity_for(np.full((20, 3), np.nan)).apply(logits), expit(logits))


@pytest.mark.parametrize(("task", "method"), EVERY_MAP)
def test_permuted_classes_have_permuted_probabilities(task, method):
    logits, labels = cases_of(task)
    order = np.array([1, 0] if task == "two" else [2, 0, 1])
    renamed = labels[:, order] if task == "labels" else np.argsort(order)[labels]
    found = fit(method, logits[:, order], renamed).apply(logits[:, order])
    assert_allclose(found, fit(method, logits, labels).apply(logits)[:, order], atol=2e-6)


@pytest.mark.parametrize(("task", "method"), [some for some in EVERY_MAP if some[0] != "labels"])
def test_a_number_added_to_all_logits_of_a_case_changes_nothing(task, method):
    logits, labels = cases_of(task)
    shifted = logits + np.random.default_rng(3).normal(size=(len(logits), 1)) * 5
    found = fit(method, logits, labels)
    assert_allclose(found.apply(shifted), found.apply(logits), atol=1e-9)
    assert_allclose(fit(method, shifted, labels).apply(logits), found.apply(logits), atol=2e-6)


@pytest.mark.parametrize("method", OF_TWO)
def test_a_map_of_two_classes_keeps_the_order_of_cases(method):
    logits, labels = overconfident_of_two(1500)
    steps = np.diff(fit(method, logits, labels).apply(logits[np.argsort(logits[:, 1])])[:, 1])
    assert (steps >= 0).all() and (method == "isotonic" or (steps > 0).mean() > 0.99)


@pytest.mark.parametrize(("task", "method"), EVERY_MAP)
def test_probabilities_are_those_of_the_task(task, method):
    logits, labels = cases_of(task)
    probabilities = fit(method, logits, labels).apply(logits)
    assert probabilities.shape == logits.shape and (probabilities >= 0).all() and (probabilities <= 1).all()
    if task != "labels":
        assert_allclose(probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(("task", "method"), EVERY_MAP)
def test_a_map_read_back_from_its_json_gives_the_same_bytes(task, method):
    logits, labels = cases_of(task)
    found = fit(method, logits, labels)
    again = calibrator_from(json.loads(json.dumps(found.as_json())) | {"fitted_on": {"cases": 2000}})
    assert again == found and again.apply(logits).tobytes() == found.apply(logits).tobytes()
    assert digest_of(again) == digest_of(found) != digest_of(fit(method, logits[:1900], labels[:1900]))


def test_a_calibrator_written_before_there_were_methods_is_a_temperature():
    assert calibrator_from({"temperature": 1.5, "activation": "sigmoid"}) == Temperature(1.5, "sigmoid")


@pytest.mark.parametrize(("task", "method"), EVERY_MAP)
def test_one_case_by_itself_has_the_same_bytes_as_among_many(task, method):
    logits, labels = cases_of(task)
    found = fit(method, logits, labels)
    alone = np.stack([found(one) for one in logits[:300]])
    assert alone.tobytes() == found(logits)[:300].tobytes() == found.apply(logits)[:300].tobytes()


@pytest.mark.parametrize(("task", "method"), EVERY_MAP)
def test_monai_applies_a_map_to_the_tensor_of_one_case(task, method):
    import torch
    from monai.transforms import Activationsd

    logits, labels = cases_of(task)
    found, one = fit(method, logits, labels), torch.tensor(logits[0], dtype=torch.float32, requires_grad=True)
    pred = Activationsd("pred", other=found)({"pred": one})["pred"]
    assert isinstance(pred, torch.Tensor) and pred.dtype == torch.float32 and pred.shape == one.shape
    expected = found.apply(one.detach().numpy().astype(np.float64)[None])[0]
    assert_allclose(pred.detach().numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "magic"}, "method 'magic'"),
        ({"temperature": 1.0, "activation": "tanh"}, "activation 'tanh'"),
        ({}, "temperature is missing"),
        ({"temperature": -1.0}, "temperature is -1.0, but must be above 0"),
        ({"temperature": float("nan")}, "temperature has .* not finite"),
        ({"method": "platt", "weights": [1.0, 2.0], "intercepts": [0.0, 0.0]}, r"weights has the wrong shape \(2,\)"),
        ({"method": "beta", "weights": [1.0] * 3, "intercepts": [0.0] * 3}, "intercepts has the wrong shape"),
        ({"method": "dirichlet", "weights": [[1.0, 0.0]], "intercepts": [0.0] * 3}, "weights has the wrong shape"),
        ({"method": "vector", "weights": ["a"], "intercepts": [0.0]}, "weights is missing, or not made of numbers"),
        ({"method": "isotonic", "margins": [1.0, 0.0], "probabilities": [0.1, 0.2]}, "margins must rise"),
        ({"method": "isotonic", "margins": [0.0, 1.0], "probabilities": [0.2, 0.1]}, "probabilities must rise"),
        ({"method": "isotonic", "margins": [0.0, 1.0], "probabilities": [0.2, 1.1]}, "probabilities must rise"),
        ({"method": "isotonic", "margins": [0.0], "probabilities": [0.2, 0.3]}, "probabilities has the wrong shape"),
        ({"method": "platt", "activation": "sigmoid"}, "platt with sigmoid needs labels"),
        ({"method": "platt", "activation": "sigmoid", "labels": [{"temperature": 1.0}]}, "is not platt of two"),
    ],
)
def test_what_is_wrong_with_a_written_calibrator_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        calibrator_from(values)
