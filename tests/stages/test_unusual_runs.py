"""Runs that lack something, or have too much of it: each gets a page that can be read and says what is missing."""

import re

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from tests.stages.by_hand import of_two_classes, relabel, write_predictions
from tests.stages.conftest import write_status
from tests.stages.report.page import rows_of, text_of
from tests.stages.running import FOLDS, run

COHORT = "data/raw/clinic/cohort.csv"
EVIL = ["<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{ 7 * 7 }}"]
LABELS = ['we"ll & <b>fine</b>', "il'l & <i>bad</i>"]


@pytest.fixture
def assigned(project):
    """A function that changes cohort.csv and assigns the cases to folds, without a training."""

    def assign(change=lambda table: table, **parameters):
        project(**{"adapt__method": "none", "calibrate__per_patient": "auto", **parameters})
        change(pd.read_csv(COHORT, keep_default_na=False)).to_csv(COHORT, index=False)
        run("cohort", "preprocess", "split")

    return assign


def page(logits=of_two_classes, width=2, failing=None):
    """Predict, evaluate and show; return the markup."""
    for fold in FOLDS:
        write_predictions(fold, logits if fold != failing else lambda *given: -logits(*given), width)
    run("calibrate")
    write_status()
    run("report")
    return paths.REPORT.read_text()


def section(markup, name):
    return re.search(rf'<h2 id="{name}">.*?(?=<h2 |</main>)', markup, re.S)[0]


def first_screen(markup):
    return text_of(markup[markup.index("<header>") : markup.index("</header>")])


def test_page_without_a_test_set_says_the_model_was_never_evaluated(assigned):
    assigned(lambda table: table.assign(split=""), split__test="none")
    markup = page()
    said = first_screen(markup)
    assert "The test set is closed or absent: the released model itself was never evaluated." in said
    assert "AUC, test set" not in said and "AUC, external" not in said
    assert "external" not in text_of(section(markup, "calibration"))
    assert "test set" not in text_of(section(markup, "cohort"))


def test_without_sites_nothing_is_told_site_by_site(assigned):
    assigned(lambda table: table.drop(columns="site"))
    markup = page()
    assert "site alone" not in first_screen(markup) and "90" not in first_screen(markup).split("images")[0]
    assert "None: the cohort names no sites" in text_of(section(markup, "subgroups"))
    assert "No baseline: the cohort names no sites" in text_of(section(markup, "subgroups"))
    assert "<td>site " not in section(markup, "certainty")
    assert "Whether the site predicts the label cannot be measured" in text_of(markup)


def test_with_nothing_but_images_and_labels_the_unit_is_the_image(assigned):
    assigned(lambda table: table[["case_id", "image", "label"]], split__test="none")
    said = text_of(page())
    assert "30 images: well or ill." in said and "Images are disjoint between folds." in said
    assert "because the table names no patients" in said


def test_twelve_classes_begin_with_their_mean_and_stay_small(assigned):
    names = [f"class {chr(65 + number)}" for number in range(12)]
    assigned(split__test="none", calibrate__per_patient="none")
    relabel("multiclass", names, lambda table: {p: names[i % 12] for i, p in enumerate(sorted(set(table["patient"])))})

    def near(cases, draws):
        return 3 * np.eye(12)[cases["label"].map(names.index)] + draws.normal(0, 1, (len(cases), 12))

    markup = page(near, 12)
    assert "reaches a macro AUC of" in first_screen(markup) and len(markup) < 15e6
    classes = section(markup, "classes")
    opened = re.sub("<details>.*?</details>", "", classes, flags=re.S)
    assert "All classes together, as the mean over them (macro average)" in text_of(opened) and "<table" not in opened
    evaluated = pd.read_csv(paths.PREDICTIONS, keep_default_na=False).query("scope == 'internal'")
    predictions = evaluated.filter(like="probability_").to_numpy(dtype=float).argmax(axis=1)
    counts = pd.crosstab(evaluated["label"], predictions).reindex(index=names, columns=range(12), fill_value=0)
    shown = rows_of(classes, "Confusion matrix, internal validation")
    assert shown[0][0] == f"{len(evaluated)} images: true class"
    assert [[int(cell) for cell in row[1:-1]] for row in shown[1:]] == counts.to_numpy().tolist()
    longest = max(map(len, re.findall("<summary>(.*?)</summary>", markup)))
    assert longest < 120  # a list of all classes is no name


def test_a_failing_fold_is_named_on_the_first_screen_and_no_other(assigned):
    assigned()

    def surely(cases, draws):
        return of_two_classes(cases, draws) + np.outer(np.where(cases["label"] == "ill", 2.0, -2.0), [-1, 1])

    page(surely, failing="1")
    for fold in "012":  # as with many patients: of five, an interval is too wide for any verdict
        metrics = paths.read_json(paths.fold_metrics(fold))
        value = metrics["auc"]["value"]
        narrow = {"value": value, "lower": max(value - 0.1, 0), "upper": min(value + 0.1, 1)}
        paths.write_json(metrics | {"auc": narrow}, paths.fold_metrics(fold))
    run("report")
    said = first_screen(paths.REPORT.read_text())
    assert (
        re.search(r"Look at the folds\. Fold 1 differs from the others: AUC 0\.\d\d\. See Folds", said)
        and said.count("differs from the others") == 1
    )
    assert "Failed gates: events (12 events, 100 required)." in said
    assert "differs from the others" not in text_of(page(surely))


def test_a_fold_of_one_class_has_words_instead_of_metrics(assigned):
    assigned()
    parts = {fold: pd.read_csv(paths.split(fold), keep_default_na=False) for fold in "01"}
    held_out = parts["1"].query("role == 'held_out' and label == 'ill'")["case"]
    for fold, role in (("0", "held_out"), ("1", "train")):
        known = parts[fold]["case"].isin(held_out)
        paths.write_table(parts[fold].assign(role=parts[fold]["role"].mask(known, role)), paths.split(fold))
    markup = page()
    left = (parts["1"]["role"] == "held_out").sum() - len(held_out)
    assert f"Fold 1 has no AUC: 0 of its {left} cases are events." in first_screen(markup)
    assert rows_of(markup, '<h2 id="folds">')[2][:4] == ["1", str(left), "0", "not computable"]


def test_class_missing_from_the_test_set_has_no_computable_metrics(assigned):
    assigned(lambda table: table[(table["split"] != "test") | (table["label"] == "well")])
    markup = page()
    assert "On the external test set, the released model reaches not computable" in first_screen(markup)
    rows = rows_of(section(markup, "classes"), "Confusion matrix, external validation")
    assert rows[2][0] == "ill" and rows[2][1:] == ["0", "0", "0"]
    assert not re.search(r"\bnan\b", text_of(markup)) and "None " not in text_of(markup).replace("None: ", "")


def names_that_attack(table):
    sites = dict(zip(("inside", "outside", "next door"), EVIL, strict=True))
    renamed = table.replace({"site": sites, "label": dict(zip(("well", "ill"), LABELS, strict=True))})
    return renamed.assign(sex=np.where(renamed.index % 2, "<u>f</u>", "m & m"))


def test_cohort_names_stay_text_and_patient_and_file_names_are_absent(assigned):
    parameters = {"cohort__classes": LABELS, "cohort__positive": LABELS[1], "calibrate__subgroups": ["sex"]}
    assigned(names_that_attack, calibrate__prevalences=[0.1], **parameters)

    def near(cases, draws):
        logit = np.where(cases["label"] == LABELS[1], 1.0, -1.0) + draws.normal(0, 2, len(cases))
        return np.stack([-logit, logit], axis=1)

    markup = page(near)
    assert not re.search(r"<img src=x|<script>alert|<[bi]>(?:fine|bad)|<u>f", markup)
    assert markup.count("&lt;script&gt;alert(1)") > 5 and ">49<" not in markup
    for name in ("cohort", "images", "subgroups", "certainty", "classes"):
        assert any(known in text_of(section(markup, name)) for known in (*EVIL, *LABELS)), name
    assert not re.search(r"Doe(?!s)|Jane|\.png\b|/tmp/|clinic/images", markup)
