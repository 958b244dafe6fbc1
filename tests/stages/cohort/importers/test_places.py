"""Images that a source names by absolute paths, through links, or outside of its folder."""

import json

import pytest

from pipeline.stages.cohort.importers.bids import Wanted, find_in_bids
from pipeline.stages.cohort.importers.class_folders import find_in_class_folders
from pipeline.stages.cohort.importers.datalist import find_in_datalist
from pipeline.stages.cohort.importers.found import BadSource, write_import
from pipeline.stages.cohort.importers.places import Places
from pipeline.stages.cohort.importers.table import find_in_csv
from tests.stages.cohort.importers.conftest import volume, write_image

COLUMNS = {"image": "file", "label": "label", "patient": None, "site": None, "split": None}


@pytest.fixture
def share(tmp_path):
    """A share with two images, and an image beside it."""
    for name in ("share/north/a.png", "share/south/b.png", "secret.png"):
        write_image(tmp_path / name)
    (tmp_path / "lists").mkdir()
    return tmp_path / "share"


def table_of(share, *images):
    table = share.parent / "lists" / "t.csv"
    rows = [f"{image},{'ill' if number else 'well'}" for number, image in enumerate(images)]
    table.write_text("\n".join(["file,label", *rows]))
    return table


@pytest.mark.parametrize("link", [False, True])
def test_absolute_and_outer_paths_get_a_safe_place_below_the_root(share, tmp_path, link):
    table = table_of(share, share / "north" / "a.png", "../share/south/b.png")
    found = find_in_csv(table, COLUMNS, {}, root=share)
    write_import(found, tmp_path / "raw", link=link)
    assert [case.row["case_id"] for case in found.cases] == ["north/a.png", "south/b.png"]
    image = tmp_path / "raw" / "images" / "north" / "a.png"
    assert image.is_symlink() == link and image.read_bytes() == (share / "north" / "a.png").read_bytes()


@pytest.mark.parametrize("name", ["/share/north/a.png", "../share/north/a.png", "x/../../share/a.png"])
def test_without_a_root_a_path_outside_is_refused_with_the_cure(share, name):
    with pytest.raises(BadSource, match="lies outside .*lists; name a folder that holds all images with --root"):
        find_in_csv(table_of(share, name), COLUMNS, {})


@pytest.mark.parametrize("name", ["../secret.png", "link.png", "linked/secret.png"])
def test_nothing_outside_the_root_is_taken_through_a_link_or_dots(share, name):
    (share / "link.png").symlink_to(share.parent / "secret.png")
    (share / "linked").symlink_to(share.parent)
    with pytest.raises(BadSource, match=r"secret\.png.* lies outside --root .*share; name a folder"):
        find_in_csv(table_of(share, share / name), COLUMNS, {}, root=share)


def test_a_link_inside_the_root_keeps_its_name_and_ending(share):
    (share / "store").write_bytes((share / "north" / "a.png").read_bytes())
    (share / "c.png").symlink_to(share / "store")
    assert Places(share.parent, share).locate(str(share / "c.png")) == (share / "c.png", "c.png")


def test_a_root_that_is_no_folder_is_refused(share):
    with pytest.raises(BadSource, match="--root: .*nowhere is no folder"):
        Places(share, share / "nowhere")


def test_a_datalist_takes_absolute_paths_below_a_root(share):
    file = share.parent / "lists" / "dataset.json"
    file.write_text(json.dumps({"training": [{"image": str(share / "north" / "a.png"), "label": "ill"}]}))
    with pytest.raises(BadSource, match="with --root FOLDER"):
        find_in_datalist(file, False, {})
    assert find_in_datalist(file, False, {}, root=share).cases[0].row["image"] == "north/a.png"


def test_links_to_folders_of_subjects_are_followed_below_a_root_only(tmp_path):
    volume(tmp_path / "store" / "anat" / "sub-1_T1w.nii.gz")
    (tmp_path / "bids").mkdir()
    (tmp_path / "bids" / "sub-1").symlink_to(tmp_path / "store")
    (tmp_path / "bids" / "participants.tsv").write_text("participant_id\tgroup\nsub-1\till\n")
    columns = {"label": "group", "site": None, "split": None, "suffix": "T1w", "rename": {}}
    with pytest.raises(BadSource, match="no image with --suffix T1w"):
        find_in_bids(tmp_path / "bids", Wanted(**columns))
    found = find_in_bids(tmp_path / "bids", Wanted(**columns, root=tmp_path))
    assert [case.row["image"] for case in found.cases] == ["sub-1/anat/sub-1_T1w.nii.gz"]
    (tmp_path / "store" / "again").symlink_to(tmp_path / "store")  # without end
    assert len(find_in_bids(tmp_path / "bids", Wanted(**columns, root=tmp_path)).cases) == 1
    with pytest.raises(BadSource, match="lies outside --root"):
        find_in_bids(tmp_path / "bids", Wanted(**columns, root=tmp_path / "bids"))


def test_a_link_to_a_folder_that_is_not_followed_is_named(tmp_path):
    for name in ("ill/a.png", "well/b.png"):
        write_image(tmp_path / "source" / name)
    (tmp_path / "source" / "ill" / "more").symlink_to(tmp_path / "source" / "well")
    found = find_in_class_folders(tmp_path / "source", None, {})
    assert found.left_out == [("ill/more", "a link to a folder; --root FOLDER follows links that stay below FOLDER")]
