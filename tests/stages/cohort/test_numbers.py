"""Numbers as labels: what the proposal of an import says of them, and the lesion volume of the demo."""

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.schema import Cohort
from pipeline.stages.cohort.numbers import problems_of_numbers, with_numbers
from pipeline.stages.cohort.proposal import proposed_settings
from pipeline.stages.cohort.simulation.recipe import Recipe
from pipeline.stages.cohort.simulation.scan import lesion_volume, plan_scans, simulate
from tests.conftest import ROOT

COLUMNS = ["case_id", "patient_id", "label", "site", "split"]


def table_of(labels, split=""):
    rows = [(f"c{number}", f"p{number}", label, "", split) for number, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=COLUMNS)


def test_an_import_of_measured_numbers_proposes_a_regression_without_unit():
    found = yaml.safe_load(proposed_settings(table_of(["1.5", "20", "3.25", "44", "5"])))
    assert found["cohort"] == {"task": "regression", "unit": ""}
    grades = yaml.safe_load(proposed_settings(table_of(["0", "1", "2", "3"] * 3)))
    assert grades["cohort"]["task"] == "multiclass" and len(grades["cohort"]["classes"]) == 4


def test_equal_numbers_become_equal_texts():
    cohort = Cohort(path="x", task="regression", unit="ml")
    assert with_numbers(table_of(["1.50", "1.5", "+1.5e0", ""]), cohort)["label"].tolist() == ["1.5"] * 3 + [""]


def test_an_unlabelled_case_needs_no_number_and_others_do():
    assert problems_of_numbers(table_of(["1", "2"]), ROOT) == []
    unlabelled = pd.concat([table_of(["1", "2"]), table_of([""], "unlabelled")])
    assert problems_of_numbers(unlabelled, ROOT) == []
    (said,) = problems_of_numbers(table_of(["1", "2", ""]), ROOT)
    assert "row 3" in said and "missing" in said
    (same,) = problems_of_numbers(table_of(["7", "7.0"]), ROOT)
    assert "1 different number" in same


@pytest.fixture
def recipe():
    values = yaml.safe_load((ROOT / "data/demo/recipe.yaml").read_text())
    for site in values["sites"].values():
        site |= {"patients": {"development": 3}, "voxel_mm": [4, 4, 8], "lesion_share": 0.7}
    return values


def test_the_volume_of_lesions_changes_no_scan_of_the_demo(recipe):
    as_classes, as_volumes = (plan_scans(Recipe(**recipe, label=label)) for label in ("class", "lesion_volume"))
    assert [job.file for job in as_classes] == [job.file for job in as_volumes]
    first, second = as_classes[1], as_volumes[1]
    np.testing.assert_array_equal(simulate(first).get_fdata(), simulate(second).get_fdata())
    labels = {job.row["label"] for job in as_classes}
    assert labels == {"control", "lesion"}


def test_the_volume_is_that_of_the_voxels_that_lesions_darken(recipe):
    """The dark voxels of a patient without noise, beside the same head without lesions."""
    quiet = recipe | {"darkness": [0.7, 0.8], "lesions": [1, 1]}
    for site in quiet["sites"].values():
        site |= {"noise": 0.0, "bias": 0.0, "voxel_mm": [2, 2, 2], "dtype": "float32", "tilt_deg": 0}
    job = next(one for one in plan_scans(Recipe(**quiet, label="lesion_volume")) if one.lesion)
    with_lesions = simulate(job).get_fdata()
    without = simulate(type(job)(**(vars(job) | {"lesion": False}))).get_fdata()
    lost = 1 - with_lesions / np.maximum(without, 1e-6)
    inside = (lost > lost[without > without.max() / 3].max() / 2) & (without > without.max() / 10)
    assert lesion_volume(job) == pytest.approx(inside.sum() * 8 / 1000, rel=0.25)
    assert float(job.row["label"]) == pytest.approx(lesion_volume(job), abs=1e-3)


def test_a_patient_without_lesions_has_the_volume_zero(recipe):
    found = [job for job in plan_scans(Recipe(**recipe, label="lesion_volume")) if not job.lesion]
    assert found and {job.row["label"] for job in found} == {"0.000"}


def test_an_age_is_the_label_and_no_column_and_shrinks_the_brain(recipe):
    ageing = recipe | {"ageing": 0.5}
    for site in ageing["sites"].values():
        site |= {"noise": 0.0, "bias": 0.0, "tilt_deg": 0, "csf": 0.0}
    jobs = plan_scans(Recipe(**ageing, label="age"))
    assert "age" not in jobs[0].row and 18 <= float(jobs[0].row["label"]) <= 89
    signals = []
    for job in jobs:
        still = type(job)(**(vars(job) | {"recipe": job.recipe.model_copy(update={"ageing": 0.0})}))
        signals.append(simulate(job).get_fdata().sum() / simulate(still).get_fdata().sum())
    ages = [float(job.row["label"]) for job in jobs]
    assert np.corrcoef(ages, signals)[0, 1] < -0.9


def test_without_ageing_no_scan_of_the_demo_changes(recipe):
    one, other = (plan_scans(Recipe(**recipe, label=label))[0] for label in ("class", "age"))
    np.testing.assert_array_equal(simulate(one).get_fdata(), simulate(other).get_fdata())
