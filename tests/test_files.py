"""Writes that are never seen half done."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import threading

import pytest

from deepscan.errors import OutputError
from deepscan.files import check_folder, check_target, file_sha256, json_of, temporary_beside, write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="pipes with names, devices")


def null_device(path):
    """A node of the null device; the test's own, never the system's."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("may make no devices")
    return path


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


@pytest.mark.parametrize("target", ["missing/out.json", "file/out.json", "folder"])
def test_where_nothing_can_be_written(tmp_path, target):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_atomically(tmp_path / target, b"x")
    assert caught.value.reason == "output"
    assert target in str(caught.value)
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


def test_permissions_stay(tmp_path):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")
    path.chmod(0o600)
    write_atomically(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


@posix
def test_a_link_stays_one(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "out.json").write_bytes(b"old")
    for target in ("far/out.json", "far/new.json"):
        link = tmp_path / "link.json"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        check_target(link)
        write_atomically(link, b"new")
        assert link.is_symlink()
        assert (tmp_path / target).read_bytes() == b"new"
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["new.json", "out.json"]


@posix
def test_a_device_stays_one(tmp_path):
    path = null_device(tmp_path / "null")
    check_target(path, json_of("x"))
    write_atomically(path, b"{}" * 100_000)
    assert stat.S_ISCHR(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_pipe_is_written_through(tmp_path):
    path, data = tmp_path / "pipe", os.urandom(300_000)
    os.mkfifo(path)
    check_target(path, json_of("x"))
    received = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()), daemon=True)
    reader.start()
    write_atomically(path, data)
    reader.join(20)
    assert received == [data]
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_a_reader_that_goes_away_is_an_error(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: path.open("rb").close(), daemon=True)
    reader.start()
    with pytest.raises(OutputError, match=r"pipe cannot be written"):
        write_atomically(path, b"x" * 10_000_000)


@pytest.mark.parametrize(
    ("content", "replaced"),
    [
        (None, True),
        (b"", True),
        (b'{\n "schema": "deepscan.report/1",\n', True),
        (b'{"schema":"deepscan.result/1",', False),  # the lines of a thousand hours
        (b'{"my": "data"}', False),
        (b'See {"schema": "deepscan.report/1"', False),
        (b"\0\0\0\x20ftypisom", False),
    ],
)
def test_what_may_be_replaced(tmp_path, content, replaced):
    path = tmp_path / "out.json"
    if content is not None:
        path.write_bytes(content)
    if replaced:
        check_target(path, json_of("deepscan.report/1"))
    else:
        with pytest.raises(OutputError, match=r"out\.json cannot be written"):
            check_target(path, json_of("deepscan.report/1"))
    check_target(path)


@pytest.mark.parametrize("name", ["folder", "gone/out.json", "file/out.json", "x" * 300, "link"])
def test_where_no_file_can_be(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("gone/out.json")
    with pytest.raises(OutputError, match=re.escape(f"{name} cannot be written")):
        check_target(tmp_path / name)


def test_a_folder_takes_files_only_where_an_older_set_lies(tmp_path):
    folder, ours = tmp_path / "out", json_of("deepscan.robustness/1")
    check_folder(folder, "report.json", ours, ("table.md",))
    folder.mkdir()
    (folder / "other.txt").write_bytes(b"mine")
    check_folder(folder, "report.json", ours, ("table.md",))
    (folder / "table.md").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"table\.md"):
        check_folder(folder, "report.json", ours, ("table.md",))
    (folder / "report.json").write_bytes(b'{\n "schema": "deepscan.robustness/1",')
    check_folder(folder, "report.json", ours, ("table.md",))
    (folder / "report.json").write_bytes(b'{\n "schema": "deepscan.report/1",')
    with pytest.raises(OutputError, match=r"report\.json"):
        check_folder(folder, "report.json", ours, ("table.md",))
