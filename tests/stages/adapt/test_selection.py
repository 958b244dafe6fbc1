import numpy as np
import pytest

from pipeline.stages.adapt.candidates import Measured, Source, measure_probes
from pipeline.stages.adapt.selection import information_gain, paired, search


def source(n=60, seed=0):
    labels = np.arange(n) % 2
    return Source(labels, np.array([f"patient {number // 2}" for number in range(n)]), 2, True, seed)


def predictions(labels, sure, seed):
    """Logits whose sureness is `sure` times noise around the truth."""
    noise = np.random.default_rng(seed).normal(size=len(labels))
    right = sure * (2 * labels - 1) + noise
    return np.stack([-right, right], axis=1) / 2


def candidate(source_sure, target_sure, seed=0, m=40):
    labels = source().labels
    target = predictions(np.arange(m) % 2, target_sure, seed)
    return Measured(predictions(labels, source_sure, seed), target, target[:0], 0.5)


def choice(candidates):
    steps, _ = search([(name, 1.0) for name in candidates], lambda method, strength: candidates[method], source())
    return [step.method for step in steps if step.kept][-1], {step.method: step for step in steps}


def test_candidate_that_helps_the_target_at_no_cost_is_selected():
    assert choice({"none": candidate(2, 0.3), "adabn": candidate(2, 3)})[0] == "adabn"


def test_candidate_that_hurts_the_labelled_source_is_not_selected():
    chosen, steps = choice({"none": candidate(3, 0.3), "adabn": candidate(0.2, 5)})
    assert chosen == "none" and steps["adabn"].why == "the source loss rises by more than its standard error"


def test_expensive_candidate_has_to_beat_every_cheaper_one():
    chosen, _ = choice({"none": candidate(3, 0.3), "adabn": candidate(0.2, 5), "coral": candidate(3, 2)})
    assert chosen == "none"


def test_a_gain_within_chance_is_not_kept():
    same = candidate(2, 1.0)
    assert choice({"none": same, "adabn": candidate(2, 1.0, seed=0)})[0] == "none"
    assert information_gain(same.target, same.target, 0) <= 0


def test_without_a_target_only_a_better_source_counts():
    empty = [
        Measured(one.logits, one.target[:0], one.evaluated, float("nan"))
        for one in (candidate(0.5, 0), candidate(4, 0))
    ]
    assert choice({"none": empty[0], "adabn": empty[1]})[0] == "adabn"
    assert choice({"none": empty[1], "adabn": empty[0]})[0] == "none"


def test_a_candidate_that_cannot_be_measured_is_left_out_with_the_reason():
    def measure(method, strength):
        if method == "combat":
            raise ValueError("one site only")
        return candidate(2, 1)

    steps, measured = search([("none", 0.0), ("combat", 1.0)], measure, source())
    assert steps[1].why == "skipped: one site only" and not steps[1].kept and set(measured) == {"none"}


def test_the_error_of_a_paired_difference_counts_patients_not_cases():
    rng = np.random.default_rng(0)
    of_patient = rng.normal(size=50)
    one, error = paired(of_patient, np.arange(50).astype(str))
    same, twice = paired(np.repeat(of_patient, 2), np.repeat(np.arange(50), 2).astype(str))
    assert one == pytest.approx(same) and twice == pytest.approx(error)
    assert error == pytest.approx(of_patient.std() / np.sqrt(50))


def test_probes_predict_every_source_case_without_its_patient():
    cohort, rng = source(), np.random.default_rng(0)
    noise = rng.normal(size=(60, 3))
    patients = np.unique(cohort.patients, return_inverse=True)[1]
    names = np.eye(30)[patients] * 5  # tells the patient, and so the label to those who saw the patient
    found = measure_probes(np.hstack([noise, names]), np.zeros((4, 33)), np.zeros((0, 33)), cohort)
    right = (found.logits[:, 1] > found.logits[:, 0]) == cohort.labels
    assert 0.2 < right.mean() < 0.8
    assert found.target.shape == (4, 2) and found.evaluated.shape == (0, 2)
    informative = measure_probes(noise + 4 * cohort.labels[:, None], np.zeros((4, 3)), np.zeros((0, 3)), cohort)
    assert ((informative.logits[:, 1] > informative.logits[:, 0]) == cohort.labels).mean() > 0.95


def test_a_class_of_one_patient_cannot_be_measured():
    alone = Source(np.array([0, 0, 0, 1]), np.array(list("abcd")), 2, True, 0)
    with pytest.raises(ValueError, match="fewer than two patients"):
        measure_probes(np.zeros((4, 2)), np.zeros((1, 2)), np.zeros((1, 2)), alone)
