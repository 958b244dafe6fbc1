"""Reasons to refuse a partition, found from the table of cases alone."""

import pandas as pd

from pipeline.schema import Split
from pipeline.stages.split.checks import problems_of_split, settled
from pipeline.stages.split.leakage import described, marked_exact


def cases_of(rows):
    table = pd.DataFrame(rows, columns=["case", "patient", "site", "label", "side"])
    return table.assign(voxel_hash=table["case"])


def problems(cases, classes=("ill", "well"), **split):
    duplicates = described(marked_exact(cases), cases)
    return problems_of_split(cases, cases, duplicates, Split(n_folds=2, folds=["final"], **split), classes=classes)


SOUND = [(f"c{n}", f"p{n}", "here", ["ill", "well"][n % 2], ["development", "test"][n // 8]) for n in range(12)]


def test_a_sound_partition_has_no_problem():
    assert problems(cases_of(SOUND)) == []


def test_a_class_without_development_cases_is_refused():
    """Split let it pass: it knew only the classes that development cases have."""
    (problem,) = problems(cases_of(SOUND), classes=("ill", "unclear", "well"))
    assert problem.startswith("class 'unclear' has 0 patient(s), fewer than split.n_folds = 2; ")


def test_all_reasons_are_listed_at_once():
    cases = cases_of([*SOUND, ("c12", "p0", "here", "ill", "test"), ("c13", "p13", "here", "sick", "development")])
    cases.loc[1, "voxel_hash"] = cases.loc[13, "voxel_hash"]  # one well, one sick
    split = {"test": "sites", "test_sites": ["mars", "venus"]}
    found = problems(cases, ("ill", "sick", "well"), **split)
    sites = "names 'mars', 'venus', but the cohort's sites are here"
    parts = [sites, "1 patient(s) appear in more", "exact duplicate: c1 "]
    assert len(found) == 4
    for part, problem in zip([*parts, "class 'sick' has 1 patient(s)"], found, strict=True):
        assert part in problem


def test_an_empty_test_set_is_refused_without_naming_a_file():
    """The value may come from cohort.yaml; the message named params.yaml."""
    (problem,) = problems(cases_of(SOUND[:8]), test="given")
    assert problem == "split.test is 'given', but no case belongs to the test set; set split.test to 'none'"


def test_the_cure_for_a_rare_class_names_the_folds_to_set():
    ill, well = problems_of_split(
        cases := cases_of(SOUND[:5]), cases, described(marked_exact(cases), cases), Split(test="none"), classes=()
    )
    assert "class 'ill' has 3 patient(s), fewer than split.n_folds = 5; lower split.n_folds to 2" in ill
    assert "class 'well' has 2 patient(s)" in well and "to 2 (split.folds: [0, 1, final]), or leave the class" in well
    (of_two, *_) = problems(cases[:2], test="none")
    assert of_two == "class 'ill' has 1 patient(s), fewer than split.n_folds = 2; add patients of this class"


def test_who_shares_an_image_with_a_reserved_patient_is_reserved():
    """The draw separated them, and then split refused what it had drawn itself."""
    cases = cases_of(
        [*SOUND, ("c12", "p1", "here", "well", "development"), ("c13", "p1", "here", "well", "unlabelled")]
    )
    cases.loc[[1, 9], "voxel_hash"] = "same"
    found = described(marked_exact(cases), cases)
    reserved = Split(n_folds=2, folds=["final"], test="patients")
    after, duplicates = settled(cases, found, None, reserved)
    moved = after[after["side"] != cases["side"]]
    assert list(zip(moved["case"], moved["side"], strict=True)) == [("c1", "test"), ("c12", "test")]
    assert duplicates["across"].tolist() == ["patients"]
    for other in (Split(test="given"), reserved.model_copy(update={"allow_leaks": ("c9",)})):
        after, duplicates = settled(cases, found, None, other)
        assert after.equals(cases) and duplicates["across"].tolist() == ["train/test boundary"]
