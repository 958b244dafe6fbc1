import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from pipeline.metrics.columns import InputColumn
from pipeline.metrics.fusion import fusion_from
from pipeline.metrics.output_fusion import crossed, fit_hazard_fusion, fit_number_fusion, of_each_patient, values_of
from pipeline.metrics.regression.evaluation import map_for, mapped
from pipeline.metrics.survival.cox import fit_cox
from pipeline.metrics.survival.evaluation import mapped as mapped_times
from pipeline.metrics.survival.evaluation import recalibration_for

AGE, STAGE = InputColumn("age", "numeric"), InputColumn("stage", "ordered", ("I", "II", "III"))


def cases_of(n=300, seed=0, of_image=1.0, of_age=1.0):
    """Cases of two images each whose number is a sum of image, age and noise; times come from it, too."""
    rng = np.random.default_rng(seed)
    patients = np.repeat([f"p{number:03d}" for number in range(n // 2)], 2)
    image, age = rng.normal(size=n), np.repeat(rng.normal(60, 10, n // 2), 2)
    risk = of_image * image + of_age * (age - 60) / 10
    known = rng.exponential(np.exp(-risk))
    return pd.DataFrame(
        {
            **{"case": [f"c{k}" for k in range(n)], "patient": patients, "logit_0": 3 * image + 1},
            **{"column_age": [f"{one:.1f}" for one in age], "column_stage": rng.choice(["I", "II", "III"], n)},
            **{"label": (5 * risk + rng.normal(size=n)).astype(str), "fold": np.where(np.arange(n) < n // 2, "0", "1")},
            **{"time": np.minimum(known, 2.0), "event": known <= 2.0, "site": "here"},
        }
    )


def test_the_fusion_of_a_number_is_a_ridge_regression():
    cases = cases_of().groupby("patient", as_index=False).first()
    true = cases["label"].to_numpy(float)
    fusion = fit_number_fusion(cases, true, [AGE, STAGE], True)
    features = np.stack([cases["logit_0"], cases["column_age"].astype(float), cases["column_stage"].map(len)], axis=1)
    scale = features.std(axis=0)
    theirs = Ridge(alpha=1.0).fit(features / scale, true)
    np.testing.assert_allclose(values_of(fusion, cases), theirs.predict(features / scale), rtol=1e-6)


def test_the_fusion_of_a_time_is_a_penalised_cox_model():
    cases = cases_of().groupby("patient", as_index=False).first()
    times, events = cases["time"].to_numpy(), cases["event"].to_numpy()
    fusion = fit_hazard_fusion(cases, times, events, [AGE], True)
    features = np.stack([cases["logit_0"], cases["column_age"].astype(float)], axis=1)
    scale = features.std(axis=0)
    values = (features / scale) @ fit_cox(features / scale, times, events, 1.0)
    np.testing.assert_allclose(values_of(fusion, cases), values - values.mean(), atol=1e-6)


def test_two_images_of_a_patient_weigh_as_much_as_one():
    cases = cases_of()
    single = cases.groupby("patient", as_index=False).first()
    doubled = pd.concat([single, single]).reset_index(drop=True)
    one, two = (fit_number_fusion(some, some["label"].to_numpy(float), [AGE], True) for some in (single, doubled))
    np.testing.assert_allclose(values_of(one, single), values_of(two, single), rtol=1e-9)


def test_a_fusion_of_an_output_survives_json():
    cases = cases_of(60)
    fusion = fit_number_fusion(cases, cases["label"].to_numpy(float), [AGE, STAGE], True)
    again = fusion_from(fusion.as_json())
    assert again == fusion and again.apply(np.array([[2.5]])).tolist() == [[2.5]]


def test_a_crossed_value_does_not_depend_on_the_label_of_its_patient():
    cases = cases_of(40)

    def fit(some):
        return fit_number_fusion(some, some["label"].to_numpy(float), [AGE], True)

    before = crossed(cases, fit)
    changed = cases.assign(label=cases["label"].where(cases["patient"] != "p003", "1000"))
    here = (cases["patient"] == "p003").to_numpy()
    after = crossed(changed, fit)
    np.testing.assert_array_equal(before[here], after[here])
    assert (before[~here] != after[~here]).any()


@pytest.mark.parametrize(("of_image", "of_age", "best"), [(1, 1, "both"), (0, 1, "columns"), (1, 0, "image")])
def test_both_are_about_as_good_as_the_better_part(of_image, of_age, best):
    cases = cases_of(400, of_image=of_image, of_age=of_age)
    maps = {fold: map_for(cases[cases["fold"] != fold], 0.9, "auto", [AGE]) for fold in ("0", "1")}
    found = mapped(cases, cases["label"].to_numpy(float), maps)
    errors = {name: np.abs(one.values - one.true).mean() for name, one in found.parts.items()}
    both = np.abs(found.values - found.true).mean()
    assert both < 1.1 * min(errors.values())
    assert (both < 0.7 * min(errors.values())) == (best == "both")
    assert 0.85 <= found.covered.mean() <= 0.95


def test_hazards_from_both_rank_better_than_from_either_part():
    cases = cases_of(600)
    at = np.array([0.2, 0.5])
    maps = {fold: recalibration_for(cases[cases["fold"] != fold], at, "auto", [AGE]) for fold in ("0", "1")}
    found = mapped_times(cases, maps)
    risk = found.values
    assert all(np.corrcoef(risk, one.values)[0, 1] < 0.9 for one in found.parts.values())
    survived = found.survival(at)[:, 1]
    assert abs((1 - survived).mean() - ((found.times <= 0.5) & found.events).mean()) < 0.05


def test_patients_get_the_mean_of_the_values_of_their_images():
    cases, rows, means = of_each_patient(cases_of(10), {"a": np.arange(10.0)})
    assert means["a"].tolist() == [0.5, 2.5, 4.5, 6.5, 8.5] and cases["images"].tolist() == [2] * 5
    assert [some.tolist() for some in rows][:2] == [[0, 1], [2, 3]]
