import pytest

from pipeline.imaging.cohort_table import BadTable, has_patients, pseudonymised, read_cohort_table


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
        ("case_id,image,label,split\na,1.png,x,holdout\n", "'holdout' is unknown"),
    ],
)
def test_a_bad_table_is_refused_with_the_reason(tmp_path, text, said):
    with pytest.raises(BadTable, match=said):
        read_cohort_table(table(tmp_path, text))


def test_a_missing_table_names_the_importers(tmp_path):
    with pytest.raises(BadTable, match="pipeline import"):
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
        ("2020-01-01,2021-02-02,1999-03-03", "text of 3 kinds"),
        ("100234,100235,100236", "looks like an identifier"),
    ],
)
def test_covariates_that_are_no_measurements_are_refused_without_repeating_them(tmp_path, values, said):
    rows = "".join(f"c{number},{number}.png,x,{value}\n" for number, value in enumerate(values.split(",")))
    folder = table(tmp_path, f"case_id,image,label,thing\n{rows}")
    with pytest.raises(BadTable, match=said) as caught:
        read_cohort_table(folder, ["thing"])
    assert values.split(",")[-1] not in str(caught.value).replace(str(tmp_path), "")
    with pytest.raises(BadTable, match="lacks the column other"):
        read_cohort_table(folder, ["other"])
