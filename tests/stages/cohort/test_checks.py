import pytest

from pipeline.commands.monitor.scans import table_of
from pipeline.commands.results import OF_A_SCAN
from pipeline.imaging.labels import renamed
from pipeline.params import completed
from pipeline.schema import Cohort
from pipeline.stages.cohort.checks import COLUMNS_OF_RESULTS, problems_of_classes, read_table


def problems(*labels, **settings):
    return problems_of_classes(Cohort(path="here", **settings), list(labels))


@pytest.mark.parametrize("name", ["patient", "case", "scan", "image", "site", "set", "true", "date", "withheld_ill"])
@pytest.mark.parametrize("several", [False, True])
def test_a_class_called_like_a_column_of_results_is_refused(name, several):
    labels = [f"control;{name}", "control"] if several else ["control", name]
    assert any(f"the class '{name}' has the name of a column" in one for one in problems(*labels))


def test_every_column_of_results_is_known():
    assert set(OF_A_SCAN) <= set(COLUMNS_OF_RESULTS)


@pytest.mark.parametrize(
    ("one", "other"), [("benign", "Benign"), ("ill ", "ill"), ("K\u00f6ln", "Ko\u0308ln"), ("a  b", "a b")]
)
def test_classes_that_are_hardly_told_apart_are_refused(one, other):
    assert any("differ only in case" in problem for problem in problems(one, other, "third"))
    assert any("differ only in case" in problem for problem in problems("third", classes=(one, other, "third")))


def test_sound_classes_are_no_problem():
    assert problems("well", "ill") == [] and problems("a;b", "c") == []


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("0;1", "edema;mass"),
        ("0; ?1", "edema;?mass"),
        ("?1", "?mass"),
        ("0;2", "edema"),
        ("0;9", "edema;9"),
        ("0", "edema"),
        ("no finding", "no finding"),
        ("", ""),
        ("1;0;1x", "both"),
    ],
)
def test_each_name_in_a_label_is_renamed(label, expected):
    names = {"0": "edema", "1": "mass", "2": "edema", "1;0;1x": "both"}
    assert renamed(label, names) == expected


def test_blanks_around_patients_and_classes_make_no_others(tmp_path):
    text = "case_id,image,label,patient_id\nc1,a.png,benign,p03\nc2,b.png,benign ,p03 \nc3,c.png, ill,p4\n"
    (tmp_path / "cohort.csv").write_text(text)
    table = read_table(tmp_path, Cohort(path=str(tmp_path)), [])
    assert set(table["patient_id"]) == {"p03", "p4"} and set(table["label"]) == {"benign", "ill"}


def test_a_comma_at_the_end_of_rows_loses_no_label(tmp_path):
    (tmp_path / "labels.csv").write_text("scan,label\ns1,A,\ns2,B,\n")
    assert table_of(tmp_path / "labels.csv", ["scan", "label"])["label"].tolist() == ["A", "B"]


@pytest.mark.parametrize(
    ("written", "told"), [("[yes, no]", "is yes, on or true"), ("[0, 1]", "is 0,"), ("[1.5]", "is 1.5,")]
)
def test_yaml_words_that_are_no_text_are_told_with_the_quotes(tmp_path, monkeypatch, written, told):
    from pipeline.errors import UserError

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(f"cohort:\n  path: here\n  classes: {written}\n")
    with pytest.raises(UserError, match=f"cohort.classes.0 {told}.*quotes"):
        completed()
