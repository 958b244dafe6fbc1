import errno
import os
import shutil
from pathlib import Path

import pytest

from pipeline.packs import HEADER, MOST_SMALL, Packs, write_pack


def filled(folder, **entries):
    packs = Packs(folder)
    for name, content in entries.items():
        packs.write(name, content)
    return packs


def test_entries_of_all_writers_are_read_from_one_file_each(tmp_path):
    one, other = filled(tmp_path, a=b"1", b=b""), filled(tmp_path, c=b"3" * 10_000)
    assert len(list(tmp_path.iterdir())) == 2
    for packs in (one, other, Packs(tmp_path)):
        assert [packs.read(name) for name in "abcd"] == [b"1", b"", b"3" * 10_000, None]


def test_what_another_writer_adds_later_is_found(tmp_path):
    reader, writer = Packs(tmp_path), filled(tmp_path, a=b"1")
    assert reader.read("b") is None
    writer.write("b", b"2")
    assert reader.read("b") == b"2" and reader.read("a") == b"1"


def test_a_record_that_a_kill_left_incomplete_is_not_read(tmp_path):
    filled(tmp_path, a=b"first", b=b"second")
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        packs = Packs(tmp_path)
        assert packs.read("a") == (b"first" if length >= HEADER.size + 6 else None)
        assert packs.read("b") is None


def test_a_flipped_bit_leaves_an_entry_whole_or_absent_and_replaceable(tmp_path):
    filled(tmp_path, a=b"first", b=b"second")
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        packs = Packs(tmp_path)
        found = packs.read("a"), packs.read("b")
        assert found[0] in (b"first", None) and found[1] in (b"second", None) and None in found
        missing = "ab"[found.index(None)]
        packs.write(missing, b"again")
        assert packs.read(missing) == Packs(tmp_path).read(missing) == b"again"
        for added in set(tmp_path.iterdir()) - {file}:
            added.unlink()


def test_after_a_full_disk_the_next_entry_goes_to_another_file(tmp_path):
    packs = filled(tmp_path, a=b"1")

    class Full:
        name = "full"

        def write(self, content):
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    packs._own = Full()
    with pytest.raises(OSError, match="No space left"):
        packs.write("b", b"2")
    packs.write("b", b"3")
    assert Packs(tmp_path).read("b") == b"3" and Packs(tmp_path).read("a") == b"1"


def test_a_folder_that_is_removed_meanwhile_has_no_entries(tmp_path):
    packs = filled(tmp_path / ".", a=b"1")
    shutil.rmtree(tmp_path)
    assert packs.read("a") is None and packs.read("b") is None


def test_a_miss_opens_only_packs_that_grew_since_the_last_one(tmp_path, monkeypatch):
    others = [filled(tmp_path, **{f"a{number}": b"1"}) for number in range(5)]
    reader, opened = Packs(tmp_path), []
    assert reader.read("b") is None
    plain = Path.open
    monkeypatch.setattr(Path, "open", lambda file, *how: (opened.append(file), plain(file, *how))[1])
    assert reader.read("b") is None and not opened
    others[3].write("b", b"2")
    assert reader.read("b") == b"2" and len(opened) == 1


def test_entries_that_are_not_kept_leave_no_byte(tmp_path):
    filled(tmp_path, a=b"first", b=b"patient"), filled(tmp_path, c=b"third")
    [untouched] = [file for file in tmp_path.iterdir() if b"third" in file.read_bytes()]
    packs = Packs(tmp_path)
    packs.keep_only({"a", "c"})
    assert untouched.exists() and len(list(tmp_path.iterdir())) == 2
    assert not any(b"patient" in file.read_bytes() for file in tmp_path.iterdir())
    for one in (packs, Packs(tmp_path)):
        assert [one.read(name) for name in "abc"] == [b"first", None, b"third"]


def test_many_small_packs_are_joined_and_what_a_kill_left_goes(tmp_path):
    names = [f"a{number:02}" for number in range(MOST_SMALL + 2)]
    for number, name in enumerate(names):
        filled(tmp_path, **{name: b"1" * number})
    cut = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    os.truncate(cut, cut.stat().st_size - 1)
    for _ in range(2):
        Packs(tmp_path).keep_only(names)
        assert len(list(tmp_path.iterdir())) == 1
    found = [Packs(tmp_path).read(name) for name in names]
    assert found == [b"1" * number for number in range(MOST_SMALL + 1)] + [None]


def test_a_pack_that_is_written_as_a_whole_has_the_bytes_of_its_entries(tmp_path):
    entries = [("a", b"first"), ("b", b"")]
    for name in ("1.pack", "2.pack"):
        write_pack(tmp_path / name, iter(entries))
    one, other = (file.read_bytes() for file in sorted(tmp_path.iterdir()))
    assert one == other and Packs(tmp_path).read("a") == b"first" and Packs(tmp_path).read("b") == b""
