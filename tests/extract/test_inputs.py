"""From arguments and lists to files."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from deepscan.errors import ConfigError, MediaError
from deepscan.extract.file_kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from deepscan.extract.inputs import check_list, expand_inputs, read_list
from deepscan.extract.video.frames import probe

posix = pytest.mark.skipif(os.name != "posix", reason="file names of any bytes, and pipes with names")


@pytest.fixture
def tree(tmp_path):
    media = ["b.mp4", "a.JPG", "z.mov", "sub/d.png", "sub/c.webm", "sub/deep/e.avi"]
    hidden = [".hidden.mp4", ".git/f.mp4", "sub/.cache/g.mp4"]
    for name in [*media, *hidden, "notes.txt", "no_suffix"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(root, expanded):
    expanded = list(expanded)
    assert all(error is None for _, error in expanded)
    return [path.relative_to(root).as_posix() for path, _ in expanded]


def test_a_folder_gives_the_media_below_it(tree):
    paths = names(tree, expand_inputs([tree]))
    assert sorted(paths) == ["a.JPG", "b.mp4", "sub/c.webm", "sub/d.png", "sub/deep/e.avi", "z.mov"]
    for folder in ("", "sub"):  # sorted within each folder
        inside = [name for name in paths if os.path.dirname(name) == folder]  # noqa: PTH120 - a plain string
        assert inside == sorted(inside)
    assert paths == names(tree, expand_inputs([str(tree)]))


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
def test_every_suffix_is_found_in_any_case(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"\0\0\1\xba")
    (tmp_path / f"b{suffix.upper()}").write_bytes(b"\0\0\1\xba")
    assert len(list(expand_inputs([tmp_path]))) == 2


def test_a_file_by_name_is_taken_whatever_it_is_called(tree):
    inputs = [tree / "notes.txt", tree / ".hidden.mp4", tree / "no_suffix"]
    assert list(expand_inputs(inputs)) == [(path, None) for path in inputs]


def test_patterns(tree, monkeypatch):
    assert names(tree, expand_inputs([f"{tree}/*.m*"])) == ["b.mp4", "z.mov"]
    assert names(tree, expand_inputs([f"{tree}/**/*.png"])) == ["sub/d.png"]
    assert names(tree, expand_inputs([f"{tree}/[ab].*"])) == ["a.JPG", "b.mp4"]
    assert set(names(tree, expand_inputs([f"{tree}/su?"]))) == {"sub/c.webm", "sub/d.png", "sub/deep/e.avi"}
    monkeypatch.chdir(tree)
    assert [str(path) for path, _ in expand_inputs(["*.mp4"])] == ["b.mp4"]


def test_a_pattern_without_match_is_an_error_in_its_place(tree):
    first, second = expand_inputs([tree / "b.mp4", f"{tree}/*.mkv"])
    assert first == (tree / "b.mp4", None)
    assert isinstance(second[1], MediaError)
    assert second[1].reason == "not_found"
    assert "*.mkv matches no file" in str(second[1])


def test_a_name_that_looks_like_a_pattern_but_exists(tmp_path):
    for name in ("clip[1].mp4", "clip1.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path, expand_inputs([tmp_path / "clip[1].mp4"])) == ["clip[1].mp4"]
    folder = tmp_path / "take[2]"
    folder.mkdir()
    (folder / "x.mp4").write_bytes(b"")
    assert names(tmp_path, expand_inputs([folder])) == ["take[2]/x.mp4"]


def test_a_missing_file_stays_in_the_list(tree):
    # Without an error of its own: whoever opens it says what is wrong.
    paths = [tree / "missing.mp4", tree / "b.mp4"]
    assert [path for path, _ in expand_inputs(paths)] == paths


def test_each_file_once_in_the_order_of_first_mention(tree, monkeypatch):
    monkeypatch.chdir(tree)
    paths = [str(path) for path, _ in expand_inputs(["z.mov", "*.mov", "./z.mov", "b.mp4", "z.mov", "b.mp4"])]
    assert paths == ["z.mov", "b.mp4"]
    paths = [str(path) for path, _ in expand_inputs(["sub/d.png", "sub"])]
    assert paths[0] == "sub/d.png"
    assert len(paths) == len(set(paths)) == 3


@posix
def test_each_file_once_by_whichever_path(tree, monkeypatch):
    monkeypatch.chdir(tree)
    Path("link.mp4").symlink_to("b.mp4")
    Path("elsewhere").symlink_to("sub")
    Path("loose.mp4").symlink_to("nowhere.mp4")
    inputs = ["b.mp4", tree / "b.mp4", "./b.mp4", "sub/../b.mp4", "link.mp4", "elsewhere/c.webm", "sub", "elsewhere"]
    paths = [str(path) for path, _ in expand_inputs([*inputs, "loose.mp4", "nowhere.mp4"])]
    assert paths == ["b.mp4", "elsewhere/c.webm", "sub/d.png", "sub/deep/e.avi", "loose.mp4"]
    os.link("b.mp4", "hard.mp4")  # a file of its own, as far as names go
    assert len(list(expand_inputs(["b.mp4", "hard.mp4"]))) == 2


def test_what_a_folder_holds_beside_media_is_counted(tree):
    for name in ("x.TXT", "sub/y.docx", "sub/deep/noext"):
        (tree / name).write_bytes(b"")
    passed_over = Counter()
    assert len(list(expand_inputs([tree, tree / "sub" / "y.docx"], passed_over))) == 7
    assert passed_over == {".txt": 2, ".docx": 1, "": 2}


@pytest.mark.parametrize(
    ("inputs", "reason", "hint"),
    [
        ("https://example.org/a.mp4?x=[1]", "url", "Download it first"),
        ("HTTP://example.org/*.mp4", "url", "Download it first"),
        ("www.example.org/watch?v=1", "url", "Download it first"),
        ("rtsp://10.0.0.1/stream1", "url", "--live rtsp://10.0.0.1/stream1"),
        ("s3://bucket/a.mp4", "url", "Copy it to this machine"),
        ("-", "stdin", "cat > clip.mp4"),
        ("0", "camera", "--live 0"),
        ("webcam", "camera", "--live 0"),
        ("/dev/video99", "camera", "--live 0"),
    ],
)
def test_what_is_no_file_says_what_to_do(tmp_path, monkeypatch, inputs, reason, hint):
    monkeypatch.chdir(tmp_path)
    ((_, error),) = expand_inputs([inputs])
    assert error.reason == reason
    assert error.text == inputs
    assert hint in str(error)
    assert "\n" not in str(error)
    with pytest.raises(MediaError) as caught:  # and where nothing is expanded
        probe(Path(inputs))
    assert caught.value.reason == reason
    if "/" not in inputs:  # a file of that name is a file
        Path(inputs).write_bytes(b"")
        assert list(expand_inputs([inputs])) == [(Path(inputs), None)]


@posix
def test_pipes_and_devices_say_what_to_do(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path / "pipe", "Save what comes through it"), (tmp_path, "it is a folder")):
        with pytest.raises(MediaError, match=message) as caught:
            probe(path)
        assert caught.value.reason == "not_a_file"


@pytest.mark.parametrize("files", [(), ("notes.txt", ".hidden.mp4", ".cache/x.mp4")])
def test_a_folder_without_media(tmp_path, files):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    ((path, error),) = expand_inputs([tmp_path])
    assert path == tmp_path
    assert isinstance(error, MediaError)
    assert error.reason == "no_media"
    assert "holds no video or image" in str(error)
    assert "mp4" in str(error)


def test_nothing_given():
    assert list(expand_inputs([])) == []


def test_links_to_folders_do_not_loop(tree):
    (tree / "sub" / "loop").symlink_to(tree)
    assert len(list(expand_inputs([tree]))) == 6


def test_a_folder_that_cannot_be_searched_is_an_error(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(tree / "sub"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    *paths, (path, error) = expand_inputs([tree])
    assert names(tree, paths) == ["a.JPG", "b.mp4", "z.mov"]
    assert path == tree / "sub"
    assert (error.reason, str(error)) == (
        "unreadable",
        f"{tree / 'sub'}: cannot be searched: Permission denied. Allow yourself to read it first.",
    )


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b.mp4", "a\0*/b.mp4", "x" * 5000 + "*"])
def test_what_cannot_be_a_path_is_passed_on(text):
    ((path, error),) = expand_inputs([text])
    assert str(path) == text
    assert (error and error.reason) == ("not_found" if "*" in text else None)


def test_a_broken_link_that_looks_like_a_pattern(tmp_path):
    (tmp_path / "*").symlink_to(tmp_path / "gone")
    assert list(expand_inputs([tmp_path / "*"])) == [(tmp_path / "*", None)]


def test_inputs_come_as_they_are_asked_for(tree):
    def arguments():
        yield tree / "b.mp4"
        raise AssertionError("read too far ahead")

    assert next(expand_inputs(arguments())) == (tree / "b.mp4", None)


def test_memory_does_not_hold_the_names():
    # 20,000 names of 1,000 characters would be 20 MB.
    inputs = expand_inputs(f"{number}-{'x' * 990}.mp4" for number in range(20_000))
    tracemalloc.start()
    assert sum(1 for _ in inputs) == 20_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8_000_000


# Lists


def listed(folder, data):
    (folder / "list").write_bytes(data)
    return list(read_list(str(folder / "list")))


@pytest.mark.parametrize(
    ("data", "paths"),
    [
        (b"", []),
        (b"a.mp4", ["a.mp4"]),
        (b"a.mp4\nb.mp4\n", ["a.mp4", "b.mp4"]),
        (b"a.mp4\r\nb.mp4\r\n", ["a.mp4", "b.mp4"]),
        (b"\n\n a b.mp4 \n  \n\r\nc.mp4\n\n", [" a b.mp4 ", "c.mp4"]),
        (b"a.mp4\0b\nc.mp4\0", ["a.mp4", "b\nc.mp4"]),
        (b"a\r.mp4\r\0\0b.mp4", ["a\r.mp4\r", "b.mp4"]),
        (b"\xef\xbb\xbfa.mp4\n", ["a.mp4"]),
        ("é 日本.mp4\n".encode(), ["é 日本.mp4"]),
        (b"#1.mp4\n-x.mp4\n-\n", ["#1.mp4", "-x.mp4", "-"]),
    ],
)
def test_lists(tmp_path, data, paths):
    assert listed(tmp_path, data) == paths


@posix
def test_lists_hold_names_of_any_bytes(tmp_path):
    name = bytes(range(1, 47)) + bytes(range(48, 256))  # all but the slash
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"")
    assert listed(tmp_path, os.fsencode(path) + b"\0") == [str(path)]
    (tmp_path / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    ((paths, error),) = expand_inputs(listed(tmp_path, os.fsencode(tmp_path) + b"/caf\xe9.mp4\n"))
    assert (paths.exists(), error) == (True, None)


def test_lists_of_other_programs(tmp_path, monkeypatch):
    """Quotes of a file manager, file:// of a desktop, a home folder, spaces at the ends."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    names = ["a b.mp4", "é #1?.mp4", "c.mp4", "d.mp4", "e.mp4"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    lines = [f'"{tmp_path}/a b.mp4"', (tmp_path / names[1]).as_uri(), f"  {tmp_path}/c.mp4\t", "~/d.mp4"]
    lines += [f"'{tmp_path}/[e].mp4' "]  # a pattern
    paths = list(expand_inputs(listed(tmp_path, "\n".join(lines).encode())))
    assert paths == [(tmp_path / name, None) for name in names]
    (tmp_path / '"c.mp4"').write_bytes(b"")  # what is there as it stands comes first
    (tmp_path / " c.mp4").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    exact = expand_inputs(listed(tmp_path, b'"c.mp4"\n c.mp4\n"gone.mp4"\n'))
    assert [str(path) for path, _ in exact] == ['"c.mp4"', " c.mp4", '"gone.mp4"']


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
def test_long_lists_are_read_in_pieces(tmp_path, end):
    paths = [f"folder/{number:0{number % 90}}.mp4" for number in range(20_000)]
    data = end.join(path.encode() for path in paths)
    assert len(data) > 5 * 65_536
    assert listed(tmp_path, data) == paths
    assert listed(tmp_path, data + end) == paths


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("a.mp4\n".encode("utf-16"), "it is UTF-16 text. Save it as UTF-8."),
        (b"x" * 200_000, "it has a line of over 65,536 bytes, longer than any path"),
    ],
)
def test_what_is_no_list_is_told(tmp_path, data, why):
    with pytest.raises(ConfigError, match=f"list cannot be read: {why}"):
        listed(tmp_path, data)


def test_lists_that_cannot_be_read(tmp_path):
    for name, why in (("missing.txt", "No such file"), (".", "Is a directory"), ("a\0b", "null")):
        for read in (check_list, lambda name: list(read_list(name))):
            with pytest.raises(ConfigError, match=why) as error:
                read(str(tmp_path / name) if name == "missing.txt" else name)
            assert "\n" not in str(error.value)


def test_a_list_expands_like_arguments_from_the_current_folder(tree, monkeypatch):
    monkeypatch.chdir(tree)
    paths = expand_inputs(listed(tree, b"sub\n*.m*\n./b.mp4\nnotes.txt\n*.mkv\n"))
    assert [(path.as_posix(), error and error.reason) for path, error in paths] == [
        ("sub/c.webm", None),
        ("sub/d.png", None),
        ("sub/deep/e.avi", None),
        ("b.mp4", None),
        ("z.mov", None),
        ("notes.txt", None),
        ("*.mkv", "not_found"),
    ]


@posix
def test_a_pipe_is_read_as_it_is_written(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check_list(str(pipe))  # takes nothing, and does not wait
    first = "".join(f"{number:06}.mp4\n" for number in range(10_000))
    go_on = threading.Event()

    def write() -> None:
        with pipe.open("w") as file:
            file.write(first)
            file.flush()
            assert go_on.wait(20)
            file.write("last.mp4\n")

    writer = threading.Thread(target=write)
    writer.start()
    paths: Iterator[str] = read_list(str(pipe))
    assert len(list(islice(paths, 10_000))) == 10_000  # while the writer still has more to say
    go_on.set()
    assert list(paths) == ["last.mp4"]
    writer.join()


def test_a_closed_stdin_is_told(monkeypatch):
    def closed(*_args, **_options):
        raise OSError(9, os.strerror(9))

    monkeypatch.setattr("builtins.open", closed)
    with pytest.raises(ConfigError, match="The list on stdin cannot be read: Bad file descriptor"):
        list(read_list("-"))


def test_stdin(tmp_path):
    (tmp_path / "list").write_bytes(b"a.mp4\0b.mp4\0")
    before = os.dup(0)
    try:
        with Path(tmp_path / "list").open("rb") as file:
            os.dup2(file.fileno(), 0)
        assert list(read_list("-")) == ["a.mp4", "b.mp4"]
    finally:
        os.dup2(before, 0)
        os.close(before)
