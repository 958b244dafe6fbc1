import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipeline.learning.models.heads import NeighboursHead
from pipeline.learning.models.probe import standardisation
from pipeline.stages.evidence.learners import few_shot
from pipeline.stages.evidence.learners.few_shot import Episodes, Pool, episode_scores

METHODS = ("prototype", "knn", "probe")


def pools(n=120, asked=60, width=30, n_classes=2, distance=2.0, scans=2, seed=0):
    """Blobs whose classes lie apart in one direction each; a patient has some scans, all of one class."""
    rng = np.random.default_rng(seed)
    found = []
    for name, count in (("support", n), ("query", asked)):
        labels = np.arange(count // scans).repeat(scans) % n_classes
        features = rng.normal(size=(count, width)) + distance * np.eye(n_classes, width)[labels]
        patients = np.char.add(name, (np.arange(count) // scans).astype(str))
        found.append(Pool(features, labels, patients))
    return found


def rows_of(pool, n_classes):
    return [few_shot._rows_by_patient(pool, label) for label in range(n_classes)]


def aucs(support, query, shots):
    """The AUC of each of 40 episodes, by method and number of shots."""
    scores = episode_scores(support, query, Episodes(2, shots, 40, 0))
    return {key: np.array([roc_auc_score(query.labels, one[:, 1]) for one in each]) for key, each in scores.items()}


def directly(support, query, rows, n_classes):
    """The three methods as their definitions read, on the features themselves."""
    mean, scale = standardisation(support.features)
    known, asked = (support.features[rows] - mean) / scale, (query.features - mean) / scale
    labels = support.labels[rows]
    means = np.array([known[labels == label].mean(axis=0) for label in range(n_classes)])
    distances = np.square(asked[:, None] - means).sum(axis=2)
    unit = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in (asked, known)]
    cosine = unit[0] @ unit[1].T
    votes = np.zeros((len(asked), n_classes))
    for row, similarity in zip(votes, cosine, strict=True):
        nearest = np.argsort(-similarity)[:20]
        np.add.at(row, labels[nearest], softmax(similarity[nearest] / 0.07))
    model = LogisticRegression(C=0.01, max_iter=5000, tol=1e-8).fit(known, labels)
    return {
        "prototype": softmax(-distances / asked.shape[1], axis=1),
        "knn": votes,
        "probe": model.predict_proba(asked),
    }


@pytest.mark.parametrize(("n_classes", "width"), [(2, 30), (2, 500), (3, 8)])
def test_each_method_agrees_with_its_definition_on_the_features(n_classes, width):
    support, query = pools(n=180, width=width, n_classes=n_classes)
    found = episode_scores(support, query, Episodes(n_classes, [1, 5, 12], 3, 4))
    assert set(found) == {(method, k) for method in METHODS for k in (1, 5, 12)}
    for k in (1, 5, 12):
        for episode, rows in enumerate(few_shot.draws(rows_of(support, n_classes), k, 3, 4)):
            for method, expected in directly(support, query, rows, n_classes).items():
                np.testing.assert_allclose(found[method, k][episode], expected, atol=2e-4, err_msg=f"{method} {k}")


def test_neighbours_vote_as_in_the_head_but_for_its_one_vote_for_everyone():
    support, query = pools()
    rows = next(few_shot.draws(rows_of(support, 2), 5, 1, 0))
    mean, scale = standardisation(support.features)
    known, asked = (torch.from_numpy((x - mean) / scale).float() for x in (support.features[rows], query.features))
    head = NeighboursHead(30, 2, len(rows), findings=False)
    head.remember(known, torch.eye(2)[support.labels[rows]], few_shot.VOTERS)
    theirs = head(asked).exp().numpy()[:, 1]
    ours = episode_scores(support, query, Episodes(2, [5], 1, 0))["knn", 5][0, :, 1]
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99


def test_an_episode_takes_one_case_of_each_of_k_patients_of_each_class():
    support, _ = pools(n=90, n_classes=3, scans=3)
    for rows in few_shot.draws(rows_of(support, 3), 4, 20, 0):
        assert len(set(support.patients[rows])) == 12
        np.testing.assert_array_equal(support.labels[rows], np.repeat(range(3), 4))


def test_every_patient_and_every_case_of_a_patient_is_drawn_as_often():
    """A patient of many scans counts as one."""
    labels = np.array([0] * 12 + [1] * 4)
    patients = np.array([*["a"] * 9, "b", "c", "d", "e", "f", "g", "h"])
    support = Pool(np.zeros((16, 2)), labels, patients)
    drawn = np.concatenate(list(few_shot.draws(rows_of(support, 2), 1, 4000, 0)))
    counts = np.bincount(drawn, minlength=16)
    assert counts[:9].sum() == pytest.approx(1000, abs=110) and counts[9:].min() > 890
    assert np.abs(counts[:9] - 1000 / 9).max() < 42


def test_two_encoders_meet_the_same_episodes():
    """One's features are the other's in another order, mirrored, scaled and moved: the same scores, case by case."""
    support, query = pools()
    others = [Pool(3 - 7 * pool.features[:, ::-1], pool.labels, pool.patients) for pool in (support, query)]
    first, second = (episode_scores(*both, Episodes(2, [1, 5], 4, 9)) for both in ((support, query), others))
    for key, scores in first.items():
        np.testing.assert_allclose(scores, second[key], atol=1e-6)


def test_episode_ignores_other_k_more_episodes_and_evaluated_cases():
    support, query = pools()
    some = Pool(query.features[:20], query.labels[:20], query.patients[:20])
    few = episode_scores(support, some, Episodes(2, [5], 3, 0))
    many = episode_scores(support, query, Episodes(2, [20, 5, 1], 6, 0))
    for method in METHODS:
        np.testing.assert_allclose(few[method, 5], many[method, 5][:3, :20], atol=1e-6)
    assert not np.allclose(many["prototype", 5][0], many["prototype", 5][1])
    assert not np.allclose(few["prototype", 5], episode_scores(support, some, Episodes(2, [5], 3, 1))["prototype", 5])


@pytest.mark.parametrize("method", METHODS)
def test_more_shots_tell_more_and_features_that_say_nothing_tell_nothing(method):
    support, query = pools(n=400, asked=200, distance=1.5)
    curve = aucs(support, query, [1, 5, 20])
    assert curve[method, 1].mean() + 0.05 < curve[method, 5].mean() < curve[method, 20].mean()
    nothing = aucs(*pools(n=400, asked=200, distance=0.0), [5])
    assert nothing[method, 5].mean() == pytest.approx(0.5, abs=0.05)


def test_labels_of_the_evaluated_cases_are_not_looked_at():
    support, query = pools()
    blind = Pool(query.features, np.zeros_like(query.labels), query.patients)
    seen, unseen = (episode_scores(support, pool, Episodes(2, [5], 3, 0)) for pool in (query, blind))
    assert all(np.array_equal(seen[key], unseen[key]) for key in seen)


def test_a_k_that_a_class_has_not_enough_patients_for_is_left_out():
    support, query = pools(n=40)  # ten patients of each class, two scans of each
    assert {k for _, k in episode_scores(support, query, Episodes(2, [1, 10, 11, 20], 2, 0))} == {1, 10}
    assert episode_scores(support, query, Episodes(3, [1], 2, 0)) == {}


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_shares_without_saturation_in_many_dimensions(method):
    support, query = pools(width=2000, distance=3.0)
    scores = episode_scores(support, query, Episodes(2, [5], 2, 0))[method, 5]
    assert scores.shape == (2, 60, 2)
    np.testing.assert_allclose(scores.sum(axis=2), 1)
    assert len(np.unique(scores[0, :, 1])) == 60


def test_features_that_do_not_differ_give_even_shares():
    support, query = pools(width=3)
    flat = [Pool(np.ones_like(pool.features), pool.labels, pool.patients) for pool in (support, query)]
    for scores in episode_scores(*flat, Episodes(2, [5], 1, 0)).values():
        np.testing.assert_allclose(scores, 0.5)


def test_a_patient_on_both_sides_is_refused():
    support, query = pools()
    with pytest.raises(ValueError, match="30 patient.*for example support0"):
        episode_scores(support, Pool(query.features, query.labels, support.patients[:60]), Episodes(2, [1], 1, 0))


def test_several_findings_a_case_are_not_measured():
    support, query = pools()
    findings = Pool(support.features, np.eye(2)[support.labels], support.patients)
    with pytest.raises(ValueError, match="several labels"):
        episode_scores(findings, query, Episodes(2, [1], 1, 0))
