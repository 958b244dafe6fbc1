"""A bundle that comes as a zip."""

import io
import shutil
import stat
import zipfile

import pytest

from pipeline.bundle.manifest import BrokenBundle
from pipeline.bundle.opening import open_bundle
from pipeline.bundle.zipped import MOST_FILES, unpacked
from tests.bundle.bundles import CLASSES, written


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return written(tmp_path_factory.mktemp("packed") / "model")


@pytest.mark.parametrize("above", [True, False])
def test_a_bundle_is_found_in_its_zip_with_and_without_a_folder_above_it(bundle, tmp_path, above):
    root, base = (bundle.parent, bundle.name) if above else (bundle, None)
    zipped = shutil.make_archive(str(tmp_path / "model"), "zip", root, base)
    with unpacked(tmp_path / "model.zip") as folder:
        assert open_bundle(folder).classes == CLASSES
        kept = folder
    assert zipped and not kept.exists()


def test_a_folder_stays_where_it_is(bundle):
    with unpacked(bundle) as folder:
        assert folder == bundle


def entry(name, mode=0, flags=0):
    made = zipfile.ZipInfo(name)
    made.external_attr, made.flag_bits = mode << 16, flags
    return made


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([(entry("../mark"), b"x")], "outside of its folder"),
        ([(entry("model/../../mark"), b"x")], "outside of its folder"),
        ([(entry("/tmp/mark"), b"x")], "outside of its folder"),
        ([(entry("..\\mark"), b"x")], "outside of its folder"),
        ([(entry("C:/mark"), b"x")], "outside of its folder"),
        ([(entry("model/link", stat.S_IFLNK | 0o777), b"/etc/passwd")], "is not a regular file"),
        ([(entry("model/weights"), bytes(50 << 20))], "implausible compression ratio"),
        ([(entry("model/STATUS"), b"1"), (entry("model/status"), b"2")], "two files of the same name"),
        ([(entry(f"model/{number}"), b"") for number in range(MOST_FILES + 1)], "more than the allowed"),
    ],
)
def test_what_no_bundle_holds_is_refused_before_anything_is_written(tmp_path, entries, told):
    file = tmp_path / "inner" / "model.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in entries:
            archive.writestr(info, content, compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(BrokenBundle, match=told), unpacked(file):
        pytest.fail("it was unpacked")
    assert not list(tmp_path.rglob("mark")) and not list(tmp_path.parent.glob("mark"))


def test_a_zip_that_unpacks_to_more_than_asked_is_refused_with_the_option(bundle, tmp_path):
    shutil.make_archive(str(tmp_path / "model"), "zip", bundle)
    with pytest.raises(BrokenBundle, match="allow it with --max-size 1"), unpacked(tmp_path / "model.zip", 1e-6):
        pytest.fail("it was unpacked")


def test_a_file_that_is_more_than_it_said_is_refused(tmp_path):
    """The size in the header is a lie: what comes out does not match its checksum."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/weights", b"a" * 4096)
    lie = stream.getvalue().replace((4096).to_bytes(4, "little"), (16).to_bytes(4, "little"))
    (tmp_path / "model.zip").write_bytes(lie)
    with pytest.raises(BrokenBundle, match="the zip cannot be unpacked"), unpacked(tmp_path / "model.zip"):
        pytest.fail("it was unpacked")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and nothing more", b"no zip"])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(BrokenBundle, match="the zip cannot be unpacked"), unpacked(tmp_path / "model.zip"):
        pytest.fail("it was unpacked")
