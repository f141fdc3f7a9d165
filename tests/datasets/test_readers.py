"""Corpus readers, on miniature trees: what holds for all of them, and the layouts that people make themselves."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from corpus_trees import (
    MAKERS,
    ORIGINALS,
    by_id,
    column,
    make_csv,
    make_dfdc,
    make_ffpp,
    make_folders,
    make_index,
    make_split_folders,
    originals,
    put,
    reasons,
    touch,
)

from deepscan.datasets.readers import CorpusItem, detect_corpus, list_corpora, read_corpus
from deepscan.datasets.splits import assign_splits, check_groups
from deepscan.errors import ConfigError, DeepscanError, MediaError

# What holds for every reader


def test_every_reader_is_tried_here():
    assert set(MAKERS) == set(list_corpora())


@pytest.mark.parametrize("name", MAKERS)
def test_a_layout_is_known_and_read(tmp_path, name):
    root = MAKERS[name](tmp_path / "Größe und Raum")  # a name with accents and spaces
    assert detect_corpus(root) == name
    corpus = read_corpus(str(root))
    assert corpus == read_corpus(root, name.upper())
    assert corpus.name == name
    assert corpus.root == root
    assert len(by_id(corpus)) == len(corpus.items)
    assert list(corpus.items) == sorted(corpus.items, key=lambda i: (i.path.as_posix(), i.member or ""))
    for item in corpus.items:
        assert item.path.exists()
        assert (item.method == "real") == (item.label == 0)
        assert ".." not in Path(item.video_id).parts
    for problem in corpus.problems:
        assert "\n" not in problem.message
    divided = assign_splits(corpus.items, 0.3, 0.3)
    check_groups(divided)
    assert [i.split for i in divided if i.split] == [i.split for i in divided]


@pytest.mark.parametrize("name", MAKERS)
def test_a_fake_knows_its_original(tmp_path, name):
    corpus = read_corpus(MAKERS[name](tmp_path))
    assert originals(corpus) == ORIGINALS[name]
    items = by_id(corpus)
    for fake, original in originals(corpus).items():
        assert (items[fake].label, items[original].label) == (1, 0)
        assert items[fake].group == items[original].group
        assert items[original].original is None


@pytest.mark.parametrize("name", MAKERS)
def test_nothing_usable_is_an_error_in_one_line(tmp_path, name):
    with pytest.raises(MediaError) as caught:
        read_corpus(tmp_path, name)
    assert caught.value.reason == "empty_corpus"
    assert caught.value.cause
    assert "Expected: " in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MAKERS)
def test_a_link_to_a_corpus_is_as_good_as_the_corpus(tmp_path, name):
    root = MAKERS[name](tmp_path / "real corpus")
    (tmp_path / "link").symlink_to(root)
    linked = read_corpus(tmp_path / "link", name)
    assert [i.video_id for i in linked.items] == [i.video_id for i in read_corpus(root, name).items]
    assert originals(linked) == ORIGINALS[name]
    assert all(i.path.is_relative_to(tmp_path / "link") for i in linked.items)


def test_names_that_are_no_corpus(tmp_path):
    with pytest.raises(ConfigError, match="Known are dfdc, faceforensics, celebdf"):
        read_corpus(tmp_path, "imagenet")
    with pytest.raises(MediaError, match="no such file or folder"):
        read_corpus(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="--dataset"):
        detect_corpus(tmp_path)
    make_dfdc(tmp_path / "inner")
    with pytest.raises(ConfigError, match="Its folder inner looks like dfdc"):
        detect_corpus(tmp_path)
    assert read_corpus(make_ffpp(tmp_path / "ff"), "ffpp").name == "faceforensics"


def test_importing_is_light():
    modules = "deepscan.datasets.readers, deepscan.datasets.splits"
    code = f"import sys, {modules}; print(*{{'torch', 'av', 'cv2', 'numpy'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_items_are_checked():
    with pytest.raises(ValueError, match="Invalid label"):
        CorpusItem("v", Path("v.mp4"), 2, "csv", "real", "g", None)
    with pytest.raises(ValueError, match="Invalid split"):
        CorpusItem("v", Path("v.mp4"), 0, "csv", "real", "g", "holdout")  # type: ignore[arg-type]


# Plain folders


def test_folders(tmp_path):
    touch(make_folders(tmp_path), "fake/vid/001.png", "fake/vid/002.png", "fake/vid/x.mp4", "real/c.mp4", "real/c.jpg")
    corpus = read_corpus(tmp_path)
    assert column(corpus, "label") == {
        "real/a": 0,
        "real/b": 0,
        "real/c.jpg": 0,  # names that differ by their ending only are told apart
        "real/c.mp4": 0,
        "fake/a": 1,
        "fake/c": 1,
        "fake/vid/001": 1,
        "fake/vid/002": 1,
        "fake/vid/x": 1,
    }
    groups = column(corpus, "group")
    assert groups["real/a"] == groups["fake/a"]
    assert groups["fake/vid/001"] == groups["fake/vid/002"] == "vid"
    assert groups["fake/vid/x"] == "vid/x"
    assert {i.split for i in corpus.items} == {None}


def test_split_folders(tmp_path):
    corpus = read_corpus(make_split_folders(tmp_path))
    assert len(corpus.items) == 12
    assert {(i.path.parts[-3], i.split) for i in corpus.items} == {
        ("Train", "train"),
        ("Validation", "val"),
        ("Test", "test"),
    }
    assert all(i.label == (i.path.parts[-2] == "Fake") for i in corpus.items)
    check_groups(corpus.items)  # the same names in each are not the same files
    assert by_id(corpus)["Train/Real/a"].group == by_id(corpus)["Train/Fake/a"].group


def test_a_folder_called_real(tmp_path):
    touch(tmp_path / "Real", "speaker01_1.mp4", "speaker01_2.mp4")
    for root in (tmp_path / "Real", tmp_path):
        corpus = read_corpus(root)
        assert column(corpus, "label") == {"Real/speaker01_1": 0, "Real/speaker01_2": 0}
        assert list(column(corpus, "group").values()) == ["speaker01_1", "speaker01_2"]


def test_folders_links(tmp_path):
    make_folders(tmp_path / "c")
    touch(tmp_path / "out", "secret.mp4")
    (tmp_path / "c/real/file.mp4").symlink_to(tmp_path / "out/secret.mp4")
    (tmp_path / "c/real/folder").symlink_to(tmp_path / "out")
    (tmp_path / "c/real/within.mp4").symlink_to(tmp_path / "c/other/d.mp4")
    (tmp_path / "c/real/circle").symlink_to(tmp_path / "c/real")
    (tmp_path / "c/fake/dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    corpus = read_corpus(tmp_path / "c")
    assert {p.path.name for p in corpus.problems} == {"file.mp4", "folder", "dangling.mp4"}
    assert reasons(corpus) == ["outside_root"] * 3
    assert list(by_id(corpus)) == ["fake/a", "fake/c", "real/a", "real/b", "real/within"]
    (tmp_path / "d").mkdir()
    (tmp_path / "d/real").symlink_to(tmp_path / "out")
    with pytest.raises(MediaError, match="leads outside"):
        read_corpus(tmp_path / "d")


def test_links_out_of_folders_are_followed_on_request(tmp_path):
    touch(tmp_path, "c/fake/a.mp4", "out/b.mp4", "out/deep/c.mp4", "out/notes.txt", "far/d.mp4")
    (tmp_path / "c/real").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "out")
    (tmp_path / "c/fake/d.mp4").symlink_to(tmp_path / "far/d.mp4")
    refused = read_corpus(tmp_path / "c")
    assert [item.video_id for item in refused.items] == ["fake/a"]
    assert all("--follow-links" in problem.message for problem in refused.problems)
    corpus = read_corpus(tmp_path / "c", follow_links=True)
    assert [item.video_id for item in corpus.items] == ["fake/a", "fake/d", "real/b", "real/deep/c"]
    assert (corpus.problems, corpus.passed_over) == ((), {".txt": 1})


def test_links_of_corpora_with_metadata_are_never_followed(tmp_path):
    touch(tmp_path, "c/a.mp4", "out/b.mp4")
    (tmp_path / "c/b.mp4").symlink_to(tmp_path / "out/b.mp4")
    (tmp_path / "c/list.csv").write_text("path,label\na.mp4,real\nb.mp4,fake\n")
    corpus = read_corpus(tmp_path / "c")
    assert reasons(corpus) == ["outside_root"]
    with pytest.raises(ConfigError, match="metadata"):
        read_corpus(tmp_path / "c", follow_links=True)


# A user's own CSV


def test_user_csv(tmp_path):
    corpus = read_corpus(make_csv(tmp_path))
    assert [(i.video_id, i.label, i.method, i.group, i.split) for i in corpus.items] == [
        ("clips/one", 0, "real", "anna", "train"),
        ("clips/two", 1, "fake", "anna", None),
        ("pictures/three", 1, "fake", "pictures/three", "test"),
    ]
    assert read_corpus(tmp_path / "mine.csv").items == corpus.items
    assert [i.split for i in assign_splits(corpus.items, 0.3, 0.3)] == ["train", "train", "test"]


def test_columns_of_a_users_own_are_kept(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text("path,label,Skin_Tone,note,source\na.mp4,real,5,,web\n", encoding="utf-8")
    (only,) = read_corpus(tmp_path / "list.csv").items
    assert (only.columns, only.origin) == ({"skin_tone": "5"}, "web")
    assert only.further_columns == {"skin_tone": "5", "source": "web"}


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("26_1_2_20161219204400164.jpg", {"age_band": "18 to 29", "race": "asian", "sex": "female"}),
        ("61_0_4_20170103163152623.jpg.chip.jpg", {"age_band": "60 and over", "race": "other", "sex": "male"}),
        ("61_0_20170103163152623.jpg", {}),
        ("61_0_7_20170103163152623.jpg", {}),
        ("clip_61.jpg", {}),
    ],
)
def test_names_as_in_utkface_tell_of_people(tmp_path, name, columns):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / name).touch()
    with tarfile.open(tmp_path / "real.tar", "w") as tar:
        tar.add(tmp_path / "real" / name, name)
    for root in (tmp_path / "real", tmp_path / "real.tar"):
        assert [item.columns for item in read_corpus(root).items] == [columns]


def test_user_csv_as_other_programs_write_it(tmp_path):
    touch(tmp_path, "Größe, 1.mp4", "b.mp4")
    rows = '"Größe, 1.mp4";0;;Deepfakes\r\n\r\nb.mp4;1.0;Validation;FaceSwap\r\n'
    (tmp_path / "x.CSV").write_bytes(b"\xef\xbb\xbf" + f"Path; Label;split;method\r\n{rows}".encode())
    corpus = read_corpus(tmp_path)
    assert [(i.video_id, i.label, i.split, i.method) for i in corpus.items] == [
        ("Größe, 1", 0, None, "real"),
        ("b", 1, "val", "FaceSwap"),
    ]
    assert not corpus.problems


def test_user_csv_paths_stay_inside(tmp_path):
    touch(tmp_path, "secret.mp4", "c/in.mp4", "c/sub/deep.mp4")
    (tmp_path / "c/link.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "c/up").symlink_to(tmp_path)
    outside = ("../secret.mp4", tmp_path / "secret.mp4", "link.mp4", "up/secret.mp4", "sub/../../secret.mp4")
    inside = "in.mp4", tmp_path / "c/sub/deep.mp4"
    rows = "\n".join(f"{path},real" for path in (*outside, *inside, "", "."))
    corpus = read_corpus(put(tmp_path / "c", "list.csv", f"path,label\n{rows}\n"))
    assert list(by_id(corpus)) == ["in", "sub/deep"]
    assert reasons(corpus) == ["missing_file"] * 2 + ["outside_root"] * len(outside)


def test_user_csv_originals(tmp_path):
    touch(tmp_path, *(f"c/{name}" for name in ("a.mp4", "a.avi", "Zoë.mp4", "f1.mp4", "f2.mp4", "f3.mp4", "f4.mp4")))
    rows = [
        "a.mp4,real,f1.mp4",  # a real has none, whatever is said of it
        "a.avi,real,",
        f"Zoë.mp4,real,{tmp_path / 'nowhere.mp4'}",
        "f1.mp4,fake,./a.avi",
        f"f2.mp4,fake,{tmp_path / 'c/a.mp4'}",
        "f3.mp4,fake,f2.mp4",  # made in two steps
        "f4.mp4,fake,Zoe\u0308.mp4",
    ]
    corpus = read_corpus(put(tmp_path / "c", "list.csv", "path,label,original\n" + "\n".join(rows)))
    assert originals(corpus) == {"f1": "a.avi", "f2": "a.mp4", "f3": "a.mp4", "f4": "Zoë"}
    assert not corpus.problems


def test_user_csv_originals_that_are_none(tmp_path):
    names = ["gone", "out", "twice", "both", "self", "one", "two", "stray", "real", "f"]
    touch(tmp_path, "secret.mp4", *(f"c/{name}.mp4" for name in names))
    listed = {"gone": "x.mp4", "out": "../secret.mp4", "f": "stray.mp4", "self": "self.mp4", "one": "two.mp4"}
    rows = [*(f"{fake}.mp4,fake,{original}" for fake, original in listed.items()), "two.mp4,fake,one.mp4"]
    rows += ["real.mp4,real,", "twice.mp4,fake,real.mp4", "twice.mp4,1,./real.mp4"]
    rows += ["both.mp4,fake,real.mp4", "both.mp4,fake,"]  # it is not known which line is right
    corpus = read_corpus(put(tmp_path / "c", "list.csv", "path,label,original\n" + "\n".join(rows)))
    assert originals(corpus) == {"twice": "real"}
    assert set(by_id(corpus)) == {"gone", "out", "f", "self", "one", "two", "twice", "real"}  # read all the same
    assert {(p.path.name, p.reason) for p in corpus.problems} == {
        ("gone.mp4", "missing_file"),
        ("out.mp4", "outside_root"),
        ("f.mp4", "no_entry"),
        ("twice.mp4", "duplicate"),
        ("both.mp4", "conflict"),
    }
    assert any("line 2 of list.csv: its original 'x.mp4' is listed" in p.message for p in corpus.problems)


def test_a_circle_of_links_is_no_way_in(tmp_path):
    touch(tmp_path, "in.mp4")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    put(tmp_path, "list.csv", "path,label\nin.mp4,real\nloop/x.mp4,real\nloop,real\n")
    corpus = read_corpus(tmp_path)
    assert list(by_id(corpus)) == ["in"]
    assert len(corpus.problems) == 2


def test_user_csv_rows_that_are_wrong(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    rows = [
        "a.mp4,real,g,train",
        "a.mp4,real,g,train",
        "b.mp4,real,,",
        "./b.mp4,fake,,",
        "c.mp4,true,,",
        "d.mp4,real,,holdout",
    ]
    corpus = read_corpus(
        put(tmp_path, "list.csv", "path,label,group,split\n" + "\n".join([*rows, "gone.mp4", "e,f,g,h,i"]))
    )
    assert list(by_id(corpus)) == ["a"]
    assert reasons(corpus) == ["bad_label", "bad_row", "bad_split", "conflict", "duplicate", "missing_file"]
    assert any("line 6 of list.csv" in p.message for p in corpus.problems)


def test_a_split_that_divides_a_group_is_refused(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    put(tmp_path, "list.csv", "path,label,group,split\na.mp4,real,anna,train\nb.mp4,fake,anna,test\n")
    with pytest.raises(DeepscanError) as caught:
        assign_splits(read_corpus(tmp_path).items)
    assert caught.value.reason == "split_leak"


# DeepfakeBench


def test_deepfakebench(tmp_path):
    corpus = read_corpus(make_index(tmp_path))
    assert [(i.path.name, i.label, i.method, i.group, i.split, len(i.frames)) for i in corpus.items] == [
        ("004", 0, "real", "youtube-004", "train", 3),
        ("004_982", 1, "Deepfakes", "youtube-004", "train", 3),
        ("519", 0, "real", "youtube-519", "val", 3),
    ]
    assert {i.dataset for i in corpus.items} == {"faceforensics"}
    assert read_corpus(tmp_path / "FaceForensics++.json").items == corpus.items


def test_deepfakebench_entries_that_are_wrong(tmp_path):
    touch(tmp_path, "secret.png", "c/f/1.png", "c/f/2.png", "c/g/1.png", "c/h/1.png", "c/note.txt")
    listed = {"one": ["f/1.png", "f/2.png", "f/3.png", "../secret.png", "note.txt", 7]}
    videos = {name: {"label": "x", "frames": frames} for name, frames in listed.items()}
    both = {"label": "x", "frames": ["g/1.png"]}
    index = {
        "UADFV": {
            "UADFV_Fake": {"train": {"two": both, **videos}, "val": {"two": both, "label": "x"}, "test": {"two": both}},
            "UADFV_Real": {"train": {"../../up": {"label": "x", "frames": ["h/1.png"]}}},
            "whatever": {"train": {"z": {"label": "x", "frames": ["h/1.png"]}}},
            "gone_Real": {"val": {"y": {"label": "x", "frames": ["no.png"]}}},
        }
    }
    put(tmp_path / "c", "UADFV.json", index)
    put(tmp_path / "c", "broken.json", "{")
    corpus = read_corpus(tmp_path / "c")
    assert column(corpus, "split") == {"UADFV/UADFV_Fake/one": "train", "UADFV/UADFV_Fake/two": "test"}
    assert column(corpus, "method") == {"UADFV/UADFV_Fake/one": "fake", "UADFV/UADFV_Fake/two": "fake"}
    assert by_id(corpus)["UADFV/UADFV_Fake/two"].path.name == "1.png"  # one frame is an image
    wrong = {"bad_label", "bad_name", "bad_row", "broken_metadata", "conflict", "missing_file", "outside_root"}
    assert wrong == set(reasons(corpus))
    assert any("1 videos of UADFV.json are in several splits" in p.message for p in corpus.problems)
