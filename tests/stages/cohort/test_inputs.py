"""The columns that the model takes besides the image: their types, and what is refused."""

import pandas as pd
import pytest

from pipeline import paths
from tests.stages.running import refusal, run

CLINIC = "data/raw/clinic/cohort.csv"


@pytest.fixture
def cohort(project):
    """Write params.yaml with inputs, and columns of the table; returns nothing."""

    def write(inputs, **columns):
        root = project(cohort__inputs=inputs)
        table = pd.read_csv(root / CLINIC, dtype=str, keep_default_na=False)
        for name, values in columns.items():
            table[name] = [values[number % len(values)] for number in range(len(table))]
        table.to_csv(root / CLINIC, index=False)

    return write


def test_types_are_told_by_content_or_said(cohort):
    cohort(
        ["age", {"stage": ["I", "II", "III"]}, "scanner", {"code": "categorical"}],
        age=["61", "", "0", "48.5"],
        stage=["II", "I"],
        scanner=["x", "y"],
        code=["2", "1"],
    )
    run("cohort")
    found = paths.read_json(paths.INPUTS)
    assert [(one["name"], one["kind"], one["categories"]) for one in found] == [
        ("age", "numeric", []),
        ("stage", "ordered", ["I", "II", "III"]),
        ("scanner", "categorical", ["x", "y"]),
        ("code", "categorical", ["1", "2"]),
    ]
    assert {"column_age", "column_stage", "column_scanner", "column_code"} <= set(paths.read_table(paths.COLUMNS))


def test_without_inputs_there_are_none(project):
    project()
    run("cohort")
    assert paths.read_json(paths.INPUTS) == []


def test_the_cohort_can_name_its_inputs(cohort):
    cohort("auto", age=["61", "48"])
    (paths.DATA / "raw" / "clinic" / "cohort.yaml").write_text("cohort: {inputs: [age]}\n")
    run("cohort")
    assert [one["name"] for one in paths.read_json(paths.INPUTS)] == ["age"]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (["height"], "cohort.inputs names 'height', but there is no such column; further columns are: age"),
        (["label"], "cohort.inputs names 'label', which says what the model predicts; take it out"),
        (["patient_id"], "which says who the patient is"),
        (["site"], "which says where the image is from"),
    ],
)
def test_a_column_that_cannot_be_an_input_is_refused(cohort, capsys, inputs, said):
    cohort(inputs, age=["61", "48"])
    message = refusal(capsys, "cohort")
    assert said in message and "cohort.csv" in message


@pytest.mark.parametrize("other", ["label", "site"])
def test_a_copy_of_the_label_or_the_site_is_refused(cohort, capsys, other):
    cohort(["copy"])
    table = pd.read_csv(CLINIC, dtype=str, keep_default_na=False)
    table.assign(copy=table[other]).to_csv(CLINIC, index=False)
    assert f"column 'copy' has the contents of column '{other}'" in refusal(capsys, "cohort")


@pytest.mark.parametrize(
    ("inputs", "values", "said"),
    [
        (["age"], ["61", "48", "secret", "50"], "row 3, column 'age': its value is no number; write a number"),
        (["age"], ["61", "inf", "50", "7"], "row 2, column 'age': its value is not finite"),
        ([{"age": ["I", "II"]}], ["I", "II", "IV", "I"], "row 3, column 'age': its value is none of I, II"),
        ([{"age": "numeric"}], ["secret", "b"], "row 1, column 'age': its value is no number"),
        (["age"], ["m"], "column 'age' has one value, m; take it out"),
    ],
)
def test_a_bad_value_is_refused_by_file_row_and_cure(cohort, capsys, inputs, values, said):
    cohort(inputs, age=values)
    message = refusal(capsys, "cohort")
    assert said in message and "cohort.csv" in message and "secret" not in message


@pytest.mark.parametrize(
    ("inputs", "said"),
    [(["age", "age"], "names a column twice"), ([{"age": ["I", "I"]}], "names a category of 'age' twice")],
)
def test_settings_that_contradict_themselves_are_refused(cohort, capsys, inputs, said):
    cohort(inputs, age=["61", "48"])
    assert said in refusal(capsys, "cohort")


@pytest.mark.parametrize(
    "one", [{"sex": [False, True]}, {"stage": ["I"]}, {"a": "numeric", "b": "numeric"}, "my age", 7, {"x": "number"}]
)
def test_a_type_that_is_none_is_refused_with_those_that_are(cohort, capsys, one):
    cohort([one], age=["61", "48"])
    message = refusal(capsys, "cohort")
    assert "is no column; write its name, {name: numeric}" in message and "cohort.inputs.0" in message
