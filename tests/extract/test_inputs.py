"""From arguments to files."""

from __future__ import annotations

import os

import pytest

from deepscan.errors import MediaError
from deepscan.extract.images import IMAGE_SUFFIXES
from deepscan.extract.inputs import expand_inputs
from deepscan.extract.video import VIDEO_SUFFIXES


@pytest.fixture
def tree(tmp_path):
    media = ["b.mp4", "a.JPG", "z.mov", "sub/d.png", "sub/c.webm", "sub/deep/e.avi"]
    hidden = [".hidden.mp4", ".git/f.mp4", "sub/.cache/g.mp4"]
    for name in [*media, *hidden, "notes.txt", "no_suffix"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(root, expanded):
    assert all(error is None for _, error in expanded)
    return [path.relative_to(root).as_posix() for path, _ in expanded]


def test_a_folder_gives_the_media_below_it(tree):
    found = names(tree, expand_inputs([tree]))
    assert sorted(found) == ["a.JPG", "b.mp4", "sub/c.webm", "sub/d.png", "sub/deep/e.avi", "z.mov"]
    for folder in ("", "sub"):  # sorted within each folder
        inside = [name for name in found if os.path.dirname(name) == folder]  # noqa: PTH120 - a plain string
        assert inside == sorted(inside)
    assert found == names(tree, expand_inputs([str(tree)]))


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
def test_every_suffix_is_found_in_any_case(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_bytes(b"")
    (tmp_path / f"b{suffix.upper()}").write_bytes(b"")
    assert len(expand_inputs([tmp_path])) == 2


def test_a_file_by_name_is_taken_whatever_it_is_called(tree):
    given = [tree / "notes.txt", tree / ".hidden.mp4", tree / "no_suffix"]
    assert expand_inputs(given) == [(path, None) for path in given]


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
    found = [str(path) for path, _ in expand_inputs(["z.mov", "*.mov", "./z.mov", "b.mp4", "z.mov", "b.mp4"])]
    assert found == ["z.mov", "b.mp4"]
    found = [str(path) for path, _ in expand_inputs(["sub/d.png", "sub"])]
    assert found[0] == "sub/d.png"
    assert len(found) == len(set(found)) == 3


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
    assert expand_inputs([]) == []


def test_links_to_folders_do_not_loop(tree):
    (tree / "sub" / "loop").symlink_to(tree)
    assert len(expand_inputs([tree])) == 6
