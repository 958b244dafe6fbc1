import stat

from pipeline.imaging.tables.pseudonyms import (
    PUBLIC_SALT,
    pseudonym,
    read_names,
    remember_names,
    salt_of,
    write_private,
)


def test_a_pseudonym_tells_nothing_and_never_changes():
    name = pseudonym(b"secret", "patient", "Doe, Jane")
    assert name == pseudonym(b"secret", "patient", "Doe, Jane")
    assert "Doe" not in name and name.startswith("patient-")


def test_salt_kind_and_name_each_change_the_pseudonym():
    names = {pseudonym(s, k, n) for s in (b"a", b"b") for k in ("case", "patient") for n in ("x", "y")}
    assert len({name.split("-")[1] for name in names}) == 8


def test_a_private_cohort_draws_its_salt_once_and_only_its_owner_reads_it(tmp_path):
    folder = tmp_path / "keys" / "mri"
    salt = salt_of(folder, public=False)
    assert salt == salt_of(folder, public=False) and salt != PUBLIC_SALT and len(salt) == 32
    assert stat.S_IMODE((folder / "salt").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_public_cohort_has_the_same_pseudonyms_everywhere(tmp_path):
    assert salt_of(tmp_path / "a", public=True) == salt_of(tmp_path / "b", public=True)
    assert not (tmp_path / "a").exists()


def test_names_are_remembered_when_the_cohort_changes(tmp_path):
    remember_names(tmp_path, [("patient", "old")], b"s")
    remember_names(tmp_path, [("patient", "new, with a comma")], b"s")
    assert set(read_names(tmp_path).values()) == {"old", "new, with a comma"}
    assert stat.S_IMODE((tmp_path / "names.csv").stat().st_mode) == 0o600


def test_folders_of_private_files_are_closed_to_others(tmp_path):
    file = tmp_path / "keys" / "clinic" / "salt"
    write_private(file, "a")
    assert [path.stat().st_mode & 0o777 for path in (file, *list(file.parents)[:2])] == [0o600, 0o700, 0o700]
