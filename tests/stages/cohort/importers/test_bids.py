import pytest

from pipeline.imaging.tables.cohort_table import read_cohort_table
from pipeline.stages.cohort.importers.bids import Wanted, find_in_bids
from pipeline.stages.cohort.importers.found import NOT_AN_IMAGE, BadSource, write_import
from tests.stages.cohort.importers.conftest import volume


def wanted(label="dx", site=None, split=None, suffix=None, rename=None):
    return Wanted(label, site, split, suffix, rename or {})


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "bids"
    for name in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-1_T1w.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_run-2_T1w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz",
    ):
        volume(root / name)
    (root / "participants.tsv").write_text(
        "participant_id\tage\tdx\tcenter\tpart\nsub-01\t30\twell\tNorth\ttest\nsub-02\t40\tn/a\tSouth\ttrain\n"
    )
    return root


def test_a_data_set_becomes_a_cohort_with_a_case_per_image(root, tmp_path):
    found = find_in_bids(root, wanted(split="part", rename={"well": "healthy"}))
    write_import(found, tmp_path / "raw", link=False)
    cohort = read_cohort_table(tmp_path / "raw")
    cases = ["sub-01", "sub-02_ses-a_run-1", "sub-02_ses-a_run-2", "sub-02_ses-b"]
    assert cohort["case_id"].tolist() == cases
    assert cohort["patient_id"].tolist() == ["sub-01", "sub-02", "sub-02", "sub-02"]
    assert cohort["label"].tolist() == ["healthy", "", "", ""]
    assert cohort["site"].tolist() == ["North", "South", "South", "South"]
    assert cohort["split"].tolist() == ["test"] + ["development"] * 3
    assert all((tmp_path / "raw" / image).is_file() for image in cohort["image"])


def test_what_is_said_of_a_session_goes_before_what_is_said_of_the_subject(root):
    (root / "sub-02" / "sub-02_sessions.tsv").write_text("session_id\tdx\tscore\nses-a\tn/a\t1\nses-b\till\tn/a\n")
    (root / "participants.tsv").write_text("participant_id\tdx\nsub-01\twell\nsub-02\tunsure\n")
    labels = [case.row["label"] for case in find_in_bids(root, wanted()).cases]
    assert labels == ["well", "unsure", "unsure", "ill"]
    labels = [case.row["label"] for case in find_in_bids(root, wanted("score")).cases]
    assert labels == ["", "1", "1", ""]


def test_several_kinds_of_image_are_listed_and_one_is_asked_for(root):
    volume(root / "sub-01" / "anat" / "sub-01_T2w.nii.gz")
    with pytest.raises(BadSource, match=r"--suffix; there are T1w \(4\), T2w \(1\)"):
        find_in_bids(root, wanted())
    with pytest.raises(BadSource, match=r"--suffix FLAIR; there are T1w \(4\), T2w \(1\)"):
        find_in_bids(root, wanted(suffix="FLAIR"))
    found = find_in_bids(root, wanted(suffix="T2w"))
    assert [case.row["case_id"] for case in found.cases] == ["sub-01"]
    assert dict(found.left_out)["sub-02"] == "participants.tsv names it, but it has no T2w image"
    assert dict(found.left_out)["sub-01/anat/sub-01_T1w.nii.gz"] == "its suffix is not T2w"


def test_all_that_is_no_image_of_a_known_subject_is_left_out_and_reported(root):
    volume(root / "derivatives" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    volume(root / "sub-03" / "anat" / "sub-03_T1w.nii.gz")
    (root / "README").write_text("x")
    (root / "sub-01" / "anat" / "sub-01_T1w.json").write_text("{}")
    (root / "sub-01" / "anat" / "._sub-01_T1w.nii.gz").write_text("x")
    (root / "sub-02" / "ses-b" / "anat" / "sub-02_ses-b_run-9_T1w.nii.gz").symlink_to("annexed")
    found = find_in_bids(root, wanted())
    assert len(found.cases) == 4
    assert dict(found.left_out) == {
        "derivatives/": "it is no subject's folder (sub-*)",
        "README": NOT_AN_IMAGE,
        "sub-01/anat/sub-01_T1w.json": NOT_AN_IMAGE,
        "sub-01/anat/._sub-01_T1w.nii.gz": NOT_AN_IMAGE,
        "sub-03/anat/sub-03_T1w.nii.gz": "participants.tsv has no row for its subject",
        "sub-02_ses-b_run-9": "the file is not there",
    }


def test_a_missing_column_is_refused_with_those_that_are_there(root):
    with pytest.raises(BadSource, match=r"no column 'group'; name it with --label .*\(it has age, dx, center, part\)"):
        find_in_bids(root, wanted("group"))
    with pytest.raises(BadSource, match="no column 'place'; name it with --site"):
        find_in_bids(root, wanted(site="place"))
    with pytest.raises(BadSource, match="the split '30' is unknown"):
        find_in_bids(root, wanted(split="age"))
    assert {case.row["label"] for case in find_in_bids(root, wanted(None)).cases} == {""}


def test_a_folder_that_is_no_bids_is_refused_by_the_file_it_lacks(root):
    (root / "participants.tsv").write_text("participant_id,dx\nsub-01,well\n")
    with pytest.raises(BadSource, match="no column 'participant_id'.*separated by tabs"):
        find_in_bids(root, wanted())
    (root / "participants.tsv").write_text("participant_id\tdx\nsub-01\twell\nsub-01\till\n")
    with pytest.raises(BadSource, match="names sub-01 twice"):
        find_in_bids(root, wanted())
    (root / "participants.tsv").unlink()
    with pytest.raises(BadSource, match=r"participants\.tsv does not exist"):
        find_in_bids(root, wanted())


def test_two_files_of_one_name_are_refused(root):
    volume(root / "sub-01" / "anat" / "sub-01_T1w.nii")
    with pytest.raises(BadSource, match="are the same image by name; keep one"):
        find_in_bids(root, wanted())
