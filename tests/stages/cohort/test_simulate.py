import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.stages.cohort.simulation.recipe import read_recipe
from pipeline.stages.cohort.simulation.scan import plan_scans, simulate
from tests.conftest import ROOT

RECIPE = read_recipe(ROOT / "data" / "demo")
JOBS = plan_scans(RECIPE)


def first(site, lesion):
    return next(job for job in JOBS if job.site == site and job.lesion == lesion)


def test_demo_has_three_sites_repeated_patients_and_even_labels():
    patients = {(job.site, job.patient) for job in JOBS}
    assert 85 <= len(patients) <= 100 and len(JOBS) > len(patients)
    assert {job.site for job in JOBS} == {"north", "south", "harbour"}
    assert {job.split for job in JOBS if job.site == "harbour"} == {"test", "unlabelled"}
    for site in RECIPE.sites:
        share = np.mean([job.lesion for job in JOBS if job.site == site])
        assert 0.4 < share < 0.6


def test_unlabelled_scans_carry_no_label():
    assert {job.row["label"] for job in JOBS if job.split == "unlabelled"} == {""}


def test_both_scans_of_a_patient_have_the_same_label():
    seen = {}
    for job in JOBS:
        assert seen.setdefault((job.site, job.patient), job.lesion) == job.lesion


@pytest.mark.parametrize("site", RECIPE.sites)
def test_each_site_has_its_own_orientation_voxels_and_number_format(site):
    image = simulate(first(site, lesion=False))
    assert "".join(nib.aff2axcodes(image.affine)) == RECIPE.sites[site].orientation
    assert sorted(image.header.get_zooms()) == pytest.approx(sorted(RECIPE.sites[site].voxel_mm), rel=1e-4)
    assert image.get_data_dtype() == RECIPE.sites[site].dtype


def test_a_lesion_darkens_a_small_part_and_changes_nothing_else():
    job = first("north", lesion=True)
    ill = np.asarray(simulate(job).dataobj, dtype=float)
    well = np.asarray(simulate(dataclasses.replace(job, lesion=False)).dataobj, dtype=float)
    changed = np.abs(ill - well) > 0.02 * job.recipe.sites["north"].full_scale
    assert 0.0005 < changed.mean() < 0.05
    assert (ill[changed] < well[changed]).mean() > 0.95


def test_the_same_job_gives_the_same_scan_and_another_visit_another():
    job = first("harbour", lesion=True)
    scan = np.asarray(simulate(job).dataobj)
    np.testing.assert_array_equal(np.asarray(simulate(job).dataobj), scan)
    assert (np.asarray(simulate(dataclasses.replace(job, session=2)).dataobj) != scan).any()


def test_patients_with_lesions_are_older_and_visits_agree_on_sex_and_age():
    seen = {}
    for job in JOBS:
        row = job.row
        assert seen.setdefault(row["patient_id"], (row["sex"], row["age"])) == (row["sex"], row["age"])
    assert {sex for sex, _ in seen.values()} == {"F", "M"}
    ages = {lesion: [float(job.row["age"]) for job in JOBS if job.lesion == lesion] for lesion in (False, True)}
    assert 3 < np.mean(ages[True]) - np.mean(ages[False]) < 15
    assert min(ages[False] + ages[True]) >= 18 and max(ages[False] + ages[True]) <= 89


def test_a_recipe_with_an_unknown_key_is_refused(tmp_path):
    text = Path(ROOT / "data" / "demo" / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(text + "\ncolour: blue\n")
    with pytest.raises(UserError, match="colour"):
        read_recipe(tmp_path)


def test_case_ids_of_the_demo_are_unique():
    names = [job.row["case_id"] for job in JOBS]
    assert len(set(names)) == len(names)
