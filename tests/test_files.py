"""Writes that are never seen half done."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest

from deepscan.errors import OutputError
from deepscan.files import file_sha256, temporary_beside, write_atomically


def test_hash(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(data)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


def test_write_new_and_replace(tmp_path):
    path = tmp_path / "out.json"
    for data in (b"first", b"second, longer", b""):
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("failure", [RuntimeError("boom"), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected), temporary_beside(path) as temporary:
        temporary.write_bytes(b"half of the n")
        raise failure
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failing_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")

    def fail(*_args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OutputError, match=r"out\.json cannot be written: Input/output error"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_readers_see_the_old_file_until_the_end(tmp_path):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    with temporary_beside(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent  # same file system: the rename is atomic
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("place", ["missing/out.json", "file/out.json", "folder"])
def test_where_nothing_can_be_written(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_atomically(tmp_path / place, b"x")
    assert caught.value.reason == "output"
    assert place in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            write_atomically(tmp_path / "out.json", b"x")
    finally:
        tmp_path.chmod(0o700)


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    path = tmp_path / ("x" * 250 + ".json")
    path.write_bytes(b"old")  # the system itself takes it
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
