import pytest

from pipeline.imaging.tables.cohort_table import has_patients, pseudonymised, read_cohort_table
from pipeline.imaging.tables.text_table import BadTable


def table(tmp_path, text):
    (tmp_path / "cohort.csv").write_text(text)
    return tmp_path


def test_without_patients_each_image_is_its_own(tmp_path):
    folder = table(tmp_path, "case_id,image,label\na,a.png,x\nb,b.png,y\n")
    assert read_cohort_table(folder)["patient_id"].tolist() == ["a", "b"]
    assert not has_patients(folder)


def test_text_that_looks_like_nothing_stays_text(tmp_path):
    folder = table(tmp_path, "case_id,image,label,site\n01,a.png,NA,null\n")
    row = read_cohort_table(folder).iloc[0]
    assert (row["case_id"], row["label"], row["site"]) == ("01", "NA", "null")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case_id,image\na,b\n", "lacks the column label"),
        ("case_id,image,label\n", "no rows"),
        ("case_id,image,label,split\na,1.png,x,holdout\n", r"'holdout' \(1\) is unknown"),
    ],
)
def test_a_bad_table_is_refused_with_the_reason(tmp_path, text, said):
    with pytest.raises(BadTable, match=said):
        read_cohort_table(table(tmp_path, text))


def test_a_missing_table_names_the_importers(tmp_path):
    with pytest.raises(BadTable, match="medadapt import"):
        read_cohort_table(tmp_path)


def test_order_follows_the_pseudonym_not_the_name(tmp_path):
    folder = table(tmp_path, "case_id,image,label\na,a.png,x\nb,b.png,y\n")
    renamed = pseudonymised(read_cohort_table(folder), lambda kind, name: {"a": "z", "b": "y"}[name])
    assert renamed["case"].tolist() == ["y", "z"] and renamed["image"].tolist() == ["b.png", "a.png"]


def test_covariates_become_numbers_and_two_words_zero_and_one(tmp_path):
    folder = table(tmp_path, "case_id,image,label,age,sex\na,a.png,x,61.5,M\nb,b.png,y,40,F\n")
    read = read_cohort_table(folder, ["age", "sex"])
    assert read["covariate_age"].tolist() == [61.5, 40.0] and read["covariate_sex"].tolist() == [1.0, 0.0]
    assert "covariate_age" not in read_cohort_table(folder)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("61,,40", "missing in 1 rows"),
        ("2020-01-01,2021-02-02,1999-03-03", "3 different texts"),
        ("100234,100235,100236", "looks like an identifier"),
    ],
)
def test_covariates_that_are_no_measurements_are_refused_without_values(tmp_path, values, said):
    rows = "".join(f"c{number},{number}.png,x,{value}\n" for number, value in enumerate(values.split(",")))
    folder = table(tmp_path, f"case_id,image,label,thing\n{rows}")
    with pytest.raises(BadTable, match=said) as caught:
        read_cohort_table(folder, ["thing"])
    assert values.split(",")[-1] not in str(caught.value).replace(str(tmp_path), "")
    with pytest.raises(BadTable, match="lacks the column other"):
        read_cohort_table(folder, ["other"])


def people(tmp_path, values, column="thing"):
    """Read a cohort with one patient per value."""
    rows = "".join(f"c{number},p{number},{number}.png,x,{value}\n" for number, value in enumerate(values))
    return table(tmp_path, f"case_id,patient_id,image,label,{column}\n{rows}")


def test_subgroup_columns_are_read_as_text_and_only_if_named(tmp_path):
    text = "".join(f"c{n},{n}.png,x,0{n}, F,note {n}\n" for n in range(6))
    folder = table(tmp_path, f"case_id,image,label,age,sex,comment\n{text}c9,9.png,x,,,note\n")
    read = read_cohort_table(folder, columns=["age", "sex"])
    assert read["column_age"].tolist() == ["00", "01", "02", "03", "04", "05", ""]
    assert read["column_sex"].tolist() == ["F"] * 6 + [""]
    assert not [name for name in read if "comment" in name]
    with pytest.raises(BadTable, match="lacks the column weight"):
        read_cohort_table(folder, columns=["weight"])


@pytest.mark.parametrize(
    "values",
    [
        [20 + n % 60 for n in range(90)],
        [50 + 2 * n for n in range(15)],
        [f"{60 + n / 7:.2f}" for n in range(90)],
        ["1.5", "3"] * 20,
        ["2019", "2020", "2021"] * 10,
        ["Siemens Skyra 3T", "GE Signa 1.5 T"] * 10 + [""] * 9,
        [3200 + 10 * n % 400 for n in range(90)],
    ],
)
def test_measurements_years_and_words_that_many_share_are_let_through(tmp_path, values):
    read = read_cohort_table(people(tmp_path, values), columns=["thing"])
    assert read["column_thing"].tolist() == [str(value) for value in values]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([f"{n % 28 + 1:02d}.03.1954" for n in range(40)], "dates"),
        (["1954-03-21", *["61"] * 39], "dates"),
        (["1954-03", "1961-11"] * 20, "dates"),
        (["19540321", "19611130"] * 20, "dates"),
        (["21 March 54", "3-Sep-1961"] * 20, "dates"),
        (["March 1954", "Sept 1961"] * 20, "dates"),
        (["scan_20200321", "scan_20200322"] * 20, "dates"),
        ([4711000 + 13 * n for n in range(40)], "an identifier"),
        ([f"{n:03d}" for n in range(1, 41)], "an identifier"),
        ([site + n for site in (1001, 2001) for n in range(20)], "an identifier"),
        ([f"Doe {n}" for n in range(40)], "40 different texts for 40 patients"),
        (["Doe", "Roe", "Poe"], "3 different texts for 3 patients"),
        (["61", "about sixty", *["62"] * 3], "3 different texts for 5 patients"),
        (["headache for three weeks and a fall last year"] * 40, "free text"),
        ([""] * 40, "empty in every row"),
    ],
)
def test_columns_that_identify_patients_are_refused_without_values(tmp_path, values, said):
    with pytest.raises(BadTable, match=said) as caught:
        read_cohort_table(people(tmp_path, values), columns=["thing"])
    message = str(caught.value).replace(str(tmp_path), "")
    assert "column 'thing'" in message and "leave it out of calibrate.subgroups" in message
    assert not any(str(value) in message for value in values if len(str(value)) > 2)


@pytest.mark.parametrize("name", ["case_id", "patient_id", "label", "site"])
def test_a_column_of_another_purpose_defines_no_subgroups(tmp_path, name):
    folder = table(tmp_path, "case_id,patient_id,image,label,site\na,a,a.png,x,s\n")
    with pytest.raises(BadTable, match=f"column '{name}' cannot define subgroups"):
        read_cohort_table(folder, columns=[name])
