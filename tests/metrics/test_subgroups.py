import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.metrics.bootstrap import cluster_weights
from pipeline.metrics.subgroups import (
    NOT_GIVEN,
    SUBGROUPS,
    bands,
    groups_of,
    is_measured,
    simultaneous_p,
    subgroup_table,
)

METRICS = ["share", "auc", "calibration_slope", "observed_expected", "auc_difference"]


def sample(n, seed=0):
    """Predictions uniform on (0, 1), and events that happen as often as they say."""
    rng = np.random.default_rng(seed)
    prediction = rng.random(n)
    return prediction, rng.random(n) < prediction, np.array([f"p{row}" for row in range(n)])


def table_of(groups, prediction, events, patients, replicates=300, **settings):
    weights = cluster_weights(patients, replicates, seed=0)
    return subgroup_table(groups, prediction, events, patients, weights=weights, confidence=0.95, **settings)


def banded(values, name="column_age"):
    return bands(pd.Series(values, name=name)).tolist()


def test_ages_are_cut_at_declared_edges_and_an_edge_belongs_to_the_older():
    ages = [0, 17.9, 18, 39, 40, 59.9, 60, 80, 101]
    told = ["under 18"] * 2 + ["18 to under 40"] * 2 + ["40 to under 60"] * 2 + ["60 to under 80"]
    assert banded(ages) == banded(map(str, ages)) == [*told, *["80 and over"] * 2]


def test_numbers_fall_into_thirds_at_edges_that_are_no_patients_value():
    dose = np.linspace(1.23456, 9.87654, 30)
    found = banded(dose, "column_dose")
    assert found == ["under 4.12"] * 10 + ["4.12 to under 7"] * 10 + ["7 and over"] * 10
    assert banded([300 * n for n in range(9)])[4] == "800 to under 1600"  # an "age" of 2400 is not in years


def test_words_and_numbers_of_few_kinds_stay_as_they_are():
    assert banded(["F", "M", " F "], "column_sex") == ["F", "M", "F"]
    assert banded(["1.5", "3"] * 9, "column_tesla") == ["1.5", "3"] * 9
    assert banded(range(9), "site") == [str(number) for number in range(9)]
    assert not is_measured(pd.Series([*map(str, range(9)), "about ten"]))


def test_what_is_missing_is_a_group_of_its_own():
    assert banded(["", "61", *map(str, range(20, 30))])[:2] == [NOT_GIVEN, "60 to under 80"]
    assert banded([np.nan, 61.0, *range(20, 30)])[:2] == [NOT_GIVEN, "60 to under 80"]
    assert banded(["F", ""], "column_sex") == ["F", NOT_GIVEN]


def test_groups_of_has_the_site_and_every_additional_column():
    cases = pd.DataFrame({"case": ["a", "b"], "site": ["north", ""], "column_sex": ["F", "M"], "covariate_age": [1, 2]})
    groups = groups_of(cases)
    assert list(groups) == ["site", "sex"] and groups["site"].tolist() == ["north", NOT_GIVEN]


def test_each_group_is_evaluated_by_itself_and_against_all_others():
    prediction, events, patients = sample(400)
    sex = np.where(np.arange(400) % 3 == 0, "F", "M")
    women, men = table_of({"sex": sex}, prediction, events, patients).to_dict("records")
    auc = {who: roc_auc_score(events[sex == who], prediction[sex == who]) for who in "FM"}
    assert women["auc"] == pytest.approx(auc["F"], abs=1e-6) and men["auc"] == pytest.approx(auc["M"], abs=1e-6)
    assert women["auc_difference"] == pytest.approx(auc["F"] - auc["M"], abs=1e-6)
    assert men["auc_difference_upper"] == pytest.approx(-women["auc_difference_lower"])
    assert women["share"] == pytest.approx(events[sex == "F"].mean(), abs=1e-6)
    assert women["observed_expected"] == pytest.approx(
        events[sex == "F"].sum() / prediction[sex == "F"].sum(), abs=1e-6
    )
    assert (women["n"], women["patients"], women["events"]) == (134, 134, events[sex == "F"].sum())
    for metric in METRICS:
        assert women[f"{metric}_lower"] < women[metric] < women[f"{metric}_upper"]


def test_the_group_on_which_the_classifier_fails_is_found_and_no_other():
    prediction, events, patients = sample(1200)
    rng = np.random.default_rng(1)
    site = np.array([f"s{number}" for number in range(1200)], dtype="<U2")
    site[:] = rng.choice(["s0", "s1", "s2", "s3", "s4", "s5"], 1200)
    prediction = np.where(site == "s3", rng.random(1200), prediction)
    table = table_of({"site": site, "sex": rng.choice(["F", "M"], 1200)}, prediction, events, patients)
    bad = table["value"] == "s3"
    assert table.loc[bad, "auc_difference_upper"].item() < 0 and table.loc[bad, "p_simultaneous"].item() < 0.01
    assert table.loc[bad, "calibration_slope_upper"].item() < 0.5
    assert (table.loc[table["column"] == "sex", "p_simultaneous"] > 0.05).all()
    assert set(table["comparisons"]) == {6 + 1}  # both sexes are one comparison


def test_one_in_twenty_tables_of_equal_groups_has_a_significant_one():
    """Without adjustment for the twelve comparisons about half of the tables would."""
    called, alone = [], []
    for seed in range(50):
        prediction, events, patients = sample(720, seed)
        groups = {"scanner": np.array([f"{number % 12}" for number in range(720)])}
        table = table_of(groups, prediction, events, patients, replicates=120)
        called.append((table["p_simultaneous"] < 0.05).any())
        alone.append(((table["auc_difference_lower"] > 0) | (table["auc_difference_upper"] < 0)).any())
    assert np.mean(called) < 0.15  # 0.05, and three standard errors of 50 tables
    assert np.mean(alone) > 0.3


def test_a_group_of_too_few_patients_says_so_and_gives_no_number():
    prediction, events, patients = sample(300)
    group = np.full(300, "large")
    group[np.flatnonzero(events)[:9]] = group[np.flatnonzero(~events)[:30]] = "small"
    small = table_of({"x": group}, prediction, events, patients).set_index("value").loc["small"]
    assert small["too_few"] and (small["n"], small["events"]) == (39, 9)
    assert small[[name for name in SUBGROUPS if name.startswith(tuple(METRICS))]].isna().all()
    ten = table_of({"x": group}, prediction, events, patients, least=9).set_index("value").loc["small"]
    assert not ten["too_few"] and np.isfinite(ten["auc"])


def test_many_images_of_few_patients_are_too_few():
    prediction, events, _ = sample(300)
    patients = np.array([f"{row % 9} {events[row]}" for row in range(300)])
    assert table_of({"x": np.full(300, "all")}, prediction, events, patients)["too_few"].all()


def test_a_group_whose_complement_is_too_small_is_not_compared():
    prediction, events, patients = sample(200)
    group = np.array(["all but two"] * 198 + ["two"] * 2)
    table = table_of({"x": group, "y": np.full(200, "all")}, prediction, events, patients).set_index("value")
    assert np.isfinite(table.loc[["all but two", "all"], "auc"]).all()
    assert table["auc_difference"].isna().all() and table["p_simultaneous"].isna().all()
    assert set(table["comparisons"]) == {0}


def test_bands_are_ordered_by_their_edges_and_missing_values_come_last():
    prediction, events, patients = sample(400)
    ages = np.where(np.arange(400) % 5 == 0, "", (np.arange(400) % 97).astype(str))
    groups = {"age": bands(pd.Series(ages, name="age"))}
    values = table_of(groups, prediction, events, patients)["value"].tolist()
    assert values == ["under 18", "18 to under 40", "40 to under 60", "60 to under 80", "80 and over", NOT_GIVEN]


def test_duplicated_images_leave_every_metric_and_its_interval():
    prediction, events, patients = sample(200)
    sex = np.where(np.arange(200) % 2 == 0, "F", "M")
    once = table_of({"sex": sex}, prediction, events, patients)
    twice = table_of({"sex": np.tile(sex, 2)}, np.tile(prediction, 2), np.tile(events, 2), np.tile(patients, 2))
    slopes = ["calibration_slope_lower", "calibration_slope_upper"]  # their design effect is that of a jackknife
    pd.testing.assert_frame_equal(
        once[SUBGROUPS[6:]].drop(columns=slopes), twice[SUBGROUPS[6:]].drop(columns=slopes), rtol=1e-4
    )
    pd.testing.assert_frame_equal(once[slopes], twice[slopes], rtol=0.05)


def test_the_adjusted_p_is_the_largest_difference_that_chance_gives():
    drawn = np.array([[0.3, -0.1], [0.0, 0.0], [0.6, -0.2], [0.3, -0.1], [0.3, -0.1], [0.3, 0.1], [0.3, -0.3]])
    error = np.std(drawn[1:], axis=0, ddof=1)
    highest = (np.abs(drawn[1:] - drawn[0]) / error).max(axis=1)
    by_hand = [(1 + sum(highest >= abs(found) / one)) / 7 for found, one in zip(drawn[0], error, strict=True)]
    np.testing.assert_allclose(simultaneous_p(drawn), by_hand)
    assert np.isnan(simultaneous_p(np.array([[0.1], [0.1], [0.1]]))).all()  # no spread, no scale


@pytest.mark.parametrize(("oldest", "in_years"), [(120, True), (121, False)])
def test_ages_beyond_120_are_not_years_and_are_cut_into_thirds(oldest, in_years):
    ages = pd.Series([1, 20, 30, 50, 70, 90, 100, oldest], name="column_age")
    assert ("80 and over" in bands(ages)) == in_years
