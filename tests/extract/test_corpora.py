"""Corpus readers, on miniature trees made here."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from deepscan.errors import ConfigError, DeepscanError, MediaError, OutputError
from deepscan.extract.datasets import CorpusItem, detect_corpus, list_corpora, read_corpus, write_index
from deepscan.extract.splits import assign_splits, check_groups


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def put_tar(root, name, members, links=()):
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / name, "w") as archive:
        for member in members:
            entry = tarfile.TarInfo(member)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"jpeg"))
        for member in links:
            entry = tarfile.TarInfo(member)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
    return root


def by_id(corpus):
    return {item.video_id: item for item in corpus.items}


def column(corpus, name):
    return {item.video_id: getattr(item, name) for item in corpus.items}


def reasons(corpus):
    return sorted(problem.reason for problem in corpus.problems)


def make_dfdc(root):
    touch(root / "dfdc_train_part_0", "real.mp4", "fake.mp4", "fake2.mp4", "stray.mp4", "notes.txt", "._real.mp4")
    entries = {
        "fake.mp4": {"label": "FAKE", "split": "train", "original": "real.mp4"},
        "fake2.mp4": {"label": "FAKE", "split": "train", "original": "elsewhere.mp4"},
        "gone.mp4": {"label": "FAKE", "split": "train", "original": "real.mp4"},
        "real.mp4": {"label": "REAL", "split": "train"},
    }
    put(root / "dfdc_train_part_0", "metadata.json", entries)
    touch(root / "dfdc_train_part_10", "other.mp4", "real.mp4")
    entries = {"other.mp4": {"label": "FAKE", "original": "elsewhere.mp4"}, "real.mp4": {"label": "REAL"}}
    put(root / "dfdc_train_part_10", "metadata.json", entries)
    return root


def make_ffpp(root, *, lists=False):
    touch(root / "original_sequences/youtube/c23/videos", "004.mp4", "982.mp4", "519.mp4", "100.mp4")
    touch(root / "original_sequences/youtube/raw/videos", "004.mp4")
    touch(root / "manipulated_sequences/Deepfakes/c23/videos", "004_982.mp4", "519_515.mp4", "nonsense.mp4")
    touch(root / "manipulated_sequences/Deepfakes/masks/videos", "004_982.mp4")
    touch(root / "manipulated_sequences/Face2Face/c23/videos", "982_004.mp4")
    if lists:
        put(root, "train.json", [["004", "982"], ["519", "515"]])
        put(root, "val.json", [["100", "101"]])
        put(root, "test.json", [["300", "301"]])
    return root


def make_celebdf(root, *, listed=True):
    touch(root / "Celeb-real", "id0_0000.mp4", "id1_0000.mp4", "id10_0003.mp4", "id7_0000.mp4")
    touch(root / "YouTube-real", "00170.mp4", "00171.mp4")
    touch(root / "Celeb-synthesis", "id0_id1_0000.mp4", "id10_id1_0003.mp4", "id7_id8_0000.mp4")
    if listed:
        put(root, "List_of_testing_videos.txt", "1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id7_id8_0000.mp4\n")
    return root


def make_folders(root):
    return touch(root, "real/a.mp4", "real/b.JPG", "fake/a.mp4", "fake/c.png", "other/d.mp4", "readme.txt")


def make_split_folders(root):
    places = [f"{split}/{label}" for split in ("Train", "Validation", "Test") for label in ("Real", "Fake")]
    return touch(root, *(f"{place}/{name}.jpg" for place in places for name in "ab"))


def make_crops(root):
    touch(root / "faces_224", "aaa.jpg", "bbb.jpg", "ccc.jpg", "stray.jpg")
    rows = "aaa.mp4,1920,1080,FAKE,bbb.mp4\nbbb.mp4,1920,1080,REAL,\nccc.mp4,1,1,FAKE,zzz.mp4\ngone.mp4,1,1,REAL,\n"
    return put(root, "metadata.csv", "videoname,original_width,original_height,label,original\n" + rows)


def make_tars(root):
    put_tar(root, "00.tar", ["f.jpg", "r.jpg", "stray.jpg"])
    put_tar(root, "01.tar", ["g.jpg"])
    rows = ["f.jpg,00.tar,fake,r,train,185", "r.jpg,00.tar,real,r,train,155", "g.jpg,01.tar,fake,q,val,99"]
    rows = ["file,shard,label,group,split,face_px", *rows, "h.jpg,01.tar,real,,,9", ""]
    return put(root, "metadata.csv", "\n".join(rows))


def make_csv(root):
    touch(root, "clips/one.mp4", "clips/two.mp4", "pictures/three.png")
    rows = "clips/one.mp4,real,anna,train\nclips/two.mp4,1,anna,\npictures/three.png,FAKE,,test\n"
    return put(root, "mine.csv", "path,label,group,split\n" + rows)


def make_index(root):
    touch(root, *(f"frames/{video}/{n:03d}.png" for video in ("004", "004_982", "519") for n in range(3)))

    def entry(label, video):
        return {"label": label, "frames": [f"frames\\{video}\\{n:03d}.png" for n in range(3)]}

    real = {"train": {"c23": {"004": entry("FF-real", "004")}}, "val": {"c23": {"519": entry("FF-real", "519")}}}
    fake = {"train": {"c23": {"004_982": entry("FF-DF", "004_982")}}, "val": {"c23": {}}, "test": {"c23": {}}}
    return put(root, "FaceForensics++.json", {"FaceForensics++": {"FF-real": real, "FF-DF": fake}})


MAKERS = {
    "dfdc": make_dfdc,
    "faceforensics": make_ffpp,
    "celebdf": make_celebdf,
    "facecrops": make_tars,
    "deepfakebench": make_index,
    "csv": make_csv,
    "folders": make_folders,
}


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
def test_nothing_usable_is_an_error_in_one_line(tmp_path, name):
    with pytest.raises(MediaError) as caught:
        read_corpus(tmp_path, name)
    assert caught.value.reason == "empty_corpus"
    assert caught.value.why
    assert "Expected: " in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MAKERS)
def test_a_link_to_a_corpus_is_as_good_as_the_corpus(tmp_path, name):
    root = MAKERS[name](tmp_path / "real corpus")
    (tmp_path / "link").symlink_to(root)
    linked = read_corpus(tmp_path / "link", name)
    assert [i.video_id for i in linked.items] == [i.video_id for i in read_corpus(root, name).items]
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
    modules = "deepscan.extract.datasets, deepscan.extract.splits"
    code = f"import sys, {modules}; print(*{{'torch', 'av', 'cv2', 'numpy'}} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_items_are_checked():
    with pytest.raises(ValueError, match="Invalid label"):
        CorpusItem("v", Path("v.mp4"), 2, "csv", "real", "g", None)
    with pytest.raises(ValueError, match="Invalid split"):
        CorpusItem("v", Path("v.mp4"), 0, "csv", "real", "g", "holdout")  # type: ignore[arg-type]


# DFDC


def test_dfdc(tmp_path):
    corpus = read_corpus(make_dfdc(tmp_path))
    assert column(corpus, "label") == {
        "dfdc_train_part_0/fake": 1,
        "dfdc_train_part_0/fake2": 1,
        "dfdc_train_part_0/real": 0,
        "dfdc_train_part_10/other": 1,
        "dfdc_train_part_10/real": 0,  # the same file name in two parts
    }
    assert list(column(corpus, "group").values()) == ["real", "elsewhere", "real", "elsewhere", "real"]
    assert set(column(corpus, "method").values()) == {"fake", "real"}
    assert set(column(corpus, "split").values()) == {None}  # "train" throughout divides nothing
    assert {(p.path.name, p.reason) for p in corpus.problems} == {
        ("gone.mp4", "missing_file"),
        ("stray.mp4", "no_entry"),
    }


def test_dfdc_one_part_and_unpacked_archives(tmp_path):
    whole = read_corpus(make_dfdc(tmp_path / "a"))
    part = read_corpus(tmp_path / "a/dfdc_train_part_0")
    assert part.name == "dfdc"
    assert by_id(part).keys() == {i for i in by_id(whole) if i.startswith("dfdc_train_part_0/")}
    nested = read_corpus(make_dfdc(tmp_path / "b/dfdc_train_part_00").parent)
    assert len(nested.items) == len(whole.items)
    assert not [p for p in nested.problems if p.path.name == "metadata.json"]
    sample = touch(tmp_path / "train_sample_videos", "x.mp4")  # known by its metadata, not by its name
    put(sample, "metadata.json", {"x.mp4": {"label": "REAL", "split": "train", "original": None}})
    assert column(read_corpus(sample), "group") == {"train_sample_videos/x": "x"}


def test_dfdc_splits_that_divide_are_kept(tmp_path):
    make_dfdc(tmp_path)
    put(tmp_path / "dfdc_train_part_10", "metadata.json", {"other.mp4": {"label": "FAKE", "split": "test"}})
    splits = column(read_corpus(tmp_path), "split")
    assert splits["dfdc_train_part_0/real"] == "train"
    assert splits["dfdc_train_part_10/other"] == "test"


@pytest.mark.parametrize("content", ["{not json", "", "[1, 2]", "[" * 100_000, "null"])
def test_dfdc_broken_metadata_costs_its_part_only(tmp_path, content):
    make_dfdc(tmp_path)
    put(tmp_path / "dfdc_train_part_10", "metadata.json", content)
    corpus = read_corpus(tmp_path)
    assert {i.path.parent.name for i in corpus.items} == {"dfdc_train_part_0"}
    found = [(p.path.name, p.reason) for p in corpus.problems if p.path.parent.name == "dfdc_train_part_10"]
    videos = [("other.mp4", "no_entry"), ("real.mp4", "no_entry")]
    assert [f for f in found if f[0] != "metadata.json"] == videos
    assert content == "null" or ("metadata.json", "broken_metadata") in found


def test_dfdc_part_without_metadata(tmp_path):
    make_dfdc(tmp_path)
    (tmp_path / "dfdc_train_part_10/metadata.json").unlink()
    assert reasons(read_corpus(tmp_path)) == ["missing_file", "missing_file", "no_entry", "no_entry", "no_entry"]


def test_dfdc_entries_that_cannot_be_used(tmp_path):
    touch(tmp_path, "secret.mp4", "corpus/dfdc_train_part_1/in.mp4")
    part = touch(tmp_path / "corpus/dfdc_train_part_0", "ok.mp4", "odd.mp4", "none.mp4", "split.mp4")
    (part / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    good = {"label": "REAL", "split": "train"}
    outside = [
        "../../secret.mp4",
        "../dfdc_train_part_1/in.mp4",
        str(tmp_path / "secret.mp4"),
        "link.mp4",
        "nul\0.mp4",
        "/",
    ]
    entries = {
        **dict.fromkeys(outside, good),
        "ok.mp4": {"label": "FAKE", "original": "../../secret.mp4"},
        "odd.mp4": "REAL",
        "none.mp4": {"label": "MAYBE"},
        "split.mp4": {"label": "REAL", "split": "holdout"},
        "": good,
        "x" * 5000: good,
        "\ud800.mp4": good,
    }
    put(part, "metadata.json", entries)
    corpus = read_corpus(tmp_path / "corpus")
    assert list(by_id(corpus)) == ["dfdc_train_part_0/ok"]
    refused = [p for p in corpus.problems if p.reason == "outside_root"]
    assert len(refused) == len(outside) + 1  # the link once more as a file
    for problem in corpus.problems:
        f"{problem.path} {problem.message}".encode()  # can be written to a file
    rest = [p.reason for p in corpus.problems if p.reason != "outside_root"]
    assert sorted(rest) == ["bad_label", "bad_label", "bad_split", *["missing_file"] * 4, "no_entry"]


def test_dfdc_a_part_that_is_a_link_out(tmp_path):
    make_dfdc(tmp_path / "a")
    make_dfdc(tmp_path / "b")
    (tmp_path / "a/dfdc_train_part_7").symlink_to(tmp_path / "b/dfdc_train_part_0")
    corpus = read_corpus(tmp_path / "a")
    assert "outside_root" in reasons(corpus)
    assert not [i for i in by_id(corpus) if i.startswith("dfdc_train_part_7")]


def test_dfdc_chains_and_circles_of_originals(tmp_path):
    part = touch(tmp_path / "dfdc_train_part_0", *(f"{n}.mp4" for n in "abcxy"))
    originals = {"a": "b", "b": "c", "x": "y", "y": "x"}
    entries = {f"{fake}.mp4": {"label": "FAKE", "original": f"{real}.mp4"} for fake, real in originals.items()}
    put(part, "metadata.json", {**entries, "c.mp4": {"label": "REAL"}})
    assert "".join(column(read_corpus(tmp_path), "group").values()) == "cccxx"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_unicode_names_match_in_either_spelling(tmp_path, form):
    import unicodedata

    part = touch(tmp_path / "dfdc_train_part_0", unicodedata.normalize(form, "Zoë Müller.mp4"))
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "Zoë Müller.mp4")
    put(part, "metadata.json", {other: {"label": "REAL"}})
    corpus = read_corpus(tmp_path)
    assert len(corpus.items) == 1
    assert not corpus.problems


# FaceForensics++


def test_ffpp(tmp_path):
    corpus = read_corpus(make_ffpp(tmp_path))
    assert column(corpus, "method") == {
        "youtube/c23/004": "real",
        "youtube/c23/100": "real",
        "youtube/c23/519": "real",
        "youtube/c23/982": "real",
        "youtube/raw/004": "real",
        "Deepfakes/c23/004_982": "Deepfakes",
        "Deepfakes/c23/519_515": "Deepfakes",
        "Face2Face/c23/982_004": "Face2Face",
    }
    groups = column(corpus, "group")
    assert {v for v, g in groups.items() if g == "youtube-004"} == {
        *("youtube/c23/004", "youtube/raw/004", "youtube/c23/982", "Deepfakes/c23/004_982", "Face2Face/c23/982_004")
    }
    assert groups["youtube/c23/519"] == groups["Deepfakes/c23/519_515"] != groups["youtube/c23/100"]
    assert reasons(corpus) == ["bad_name"]


@pytest.mark.parametrize("folder", ["", "splits/"])
def test_ffpp_official_lists(tmp_path, folder):
    make_ffpp(tmp_path)
    put(tmp_path, f"{folder}train.json", [["004", "982"], ["519", "515"]])
    put(tmp_path, f"{folder}val.json", [["100", "101"]])
    splits = column(read_corpus(tmp_path), "split")
    assert splits.pop("youtube/c23/100") == "val"
    assert set(splits.values()) == {"train"}


def test_ffpp_a_pair_is_one_group_even_without_its_fakes(tmp_path):
    touch(tmp_path / "original_sequences/youtube/c23/videos", "000.mp4", "003.mp4", "500.mp4")
    put(tmp_path, "test.json", [["003", "000"]])
    corpus = read_corpus(tmp_path)
    assert [i.group for i in corpus.items] == ["youtube-000", "youtube-000", "youtube-500"]
    assert [i.split for i in corpus.items] == ["test", "test", None]


def test_ffpp_lists_that_are_broken_or_contradict(tmp_path):
    make_ffpp(tmp_path)
    put(tmp_path, "train.json", [["004", "982"], "519", ["1"], [1, 2]])
    put(tmp_path, "val.json", "[[")
    put(tmp_path, "test.json", [["004", "777"]])
    corpus = read_corpus(tmp_path)
    assert reasons(corpus) == ["bad_name", "bad_row", "bad_row", "bad_row", "broken_metadata", "conflict"]
    put(tmp_path, "test.json", [["982", "777"]])
    touch(tmp_path / "original_sequences/youtube/c23/videos", "777.mp4")
    with pytest.raises(ConfigError, match=r"youtube-004 is in train .* and test"):
        assign_splits(read_corpus(tmp_path).items)


def test_ffpp_actors(tmp_path):
    touch(tmp_path / "original_sequences/actors/c23/videos", "01__exit_room.mp4", "02__talking.mp4", "09__talking.mp4")
    fakes = "02_01__talking__YVGY8LOK.mp4", "01__exit_room__YVGY8LOK.mp4"
    touch(tmp_path / "manipulated_sequences/DeepFakeDetection/c23/videos", *fakes)
    corpus = read_corpus(tmp_path)
    assert column(corpus, "group") == {
        "actors/c23/01__exit_room": "actor-01",
        "actors/c23/02__talking": "actor-01",
        "actors/c23/09__talking": "actor-09",
        "DeepFakeDetection/c23/02_01__talking__YVGY8LOK": "actor-01",
    }
    assert reasons(corpus) == ["bad_name"]


# Celeb-DF


def test_celebdf(tmp_path):
    corpus = read_corpus(make_celebdf(tmp_path))
    assert column(corpus, "group") == {
        "Celeb-real/id0_0000": "celeb-id0",
        "Celeb-real/id1_0000": "celeb-id0",
        "Celeb-real/id10_0003": "celeb-id0",
        "Celeb-real/id7_0000": "celeb-id7",
        "Celeb-synthesis/id0_id1_0000": "celeb-id0",
        "Celeb-synthesis/id10_id1_0003": "celeb-id0",
        "Celeb-synthesis/id7_id8_0000": "celeb-id7",
        "YouTube-real/00170": "youtube-00170",
        "YouTube-real/00171": "youtube-00171",
    }
    assert {i.method for i in corpus.items if i.label} == {"Celeb-synthesis"}
    assert {i.video_id for i in corpus.items if i.label} == {i for i in by_id(corpus) if "synthesis" in i}
    tested = {"YouTube-real/00170", "Celeb-synthesis/id7_id8_0000"}
    assert {i.video_id for i in corpus.items if i.split == "test"} == tested
    assert {i.split for i in corpus.items} == {"test", None}
    assert not corpus.problems
    divided = {i.video_id: i.split for i in assign_splits(corpus.items, 0, 0)}
    assert divided["Celeb-real/id7_0000"] == "test"  # follows its fake


def test_celebdf_lists_that_are_wrong_in_places(tmp_path):
    touch(make_celebdf(tmp_path), "Celeb-synthesis/unnamed.mp4", "Celeb-real/id0_0000.avi")
    lines = "1 Celeb-synthesis/id0_id1_0000.mp4", "nonsense", "", "1 YouTube-real/gone.mp4", "1 ../out.mp4", "2 x.mp4"
    put(tmp_path, "List_of_testing_videos.txt", "\ufeff" + "\r\n".join(lines))
    corpus = read_corpus(tmp_path)
    wrong = ["bad_name", "bad_row", "bad_row", "conflict", "duplicate", "missing_file", "outside_root"]
    assert reasons(corpus) == wrong
    assert by_id(corpus)["Celeb-synthesis/id0_id1_0000"].label == 1  # the folder counts
    assert by_id(corpus)["Celeb-synthesis/id0_id1_0000"].split == "test"


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


# Face crops


def test_face_crops_with_a_table(tmp_path):
    corpus = read_corpus(make_crops(tmp_path))
    assert corpus.name == "facecrops"
    assert column(corpus, "label") == {"faces_224/aaa": 1, "faces_224/bbb": 0, "faces_224/ccc": 1}
    assert list(column(corpus, "group").values()) == ["bbb", "bbb", "zzz"]
    assert reasons(corpus) == ["missing_file", "no_entry"]
    assert read_corpus(tmp_path / "metadata.csv").items == corpus.items


def test_face_crops_rows_that_are_wrong(tmp_path):
    touch(make_crops(tmp_path), "again/aaa.jpg")
    table = tmp_path / "metadata.csv"
    rows = 'aaa.mp4,1,1,REAL,\nx.mp4,1,1,PERHAPS,\n../y.mp4,1,1,REAL,\n"open,1,1,REAL,\n,,,REAL,\na,b,c,REAL,e,f\n'
    table.write_bytes(table.read_bytes() + rows.encode() + b"\xff\xfe.mp4,1,1,REAL,\n")
    corpus = read_corpus(tmp_path)
    assert len(corpus.items) == 3
    assert {"bad_label", "bad_row", "duplicate", "outside_root"} < set(reasons(corpus))
    assert reasons(corpus).count("bad_row") == 4
    assert reasons(corpus).count("duplicate") == 2


def test_face_tars(tmp_path):
    corpus = read_corpus(make_tars(tmp_path))
    assert corpus.name == "facecrops"
    assert [(i.path.name, i.member, i.label, i.group, i.split) for i in corpus.items] == [
        ("00.tar", "f.jpg", 1, "r", "train"),
        ("00.tar", "r.jpg", 0, "r", "train"),
        ("01.tar", "g.jpg", 1, "q", "val"),
    ]
    assert list(by_id(corpus)) == ["00/f", "00/r", "01/g"]
    assert {(p.reason, p.path.name) for p in corpus.problems} == {("no_entry", "00.tar"), ("missing_file", "01.tar")}


def test_face_tars_that_are_wrong(tmp_path):
    make_tars(tmp_path / "c")
    put_tar(tmp_path, "out.tar", ["s.jpg"])
    (tmp_path / "c/01.tar").write_bytes((tmp_path / "c/00.tar").read_bytes()[:700])  # cut short
    (tmp_path / "c/02.tar").write_bytes(b"no tar at all" * 99)
    rows = ["s.jpg,../out.tar,real,g,train,1", "s.jpg,gone.tar,real,g,train,1", "s.jpg,02.tar,real,g,train,1"]
    rows += ["f.jpg,00.tar,real,r,train,1", "stray.jpg,00.tar,real,r,later,1", "stray.jpg,00.tar,maybe,r,,1"]
    table = tmp_path / "c/metadata.csv"
    table.write_text(table.read_text() + "\n".join(rows))
    corpus = read_corpus(tmp_path / "c")
    assert [i.member for i in corpus.items] == ["f.jpg", "r.jpg"]
    met = ("outside_root", "missing_file", "unreadable", "duplicate", "bad_split", "bad_label")
    assert set(met) <= set(reasons(corpus))


def test_tars_without_a_table(tmp_path):
    root = tmp_path / "real_faces"
    put_tar(root, "adults.tar", ["b.jpg", "a.jpg", "notes.txt", "../up.jpg", "/etc/x.jpg", "a.jpg"], links=["l.jpg"])
    put_tar(root, "fake.tar", ["a.jpg"])
    corpus = read_corpus(root)
    assert [(i.video_id, i.label, i.group) for i in corpus.items] == [
        ("adults/a", 0, "adults/a"),
        ("adults/b", 0, "adults/b"),
        ("fake/a", 1, "fake/a"),
    ]
    assert reasons(corpus) == ["duplicate", "outside_root", "outside_root", "outside_root"]
    put_tar(tmp_path / "things", "x.tar", ["a.jpg"])
    with pytest.raises(MediaError, match="called real or fake"):
        read_corpus(tmp_path / "things", "facecrops")


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
    outside = (
        "../secret.mp4",
        tmp_path / "secret.mp4",
        "link.mp4",
        "up/secret.mp4",
        "sub/../../secret.mp4",
    )
    inside = "in.mp4", tmp_path / "c/sub/deep.mp4"
    rows = "\n".join(f"{path},real" for path in (*outside, *inside, "", "."))
    corpus = read_corpus(put(tmp_path / "c", "list.csv", f"path,label\n{rows}\n"))
    assert list(by_id(corpus)) == ["in", "sub/deep"]
    assert reasons(corpus) == ["missing_file"] * 2 + ["outside_root"] * len(outside)


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


@pytest.mark.parametrize("name", ["dfdc", "faceforensics", "celebdf", "csv", "facecrops"])
def test_an_index_that_is_written_reads_back(tmp_path, name):
    items = assign_splits(read_corpus(MAKERS[name](tmp_path / "corpus")).items, 0.3, 0.3)
    store = tmp_path / "store"
    frames = {i.video_id: [store / f"crops/{n}/{k}.jpg" for k in range(2)] for n, i in enumerate(items)}
    for paths in frames.values():
        touch(store, *(p.relative_to(store) for p in paths))
    written = write_index(items, store, frames)
    back = read_corpus(store)
    assert back.name == "deepfakebench"
    assert not back.problems

    def essence(items):
        return sorted((i.label, i.dataset, i.method, i.group, i.split) for i in items)

    assert essence(back.items) == essence(items)
    assert sorted(i.frames for i in back.items) == sorted(tuple(paths) for paths in frames.values())
    index = json.loads(written[0].read_text(encoding="utf-8"))
    assert list(index) == [written[0].stem]
    for label, splits in index[written[0].stem].items():  # as DeepfakeBench walks it
        assert list(splits) == ["train", "val", "test"]
        for videos in splits.values():
            levels = [videos["c23"], videos["raw"]] if name == "faceforensics" else [videos]
            for video in (v for level in levels for v in level.values()):
                assert video["label"] == label
                assert all((store / frame).exists() for frame in video["frames"])


def test_writing_an_index(tmp_path):
    items = assign_splits(read_corpus(make_split_folders(tmp_path / "c")).items)
    (one,) = write_index(items, tmp_path / "c/faces.json")
    index = json.loads(one.read_text())
    assert index["faces"]["folders_Real"]["train"]["a"]["frames"] == ["Train/Real/a.jpg"]
    (other,) = write_index(items, tmp_path / "elsewhere")
    assert json.loads(other.read_text())["folders"]["folders_Real"]["test"]["a"]["frames"][0].startswith("/")
    assert read_corpus(one).items
    assert write_index(items, tmp_path / "none", {items[0].video_id: [items[0].path]})
    with pytest.raises(MediaError, match="outside the corpus"):
        read_corpus(other)


def test_writing_an_index_that_cannot_be(tmp_path):
    videos = read_corpus(make_dfdc(tmp_path / "c"))
    with pytest.raises(ConfigError, match="no split"):
        write_index(videos, tmp_path / "i")
    with pytest.raises(ConfigError, match="no frames"):
        write_index(assign_splits(videos.items), tmp_path / "i")
    mixed = [*assign_splits(videos.items), *assign_splits(read_corpus(make_csv(tmp_path / "d")).items)]
    with pytest.raises(ConfigError, match="one dataset"):
        write_index(mixed, tmp_path / "i.json", {})
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_index(mixed, tmp_path / "file/i", {})
