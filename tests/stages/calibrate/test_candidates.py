import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from pipeline.metrics.bootstrap import Bootstrap
from pipeline.stages.calibrate.candidates import (
    CANDIDATES,
    SIGN_OF_BETTER,
    evaluate_candidates,
    evaluate_validators,
    kendall_tau,
    true_losses,
)

SKILL = {"none": 0.5, "adabn": 2.0, "coral": 1.2}
BOOTSTRAP = Bootstrap(300, 0.95, 0)
LOWER_IS_BETTER = ("source_loss", "deep_embedded_validation")


def predictions(patients=60, folds=("0", "1"), skill=SKILL, seed=0):
    """Two cases a patient; the more skill, the more the logits follow the label."""
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(patients), 2)
    labels = numbers % 2
    cases = pd.DataFrame(
        {
            "fold": np.array(folds)[numbers % len(folds)],
            "case": [f"c{i:03d}" for i in range(len(numbers))],
            "patient": [f"p{number}" for number in numbers],
            "label": labels,
        }
    )
    tables = []
    for candidate, strength in skill.items():
        evidence = strength * (2 * labels - 1) + rng.normal(size=len(labels))
        tables.append(cases.assign(candidate=candidate, logit_0=-evidence / 2, logit_1=evidence / 2))
    return pd.concat(tables, ignore_index=True)


def row_of(table, candidate):
    return table.set_index("candidate").loc[candidate]


def test_candidates_have_the_metrics_of_their_logits_in_any_row_order():
    rows = predictions()
    table = evaluate_candidates(rows.sample(frac=1, random_state=3), {"0": "adabn", "1": "coral"}, BOOTSTRAP)
    assert table.columns.tolist() == CANDIDATES and set(table["candidate"]) == {*SKILL, "auto"}
    for candidate in SKILL:
        own = rows[rows["candidate"] == candidate]
        found = row_of(table, candidate)
        logs = log_softmax(own[["logit_0", "logit_1"]].to_numpy(), axis=1)
        assert found["log_loss"] == pytest.approx(-logs[np.arange(len(own)), own["label"]].mean(), abs=1e-6)
        assert found["auc"] == pytest.approx(roc_auc_score(own["label"], own["logit_1"]), abs=1e-6)
        assert found["log_loss_lower"] < found["log_loss"] < found["log_loss_upper"]
        assert (found["n"], found["patients"], found["events"]) == (120, 60, 60)
        assert np.isnan(found["regret"])


def test_auto_takes_in_each_fold_the_candidate_that_was_chosen_there():
    rows, chosen = predictions(), {"0": "none", "1": "coral"}
    table = evaluate_candidates(rows, chosen, BOOTSTRAP)
    own = rows[rows["candidate"] == rows["fold"].map(chosen)]
    auto = row_of(table, "auto")
    assert auto["auc"] == pytest.approx(roc_auc_score(own["label"], own["logit_1"]), abs=1e-6)
    assert dict(zip(table["candidate"], table["chosen_in"], strict=True)) == {
        "none": 1,
        "adabn": 0,
        "coral": 1,
        "auto": 2,
    }


def test_the_regret_is_the_oracles_log_loss_minus_that_of_the_choice():
    table = evaluate_candidates(predictions(), {"0": "none", "1": "none"}, BOOTSTRAP)
    assert table.loc[table["oracle"], "candidate"].tolist() == ["adabn"]
    auto, best = row_of(table, "auto"), row_of(table, "adabn")
    assert auto["regret"] == pytest.approx(best["log_loss"] - auto["log_loss"], abs=2e-6)
    assert auto["regret_lower"] < auto["regret"] < auto["regret_upper"] < 0


def test_the_choice_of_the_oracle_has_no_regret_and_no_width():
    auto = row_of(evaluate_candidates(predictions(), {"0": "adabn", "1": "adabn"}, BOOTSTRAP), "auto")
    assert auto["regret"] == auto["regret_lower"] == auto["regret_upper"] == 0


def test_choosing_by_fold_may_beat_every_single_candidate():
    first, second = (
        predictions(folds=["0"], skill={"a": 2.0, "b": 0.0}),
        predictions(folds=["1"], skill={"a": 0.0, "b": 2.0}),
    )
    rows = pd.concat([first, second.assign(case="d" + second["case"])])
    assert row_of(evaluate_candidates(rows, {"0": "a", "1": "b"}, BOOTSTRAP), "auto")["regret"] > 0


def test_images_of_a_patient_are_drawn_together():
    rows = predictions()
    twice = pd.concat([rows, rows.assign(case="x" + rows["case"])])
    chosen = {"0": "none", "1": "none"}
    once, more = (row_of(evaluate_candidates(table, chosen, BOOTSTRAP), "auto") for table in (rows, twice))
    assert more["regret_upper"] - more["regret_lower"] == pytest.approx(once["regret_upper"] - once["regret_lower"])


def test_a_candidate_that_lacks_a_case_is_left_out_and_cannot_be_chosen():
    rows = predictions()
    partly = rows[(rows["candidate"] != "adabn") | (rows["fold"] == "1")]
    table = evaluate_candidates(partly, {"0": "coral", "1": "adabn"}, BOOTSTRAP)
    assert set(table["candidate"]) == {"none", "coral", "auto"} and set(table["n"]) == {120}
    with pytest.raises(ValueError, match="60 of 120 cases were scored by the candidate that was chosen"):
        evaluate_candidates(partly, {"0": "adabn", "1": "adabn"}, BOOTSTRAP)


def test_a_validator_that_ranks_like_the_labels_has_tau_one():
    rows = predictions()
    searches = {}
    for fold in ("0", "1"):
        losses = true_losses(rows[rows["fold"] == fold])
        searches[fold] = [
            {name: loss if name in LOWER_IS_BETTER else -loss for name in SIGN_OF_BETTER} | {"method": candidate}
            for candidate, loss in losses.items()
        ]
    assert evaluate_validators(rows, searches)["kendall_tau"].tolist() == [1] * len(SIGN_OF_BETTER)
    reversed_in_one = [
        {name: -candidate[name] for name in SIGN_OF_BETTER} | {"method": candidate["method"]}
        for candidate in searches["1"]
    ]
    table = evaluate_validators(rows, searches | {"1": reversed_in_one})
    assert table["kendall_tau"].tolist() == [0] * len(SIGN_OF_BETTER) and set(table["candidates"]) == {3}


def test_scores_that_were_not_taken_do_not_count():
    rows = predictions()
    scores = {"source_loss": 0.5, "information_maximisation": None, "soft_neighbourhood_density": float("nan")}
    search = [scores | {"method": "none"}, scores | {"method": "adabn", "source_loss": 0.4}, {"method": "unscored"}]
    table = evaluate_validators(rows, {"0": search}).set_index("validator")
    assert table["candidates"].tolist() == [2, 0, 0, 0]
    assert table.loc["source_loss", "kendall_tau"] == 1 and table["kendall_tau"].isna().sum() == 3


@pytest.mark.parametrize("seed", range(20))
def test_kendalls_tau_is_scipys_with_ties(seed):
    first, second = np.random.default_rng(seed).integers(0, 4, (2, 9))
    assert kendall_tau(first, second) == pytest.approx(kendalltau(first, second).statistic)


def test_kendalls_tau_of_nothing_to_order_is_no_number():
    assert np.isnan(kendall_tau([], [])) and np.isnan(kendall_tau([1], [2])) and np.isnan(kendall_tau([1, 1], [1, 2]))
