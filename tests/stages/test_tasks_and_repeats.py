"""cohort and split where a case has several labels or a grade, repeated folds, and what a further case moves."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline import params, paths
from pipeline.imaging.augmentation.augmented_views import AugmentedViews
from pipeline.imaging.geometry import Geometry
from pipeline.imaging.tables.pseudonyms import pseudonym, salt_of
from pipeline.seeds import seed_for
from tests.stages.clinic import RAW, cohort, with_copy
from tests.stages.running import FOLDS, refusal, run
from tests.stages.stored import channels_of

NAMES = [*map(int, FOLDS[:3]), "final"]
REPEATS = [f"r2-{number}" for number in range(3)]


def several(table):
    """Give each patient findings by number; one case in eight has something unknown, two have nothing known."""
    number = table["patient_id"].str.split().str[-1].astype(int)
    edema, mass = number % 2 == 0, number % 3 == 0
    words = [";".join(["edema"] * e + ["mass"] * m) or "no finding" for e, m in zip(edema, mass, strict=True)]
    table["label"] = np.where(number % 8 == 1, "edema;?mass", words)
    table.loc[number.isin([3, 9]), "label"] = "?edema; ?mass"
    return table


@pytest.fixture
def findings(project):
    """A project in which a case has any number of findings."""

    def write(**changes):
        root = project(**({"cohort__classes": [], "cohort__positive": None} | changes))
        if not (root / "written").exists():
            cohort(root, several)
            (root / "written").touch()
        return root

    return write


def split_files():
    return {file.name: file.read_bytes() for file in paths.SPLIT.iterdir()}


def roles(fold):
    return pd.read_csv(paths.split(fold), keep_default_na=False).set_index("case")


def test_several_labels_are_recognised_and_assigned_by_known_values(findings):
    findings()
    run("cohort", "preprocess", "split")
    facts = paths.read_json(paths.COHORT_FACTS)
    assert (facts["task"], facts["classes"], facts["positive"]) == ("multilabel", ["edema", "mass"], None)
    assert set(pd.read_csv(paths.AUDIT)["check"]) <= {"label missing"}
    held_out = pd.concat([roles(fold).query("role == 'held_out'").assign(fold=fold) for fold in "012"])
    assert not held_out.index.duplicated().any() and held_out.groupby("patient")["fold"].nunique().max() == 1
    for name in ("edema", "mass"):
        there = held_out["label"].str.contains(rf"(?<!\?){name}", regex=True)
        assert np.ptp(there.groupby(held_out["fold"]).sum()) <= 2
    final = roles("final")
    assert set(final.loc[final["label"] == "?edema; ?mass", "role"]) == {"unlabelled"}
    assert set(final.loc[final["role"] == "unlabelled", "label"]) == {"?edema; ?mass"}


def test_the_site_is_asked_about_every_label_by_itself(findings):
    findings(split__n_folds=2, split__folds=[0, 1, "final"])
    run("cohort", "preprocess", "split")
    summary = paths.read_json(paths.SPLIT_SUMMARY)
    each = summary["site_predicts_labels"]
    assert set(each) == {"edema", "mass"} and each["edema"]["measure"] == "AUC"
    known = [guess["value"] for guess in each.values() if guess]
    assert summary["site_predicts_label"]["value"] == pytest.approx(np.mean(known), abs=1e-6)
    assert summary["site_predicts_label"]["measure"] == f"AUC (mean of {len(known)} of 2 labels)"


def test_label_too_rare_for_the_folds_is_warned_of_and_then_refused(findings, capsys):
    root = findings()
    cohort(root, lambda table: table.assign(label=table["label"].where(table["case_id"] != "Doe_01_0.png", "hernia")))
    run("cohort", "preprocess")
    assert "rare class: 'hernia' has 1 patients for 3 folds" in capsys.readouterr().out
    message = refusal(capsys, "split")
    assert "label 'hernia' (known present) has 1 patient(s), fewer than split.n_folds = 3" in message
    assert "remove the label from the column label" in message


@pytest.mark.parametrize(
    ("label", "harmful"),
    [("edema;mass", False), ("edema;?mass", False), ("?edema;?mass", False), ("mass;?edema", False), ("mass", True)],
)
def test_duplicates_contradict_only_by_labels_known_of_both(findings, capsys, label, harmful):
    root = findings()  # patient 0 has edema and mass
    Image.open(root / RAW / "Doe_00_0.png").save(root / RAW / "again.png", compress_level=1)
    with_copy(root, "Doe_00_0.png", "again.png", patient_id="somebody else", label=label)
    run("cohort", "preprocess")
    if harmful:
        assert "labels contradict" in refusal(capsys, "split")
    else:
        run("split")
    exact = pd.read_csv(paths.DUPLICATES).query("check == 'exact duplicate'")
    assert exact["labels"].tolist() == ["contradict" if harmful else "unknown" if label == "?edema;?mass" else "same"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cohort__positive": "edema"}, "several, each with a probability of its own; set cohort.positive to null"),
        ({"cohort__task": "multilabel", "cohort__positive": "edema"}, "but multilabel has no such class"),
        ({"cohort__classes": ["edema", "no finding", "mass"]}, "cohort.classes names 'no finding'"),
        ({"cohort__task": "ordinal"}, "cohort.classes must name the grades from the lowest upwards"),
    ],
)
def test_what_makes_no_sense_for_the_task_is_refused_with_the_cure(findings, capsys, changes, said):
    findings(**changes)
    assert said in refusal(capsys, "cohort")


def test_one_label_is_enough_if_it_may_be_absent_else_two_classes(project, capsys):
    root = project(cohort__classes=[], cohort__positive=None, cohort__task="multilabel")
    cohort(root, lambda table: table.assign(label=table["label"].map({"ill": "edema", "well": "no finding"})))
    run("cohort")
    assert paths.read_json(paths.COHORT_FACTS)["classes"] == ["edema"]
    cohort(root, lambda table: table.assign(label=table["label"].where(table["label"] != "edema", "")))
    assert "at least one label is needed" in refusal(capsys, "cohort")
    project(cohort__task="auto")
    assert "holds 1 class(es)" in refusal(capsys, "cohort")


def test_grades_keep_the_order_in_which_they_are_declared(project):
    project(cohort__task="ordinal", cohort__classes=["well", "ill"], cohort__positive=None)
    run("cohort")
    facts = paths.read_json(paths.COHORT_FACTS)
    assert (facts["task"], facts["classes"], facts["positive"]) == ("ordinal", ["well", "ill"], "ill")
    project(cohort__task="auto")
    run("cohort")
    assert paths.read_json(paths.COHORT_FACTS) == facts | {"task": "multiclass"}


@pytest.mark.parametrize("kind", ["project", "findings"])
def test_a_repetition_is_assigned_anew_and_changes_no_byte_of_another_file(request, kind):
    write = request.getfixturevalue(kind)
    write()
    run("cohort", "preprocess", "split")
    before = split_files()
    write(split__folds=[*NAMES, *REPEATS, "r3-1"])
    run("split")
    after = split_files()
    counted, counted_anew = (files.pop("counts.csv").splitlines() for files in (before, after))
    assert {name: after[name] for name in before} == before and set(counted) < set(counted_anew)
    assert set(after) - set(before) == {f"{name}.csv" for name in [*REPEATS, "r3-1"]}
    development = set(roles("final").query("role in ('train', 'validation')").index)
    parts = [set(roles(name).query("role == 'held_out'").index) for name in REPEATS]
    assert set().union(*parts) == development and sum(map(len, parts)) == len(development)
    first = [set(roles(name).query("role == 'held_out'").index) for name in "012"]
    assert not any(part in first for part in parts)
    for name in REPEATS:
        table = roles(name)
        evaluated, fitted = (
            set(table.loc[table["role"].isin(some), "patient"])
            for some in (["held_out", "test"], ["train", "validation", "unlabelled"])
        )
        assert not evaluated & fitted and "validation" in set(table["role"])


def test_repeated_folds_are_told_from_numbered_ones_and_kept_in_order(project):
    project(split__folds=["r3-2", 0, "r2-1", "final", "r2-0", "r10-2", "without-r2-0"])
    split = params.load().split
    assert split.repeated == {"r3": ("r3-2",), "r2": ("r2-1", "r2-0"), "r10": ("r10-2",)}
    assert split.numbered == ("0",) and split.left_out == ("without-r2-0",)


@pytest.mark.parametrize("name", ["r1-0", "r0-0", "r2-3", "r2-", "r2", "r02-0", "r2-00", "r2-0-1", "R2-0", "r\u0662-0"])
def test_a_repetition_that_is_none_is_refused_with_what_may_stand_there(project, capsys, name):
    project(split__folds=[*NAMES, name])
    message = refusal(capsys, "split")
    assert f"split.folds names '{name}', which is no fold; choose from 0, 1, 2, final" in message
    assert "r2-0 to r2-2, r3-0 to r3-2 and so on" in message


def views_of(case):
    """Every view that training and adaptation draw of a case."""
    geometry = Geometry.from_json(paths.read_json(paths.GEOMETRY))
    views = AugmentedViews(channels_of, partial(seed_for, 0), geometry)
    return np.concatenate([views.augmented(case, 2), views.moved(case)[None], *(p[None] for p in views.pair(case))])


def test_further_case_with_seed_by_name_changes_no_other_case(project, private_keys):
    """At a given geometry. What a further case may move is the splitting of the folds and of the validation sets."""
    root = project(split__test="patients", split__folds=[*NAMES, "without-next-door"])
    run("cohort", "preprocess", "split")
    before = roles("without-next-door")
    views = {case: views_of(case) for case in before.index}
    Image.fromarray(np.asarray(Image.open(root / RAW / "Doe_00_0.png"))[::-1]).save(root / RAW / "new.png")
    with_copy(root, "Doe_00_0.png", "new.png", patient_id="a new one")
    run("cohort", "preprocess", "split")
    after = roles("without-next-door")
    new = pseudonym(salt_of(private_keys / "clinic", False), "case", "new.png")
    assert set(after.index) - set(before.index) == {new}
    for role in ("test", "held_out"):  # by the patient's own hash, and by the site's name
        assert ((after.loc[before.index, "role"] == role) == (before["role"] == role)).all()
    assert set(before["role"]) >= {"test", "held_out"}
    for case, drawn in views.items():
        np.testing.assert_array_equal(views_of(case), drawn)
    assert len({drawn.tobytes() for drawn in views.values()}) == len(views)
