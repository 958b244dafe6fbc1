import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from pipeline.learning.models.tasks import Multiclass, Multilabel, task_of

NAN = float("nan")


def classes(n=40, k=3):
    draws = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(k), torch.randint(k, (n - k,), generator=draws) // 2])
    return torch.randn(n, k, generator=draws), labels


def test_the_weighted_loss_of_classes_is_torchs_cross_entropy():
    logits, labels = classes()
    targets, task = torch.eye(3)[labels], Multiclass()
    weights = task.weights(targets, "balanced")
    loss, share = task.losses(logits, targets, weights)
    torch.testing.assert_close(loss / share, nn.CrossEntropyLoss(weight=weights)(logits, labels))
    torch.testing.assert_close(task.case_losses(logits, targets), nn.CrossEntropyLoss(reduction="none")(logits, labels))


def test_smoothed_targets_give_torchs_label_smoothing():
    logits, labels = classes()
    task = Multiclass()
    loss, share = task.losses(logits, task.smoothed(torch.eye(3)[labels], 0.2), torch.ones(3))
    torch.testing.assert_close(loss / share, nn.CrossEntropyLoss(label_smoothing=0.2)(logits, labels))


def test_balanced_weights_are_scikit_learns_and_even_out_the_classes():
    _, labels = classes()
    targets, task = torch.eye(3)[labels], Multiclass()
    oracle = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    np.testing.assert_allclose(task.weights(targets, "balanced"), oracle, rtol=1e-6)
    assert task.weights(targets, "none").tolist() == [1, 1, 1] == task.weights(targets, "sampling").tolist()
    shares = task.sampling(targets)
    np.testing.assert_allclose([float(shares[labels == label].sum()) for label in range(3)], 1, rtol=1e-6)


@pytest.mark.parametrize("balance", ["balanced", "sampling"])
def test_the_prior_turns_even_odds_into_the_training_prevalence(balance):
    targets = torch.eye(2)[torch.tensor([0] * 30 + [1] * 10)]
    logits = torch.zeros(1, 2) - Multiclass().prior(targets, balance)
    torch.testing.assert_close(logits.softmax(dim=1), torch.tensor([[0.75, 0.25]]))
    assert not Multiclass().prior(targets, "none").any()


def test_what_is_not_known_of_a_finding_weighs_nothing():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    targets = torch.tensor([[1.0, NAN], [0.0, 1.0]])
    task = Multilabel()
    loss, share = task.losses(logits, targets, torch.ones(2, 2))
    known = nn.functional.binary_cross_entropy_with_logits(
        torch.tensor([2.0, 0.5, 3.0]), torch.tensor([1.0, 0.0, 1.0]), reduction="sum"
    )
    torch.testing.assert_close(loss, known)
    assert float(share) == 3
    changed = task.losses(logits + torch.tensor([[0.0, 100.0], [0.0, 0.0]]), targets, torch.ones(2, 2))[0]
    assert torch.equal(changed, loss)


def test_presence_and_absence_weigh_the_same_among_known_cases():
    column = torch.tensor([1.0] * 5 + [0.0] * 20 + [NAN] * 10)
    weights = Multilabel().weights(column[:, None], "balanced")
    assert float(weights[1, 0] * 5) == pytest.approx(float(weights[0, 0] * 20)) == 12.5
    odds = -Multilabel().prior(column[:, None], "balanced")
    assert float(odds.sigmoid()) == pytest.approx(0.2)


def test_a_finding_without_any_weight_is_binary_cross_entropy():
    draws = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(9, 4, generator=draws), torch.randint(2, (9, 4), generator=draws).float()
    loss, share = Multilabel().losses(logits, targets, torch.ones(2, 4))
    torch.testing.assert_close(loss / share, nn.BCEWithLogitsLoss()(logits, targets))


def test_whole_cases_are_not_drawn_to_even_out_findings():
    with pytest.raises(ValueError, match="take balanced"):
        Multilabel().sampling(torch.ones(3, 2))


def test_grades_are_trained_as_classes():
    assert task_of("ordinal") == task_of("multiclass") != task_of("multilabel")
