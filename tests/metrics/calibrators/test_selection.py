import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.metrics import log_loss

from pipeline.metrics.calibrators import fitting
from pipeline.metrics.calibrators.fitting import Unsuitable, calibrator_from, fit, fit_temperature
from pipeline.metrics.calibrators.selection import choose, cross_fitted, fitted

FOLDS = np.array(["0", "1", "2"])


def of_two(n, slope=0.5, intercept=0.0, seed=0):
    """Probabilities uniform on (0, 1) whose logit is slope * margin + intercept."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return np.stack([np.zeros(n), (logit(p) - intercept) / slope], axis=1), (rng.random(n) < p).astype(int)


def names(n, each=1):
    return np.array([f"p{number // each:05d}" for number in range(n)])


def several_labels(n, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 3)) * 3
    labels = (rng.random((n, 3)) < expit(logits / 2 + [0, 1, -1])).astype(float)
    labels[rng.random((n, 3)) < 0.2] = np.nan
    return logits, labels


@pytest.mark.parametrize("method", ["temperature", "platt", "beta", "auto"])
def test_no_case_is_evaluated_by_its_own_fit(method):
    """Changing every label of a fold changes nothing in that fold's own map, nor in which one is chosen for it."""
    logits, labels = of_two(300, intercept=1.0)
    folds, patients = np.repeat(FOLDS, 100), names(300)
    before, maps = cross_fitted(method, logits, labels, folds=folds, patients=patients)
    after, others = cross_fitted(
        method, logits, np.where(folds == "1", 1 - labels, labels), folds=folds, patients=patients
    )
    assert_array_equal(after[folds == "1"], before[folds == "1"])
    assert others["1"] == maps["1"] and others["0"] != maps["0"]


def test_a_fold_is_mapped_by_what_is_fitted_on_the_others():
    logits, labels = several_labels(300)
    folds = np.repeat(FOLDS, 100)
    probabilities, maps = cross_fitted("temperature", logits, labels, folds=folds, patients=names(300))
    for fold in FOLDS:
        expected = fit_temperature(logits[folds != fold], labels[folds != fold])
        assert maps[fold] == expected
        assert_array_equal(probabilities[folds == fold], expected.apply(logits[folds == fold]))


def test_auto_chooses_for_each_fold_without_it():
    logits, labels = of_two(600, intercept=1.0)
    labels[:300] = of_two(300, intercept=0.0)[1]
    logits[:300] = of_two(300, intercept=0.0)[0]
    folds = np.repeat(["a", "b"], 300)
    _, maps = cross_fitted("auto", logits, labels, folds=folds, patients=names(600))
    assert (maps["a"].method, maps["b"].method) == ("platt", "temperature")


def test_one_fold_cannot_be_cross_fitted():
    with pytest.raises(ValueError, match="two folds"):
        cross_fitted(
            "temperature", np.zeros((3, 2)), np.zeros(3, dtype=int), folds=np.array(["0"] * 3), patients=names(3)
        )


def test_a_patient_in_two_folds_is_refused_by_name():
    logits, labels = of_two(9)
    with pytest.raises(ValueError, match="1 are in several, e.g. p00001$"):
        cross_fitted(
            "temperature",
            logits,
            labels,
            folds=np.repeat(FOLDS, 3),
            patients=names(9, each=3)[[0, 0, 0, 3, 3, 4, 5, 6, 7]],
        )


def test_too_few_cases_outside_a_fold_are_told_with_the_fold():
    logits, labels = of_two(1200)
    with pytest.raises(
        Unsuitable, match="without fold 0: isotonic needs 1000 cases to be fitted on, and there are 800"
    ):
        cross_fitted("isotonic", logits, labels, folds=np.repeat(FOLDS, 400), patients=names(1200))


@pytest.mark.parametrize(
    ("slope", "intercept", "expected"), [(0.5, 0.0, "temperature"), (1.0, 0.0, "none"), (0.5, 1.0, "platt")]
)
def test_no_more_parameters_are_taken_than_the_data_ask_for(slope, intercept, expected):
    choice = choose(*of_two(900, slope, intercept), names(900), names(900))
    assert choice.method == expected
    assert choice.table.loc[choice.table["kept"], "method"].tolist() == [expected]


def test_beta_is_chosen_where_both_ends_are_bent_differently():
    rng = np.random.default_rng(0)
    margins = rng.normal(size=6000) * 3
    prediction = log_softmax(np.stack([np.zeros(6000), margins], axis=1), axis=1)
    labels = (rng.random(6000) < expit(2.5 * prediction[:, 1] - 0.3 * prediction[:, 0])).astype(int)
    assert choose(np.stack([np.zeros(6000), margins], axis=1), labels, names(6000), names(6000)).method == "beta"


def test_isotonic_is_chosen_where_the_truth_has_steps():
    rng = np.random.default_rng(0)
    margins = rng.uniform(-6, 6, 3000)
    labels = (rng.random(3000) < np.array([0.1, 0.5, 0.9])[np.digitize(margins, [-5, 5])]).astype(int)
    choice = choose(np.stack([np.zeros(3000), margins], axis=1), labels, names(3000), names(3000))
    assert choice.method == "isotonic" and choice.table["n_parameters"].iloc[-1] > 3


@pytest.mark.parametrize(
    ("weights", "expected"),
    [(np.diag([0.3, 0.7, 1.5]), "vector"), (np.array([[0.5, 0.4, 0], [0.4, 0.5, 0], [0, 0, 0.9]]), "dirichlet")],
)
def test_the_map_of_three_classes_that_made_the_labels_is_chosen(weights, expected):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3)) * 2
    truth = softmax(log_softmax(logits, axis=1) @ weights.T, axis=1)
    labels = (truth.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    assert choose(logits, labels, names(4000), names(4000)).method == expected


def test_intercepts_of_labels_that_stand_each_by_itself_are_chosen():
    logits, labels = several_labels(900)
    assert choose(logits, labels, names(900), names(900)).method == "platt"
    assert fitted("auto", logits, labels, names(900)) == fit("platt", logits, labels)


def test_the_log_loss_of_several_labels_is_that_of_all_known_pairs():
    logits, labels = several_labels(300)
    folds, known = np.repeat(FOLDS, 100), np.isfinite(labels)
    mapped = cross_fitted("platt", logits, labels, folds=folds, patients=names(300))[0]
    table = choose(logits, labels, folds, names(300)).table.set_index("method")
    assert table.loc["platt", "log_loss"] == pytest.approx(log_loss(labels[known], mapped[known]))


def test_the_table_says_what_each_method_was_worth():
    logits, labels = of_two(900, intercept=1.0)
    folds, patients = np.repeat(FOLDS, 300), names(900)
    table = choose(logits, labels, folds, patients).table.set_index("method")
    assert table.index.tolist() == ["none", "temperature", "platt", "beta", "isotonic"]
    losses = {}
    for method in ("temperature", "platt", "beta"):
        mapped = cross_fitted(method, logits, labels, folds=folds, patients=patients)[0]
        losses[method] = -np.log(mapped[np.arange(900), labels])
        assert table.loc[method, "log_loss"] == pytest.approx(log_loss(labels, mapped))
    gained = losses["platt"] - losses["temperature"]
    assert table.loc["platt", "difference"] == pytest.approx(gained.mean())
    assert table.loc["platt", "standard_error"] == pytest.approx(gained.std(ddof=1) / 30)
    assert table.loc["beta", "difference"] == pytest.approx((losses["beta"] - losses["platt"]).mean())
    assert table.loc["platt", "why"] == "log-loss below that of temperature by more than one standard error"
    assert table.loc["beta", "why"] == "log-loss not below that of platt by more than one standard error"
    assert table.loc["isotonic", "why"].startswith("isotonic needs 1000 cases") and not table.loc["isotonic", "kept"]
    assert table["n_parameters"].dropna().tolist() == [0, 1, 2, 3]


def test_images_of_one_patient_do_not_make_a_difference_surer():
    """Five copies of every case leave the losses as they are; only with patients as the unit does the error stay."""
    logits, labels = of_two(300, intercept=1.0)
    folds, copies = np.repeat(FOLDS, 100), np.repeat(np.arange(300), 5)
    once = choose(logits, labels, folds, names(300)).table.set_index("method")
    many = choose(logits[copies], labels[copies], folds[copies], names(300)[copies]).table.set_index("method")
    assert many.loc["platt", "standard_error"] == pytest.approx(once.loc["platt", "standard_error"], rel=0.05)
    naive = choose(logits[copies], labels[copies], folds[copies], names(1500)).table.set_index("method")
    assert naive.loc["platt", "standard_error"] == pytest.approx(once.loc["platt", "standard_error"] / 5**0.5, rel=0.05)


def test_the_order_of_cases_and_the_names_of_patients_in_it_do_not_matter():
    logits, labels = of_two(400, intercept=0.4)
    order = np.random.default_rng(1).permutation(400)
    straight = choose(logits, labels, names(400), names(400))
    shuffled = choose(logits[order], labels[order], names(400)[order], names(400)[order])
    assert shuffled.method == straight.method
    assert_allclose(shuffled.table["log_loss"].astype(float), straight.table["log_loss"].astype(float), rtol=1e-6)


def test_one_patient_alone_leaves_nothing_to_choose_by():
    with pytest.raises(ValueError, match="at least two patients or folds"):
        choose(*of_two(20), np.array(["p"] * 20), np.array(["p"] * 20))


def test_in_sample_log_loss_flatters_and_isotonic_most_of_all(monkeypatch):
    """200 cases of doubled logits: in-sample < truth, cross-fitted close to it; by 40 repetitions and 20,000 cases."""
    monkeypatch.setattr(fitting, "ENOUGH_FOR_ISOTONIC", 0)
    folds, patients, far = (np.arange(200) % 5).astype(str), names(200), of_two(20_000, seed=99)

    def gaps(method):
        found = []
        for seed in range(40):
            logits, labels = of_two(200, seed=seed)
            whole, across = (
                fit(method, logits, labels),
                cross_fitted(method, logits, labels, folds=folds, patients=patients)[0],
            )
            truth = log_loss(far[1], whole.apply(far[0]))
            found.append((log_loss(labels, whole.apply(logits)) - truth, log_loss(labels, across) - truth))
        return np.mean(found, axis=0)

    platt, isotonic = gaps("platt"), gaps("isotonic")
    assert isotonic[0] < platt[0] < 0 and isotonic[0] < -0.05
    assert abs(platt[1]) < 0.015 and abs(isotonic[1]) < 0.03


def test_the_map_of_every_fold_can_be_written_and_read():
    logits, labels = several_labels(600)
    _, maps = cross_fitted("auto", logits, labels, folds=np.repeat(FOLDS, 200), patients=names(600))
    assert {calibrator_from(one.as_json()) for one in maps.values()} == set(maps.values())
