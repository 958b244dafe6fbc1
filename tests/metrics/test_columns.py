"""Types of clinical columns, and the numbers that training cases give their values."""

import numpy as np
import pytest

from pipeline.metrics.columns import FittedColumn, InputColumn, fit_column, kind_of, plain

AGE = InputColumn("age", "numeric")
STAGE = InputColumn("stage", "ordered", ("I", "II", "III"))
SCANNER = InputColumn("scanner", "categorical", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("texts", "kind"),
    [(["61", "48", ""], "numeric"), (["61", "old", "48"], "numeric"), (["I", "II"], "categorical")],
)
def test_the_type_is_told_by_what_most_values_are(texts, kind):
    assert kind_of(texts) == kind


def test_a_missing_number_is_the_median_and_is_marked():
    fitted = fit_column(AGE, ["0", "10", "20", ""])
    assert fitted.encode(["0", "", "20"]).tolist() == [[0, 0], [10, 1], [20, 0]]
    assert fitted.features == ["age", "age is missing"] and fitted.on_a_scale == [True, False]


def test_a_number_beyond_the_training_cases_counts_as_the_nearest():
    fitted = fit_column(AGE, ["40", "60", "80"])
    assert fitted.encode(["20", "95"]).tolist() == [[40], [80]]


def test_an_order_gives_places_and_a_category_gives_marks():
    assert fit_column(STAGE, ["I", "III"]).encode(["I", "II", "III"]).tolist() == [[0], [1], [2]]
    fitted = fit_column(SCANNER, ["a", "b", "b"])
    assert fitted.features == ["scanner = a", "scanner = b"] and fitted.typical == "b"
    assert fitted.encode(["b", "c"]).tolist() == [[0, 1], [0, 0]]


@pytest.mark.parametrize(
    ("column", "seen", "text", "said"),
    [
        (AGE, ["40", "60"], "abc", "'abc' is no number; write a number such as 0.5"),
        (AGE, ["40", "60"], "inf", "'inf' is not finite"),
        (AGE, ["40", "60"], "1_0", "is no number"),
        (AGE, ["40", "60"], "", "none of the development cases lacked it; fill it in"),
        (
            AGE,
            ["40", "60"],
            "600",
            "'600' is too far from the development cases, which have 40 to 60; check the number",
        ),
        (AGE, ["1", "60"], "-2", "0 to 119 is accepted"),
        (STAGE, ["I", "II"], "IV", "'IV' is none of I, II, III; write one of these"),
        (SCANNER, ["a", "b"], "c", "'c' is none of a, b"),
    ],
)
def test_a_value_that_no_case_was_like_is_refused_with_the_cure(column, seen, text, said):
    assert said in fit_column(column, seen).flaw_of(text)


@pytest.mark.parametrize(
    ("column", "seen", "text"),
    [(AGE, ["40", "60"], "61"), (AGE, ["40", ""], ""), (STAGE, ["I", "II"], "III"), (SCANNER, ["a", "b"], "b")],
)
def test_a_value_like_those_of_the_training_cases_is_taken(column, seen, text):
    assert fit_column(column, seen).flaw_of(text) == ""


def test_categories_are_the_same_however_a_table_writes_them():
    assert [plain(text) for text in ("1", "1.0", "01", "true", "II")] == ["1", "1", "1", "True", "II"]
    assert InputColumn("grade", "ordered", ("1", "2")).numbers(["1.0", "2", "x"])[:2].tolist() == [0, 1]


def test_a_fitted_column_is_written_and_read_back():
    fitted = fit_column(AGE, ["40", "60", ""])
    assert FittedColumn.from_json(fitted.as_json()) == fitted
    with pytest.raises(ValueError, match="not finite"):
        FittedColumn.from_json(fitted.as_json() | {"fill": float("nan")})
    with pytest.raises(ValueError, match="no kind"):
        FittedColumn.from_json(fitted.as_json() | {"kind": "date"})


def test_a_column_without_any_value_in_training_still_encodes():
    for column in (AGE, STAGE, SCANNER):
        assert np.isfinite(fit_column(column, ["", ""]).encode(["", "1"])).all()
