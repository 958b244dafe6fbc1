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
