"""Readers of the published corpora as they are downloaded, on miniature trees."""

from __future__ import annotations

import pytest
from corpus_trees import (
    by_id,
    column,
    make_celebdf,
    make_crops,
    make_dfdc,
    make_ffpp,
    make_tars,
    originals,
    put,
    put_tar,
    reasons,
    touch,
)

from deepscan.datasets.readers import read_corpus
from deepscan.datasets.splits import assign_splits
from deepscan.errors import ConfigError, MediaError

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
    problems = [(p.path.name, p.reason) for p in corpus.problems if p.path.parent.name == "dfdc_train_part_10"]
    videos = [("other.mp4", "no_entry"), ("real.mp4", "no_entry")]
    assert [f for f in problems if f[0] != "metadata.json"] == videos
    assert content == "null" or ("metadata.json", "broken_metadata") in problems


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
    fakes = {"a": "b", "b": "c", "x": "y", "y": "x"}
    entries = {f"{fake}.mp4": {"label": "FAKE", "original": f"{real}.mp4"} for fake, real in fakes.items()}
    put(part, "metadata.json", {**entries, "c.mp4": {"label": "REAL"}})
    corpus = read_corpus(tmp_path)
    assert "".join(column(corpus, "group").values()) == "cccxx"
    # Of a chain the first, of a circle nobody knows.
    assert originals(corpus) == {f"dfdc_train_part_0/{n}": "dfdc_train_part_0/c" for n in "ab"}
    (part / "c.mp4").unlink()
    assert originals(read_corpus(tmp_path)) == {"dfdc_train_part_0/a": "dfdc_train_part_0/b"}
    (part / "b.mp4").unlink()  # what "a" was made from is gone
    assert originals(read_corpus(tmp_path)) == {}


def test_dfdc_originals_in_several_parts(tmp_path):
    """One name in two parts means two videos, and a fake is of the one in its own part."""
    parts = {
        "0": ({"same.mp4", "f.mp4", "g.mp4", "h.mp4", "i.mp4"}, {"f": "same", "g": "other", "h": "gone", "i": "both"}),
        "1": ({"same.mp4", "f.mp4", "other.mp4", "gone.mp4", "both.mp4"}, {"f": "same"}),
        "2": ({"both.mp4"}, {}),
    }
    for number, (names, fakes) in parts.items():
        part = touch(tmp_path / f"dfdc_train_part_{number}", *names)
        entries = {name: {"label": "REAL"} for name in names}
        entries |= {f"{fake}.mp4": {"label": "FAKE", "original": f"{real}.mp4"} for fake, real in fakes.items()}
        if number == "0":
            entries["gone.mp4"] = {"label": "REAL"}  # listed here, and lost: that of part 1 is another one
        put(part, "metadata.json", entries)
    assert originals(read_corpus(tmp_path)) == {
        "dfdc_train_part_0/f": "dfdc_train_part_0/same",
        "dfdc_train_part_0/g": "dfdc_train_part_1/other",
        "dfdc_train_part_1/f": "dfdc_train_part_1/same",
    }


def test_dfdc_originals_whose_names_are_told_apart_by_their_ending(tmp_path):
    part = touch(tmp_path / "dfdc_train_part_0", "real.mp4", "real.avi", "fake.mp4", "fake.avi")
    entries = {name: {"label": "REAL"} for name in ("real.mp4", "real.avi")}
    entries |= {f"fake.{end}": {"label": "FAKE", "original": f"real.{end}"} for end in ("mp4", "avi")}
    put(part, "metadata.json", entries)
    names = {f"dfdc_train_part_0/fake.{end}": f"dfdc_train_part_0/real.{end}" for end in ("mp4", "avi")}
    assert originals(read_corpus(tmp_path)) == names


@pytest.mark.parametrize("original", [7, None, "", ["real.mp4"], "../dfdc_train_part_0/real.mp4", "real"])
def test_dfdc_originals_that_are_no_names(tmp_path, original):
    part = touch(tmp_path / "dfdc_train_part_0", "real.mp4", "fake.mp4")
    put(part, "metadata.json", {"real.mp4": {"label": "REAL"}, "fake.mp4": {"label": "FAKE", "original": original}})
    assert originals(read_corpus(tmp_path)) == {}


def test_dfdc_a_real_has_no_original(tmp_path):
    part = touch(tmp_path / "dfdc_train_part_0", "real.mp4", "copy.mp4")
    put(part, "metadata.json", {"real.mp4": {"label": "REAL"}, "copy.mp4": {"label": "REAL", "original": "real.mp4"}})
    assert originals(read_corpus(tmp_path)) == {}


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


def test_ffpp_originals_are_of_the_same_compression(tmp_path):
    for level, names in {"raw": ["004.mp4"], "c23": ["004.mp4"], "c40": ["982.mp4", "003.avi", "003.mp4"]}.items():
        touch(tmp_path / f"original_sequences/youtube/{level}/videos", *names)
        touch(tmp_path / f"manipulated_sequences/NeuralTextures/{level}/videos", "004_982.mp4", "003_000.mp4")
    assert originals(read_corpus(tmp_path)) == {  # two files could be 003
        "NeuralTextures/raw/004_982": "youtube/raw/004",
        "NeuralTextures/c23/004_982": "youtube/c23/004",
    }


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
    assert originals(corpus) == {"DeepFakeDetection/c23/02_01__talking__YVGY8LOK": "actors/c23/02__talking"}
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


def test_celebdf_originals_in_a_folder_of_another_case(tmp_path):
    make_celebdf(tmp_path)
    (tmp_path / "Celeb-real/id0_0000.mp4").unlink()
    (tmp_path / "Celeb-real").rename(tmp_path / "CELEB-REAL")
    assert originals(read_corpus(tmp_path)) == {
        "Celeb-synthesis/id10_id1_0003": "CELEB-REAL/id10_0003",
        "Celeb-synthesis/id7_id8_0000": "CELEB-REAL/id7_0000",
    }


def test_celebdf_lists_that_are_wrong_in_places(tmp_path):
    touch(make_celebdf(tmp_path), "Celeb-synthesis/unnamed.mp4", "Celeb-real/id0_0000.avi")
    lines = "1 Celeb-synthesis/id0_id1_0000.mp4", "nonsense", "", "1 YouTube-real/gone.mp4", "1 ../out.mp4", "2 x.mp4"
    put(tmp_path, "List_of_testing_videos.txt", "\ufeff" + "\r\n".join(lines))
    corpus = read_corpus(tmp_path)
    wrong = ["bad_name", "bad_row", "bad_row", "conflict", "duplicate", "missing_file", "outside_root"]
    assert reasons(corpus) == wrong
    assert by_id(corpus)["Celeb-synthesis/id0_id1_0000"].label == 1  # the folder counts
    assert by_id(corpus)["Celeb-synthesis/id0_id1_0000"].split == "test"


# Face crops


def test_face_crops_with_a_table(tmp_path):
    corpus = read_corpus(make_crops(tmp_path))
    assert corpus.name == "facecrops"
    assert column(corpus, "label") == {"faces_224/aaa": 1, "faces_224/bbb": 0, "faces_224/ccc": 1}
    assert list(column(corpus, "group").values()) == ["bbb", "bbb", "zzz"]
    assert originals(corpus) == {"faces_224/aaa": "faces_224/bbb"}
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


def test_face_tars_with_several_reals_in_a_group(tmp_path):
    """Two frames of one video: which of them a fake goes with is not known."""
    put_tar(make_tars(tmp_path), "02.tar", ["s.jpg", "t.jpg", "u.jpg"])
    table = tmp_path / "metadata.csv"
    rows = ["s.jpg,02.tar,fake,r,train,1", "t.jpg,02.tar,real,q,val,1"]  # one more fake of r; the real of q elsewhere
    table.write_text(table.read_text() + "\n".join(rows) + "\n")
    assert originals(read_corpus(tmp_path)) == {"00/f": "00/r", "02/s": "00/r", "01/g": "02/t"}
    table.write_text(table.read_text() + "u.jpg,02.tar,real,r,train,1\n")
    assert originals(read_corpus(tmp_path)) == {"01/g": "02/t"}


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
