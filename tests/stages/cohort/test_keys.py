"""A cohort keeps its salt wherever its folder goes."""

import shutil

import numpy as np
import pandas as pd
import pytest

from pipeline import paths
from pipeline.__main__ import main
from pipeline.errors import UserError
from pipeline.imaging.tables.pseudonyms import salt_of
from pipeline.stages.cohort.keys import claim_keys, key_folders, members_of


@pytest.fixture
def write(tmp_path):
    """Write a cohort of small files, and return its folder."""

    def one(place, seed=0, count=24):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.png").write_bytes(np.random.default_rng([seed, number]).bytes(100))
        rows = [(f"c{number}", f"{number}.png") for number in range(count)]
        pd.DataFrame(rows, columns=["case_id", "image"]).to_csv(folder / "cohort.csv", index=False)
        return folder

    return one


def claimed(folder):
    table = pd.read_csv(folder / "cohort.csv")
    keys = claim_keys(folder, members_of(table, folder))
    return keys, salt_of(keys, public=False)


@pytest.mark.parametrize("place", ["a/renamed", "b/mine", "mine-2"])
def test_a_cohort_that_moves_or_is_renamed_keeps_its_salt(tmp_path, write, place):
    before = claimed(write("a/mine"))
    (tmp_path / place).parent.mkdir(exist_ok=True)
    shutil.move(tmp_path / "a/mine", tmp_path / place)
    assert claimed(tmp_path / place) == before
    assert key_folders(tmp_path / place)[0] == before[0]


def test_two_cohorts_in_folders_of_one_name_have_two_salts(write):
    one, other = claimed(write("a/mine")), claimed(write("b/mine", seed=1))
    assert one[0].name == "mine" and other[0].name == "mine-2" and one[1] != other[1]


def test_a_cohort_that_grows_or_shrinks_keeps_its_salt(tmp_path, write):
    before = claimed(write("a/mine"))
    assert claimed(write("b/other", count=200)) == before
    assert claimed(write("c/less", count=12)) == before


def test_a_cohort_whose_files_all_change_at_one_place_keeps_its_salt(tmp_path, write):
    before = claimed(write("a/mine"))
    shutil.rmtree(tmp_path / "a/mine")
    assert claimed(write("a/mine", seed=2)) == before


def test_a_key_folder_of_an_earlier_version_is_taken(private_keys, write):
    (private_keys / "mine").mkdir()
    salt = salt_of(private_keys / "mine", public=False)
    assert claimed(write("a/mine")) == (private_keys / "mine", salt)


def test_an_import_to_another_place_of_the_same_name_draws_a_salt(tmp_path):
    one = claim_keys(tmp_path / "a" / "mine")
    assert claim_keys(tmp_path / "a" / "mine") == one != claim_keys(tmp_path / "b" / "mine")


@pytest.mark.parametrize("text", ["", "abc", "zz" * 32, "\n"])
def test_an_empty_or_damaged_salt_is_refused_by_its_file(project, private_keys, capsys, text):
    project()
    (private_keys / "clinic" / "salt").write_text(text)
    assert main(["cohort"]) == 1
    error = capsys.readouterr().err
    assert str(private_keys / "clinic" / "salt") in error and "restore it from a backup" in error


def test_key_folder_that_cannot_be_written_names_the_variable(project, monkeypatch, capsys):
    project()
    monkeypatch.setenv("MEDADAPT_KEYS", "/proc/nope")
    assert main(["cohort"]) == 1
    assert "MEDADAPT_KEYS: the private key folder /proc/nope" in capsys.readouterr().err


def test_a_renamed_project_is_prepared_and_split_as_before(project, capsys):
    root = project()
    assert main(["cohort"]) == 0
    before = paths.CASES.read_bytes()
    shutil.move(root / "data" / "raw" / "clinic", root / "data" / "raw" / "hospital")
    project(cohort__path="data/raw/hospital")
    assert main(["preprocess"]) == 0  # finds the originals though no record names the new place
    assert main(["cohort"]) == 0
    assert paths.CASES.read_bytes() == before


def test_a_foreign_salt_is_an_error_with_the_cure(project, private_keys, monkeypatch, tmp_path):
    from pipeline.schema import Cohort
    from pipeline.stages.cohort.originals import original_files

    project()
    assert main(["cohort"]) == 0
    monkeypatch.setenv("MEDADAPT_KEYS", str(tmp_path / "others"))
    with pytest.raises(UserError, match="MEDADAPT_KEYS"):
        original_files(Cohort(path="data/raw/clinic"))
