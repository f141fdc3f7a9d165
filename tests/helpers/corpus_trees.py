"""Miniature corpora, and what the tests of their readers share."""

from __future__ import annotations

import io
import json
import tarfile


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


def originals(corpus):
    """Every fake of which the original is known: name -> name."""
    return {item.video_id: item.original for item in corpus.items if item.original is not None}


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
    return touch(root, *(f"{path}/{name}.jpg" for path in places for name in "ab"))


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
    rows = "clips/one.mp4,real,anna,train,\nclips/two.mp4,1,anna,,clips/one.mp4\npictures/three.png,FAKE,,test,\n"
    return put(root, "mine.csv", "path,label,group,split,original\n" + rows)


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

# What the fakes of these trees were made from.
ORIGINALS = {
    "dfdc": {"dfdc_train_part_0/fake": "dfdc_train_part_0/real"},
    "faceforensics": {
        "Deepfakes/c23/004_982": "youtube/c23/004",
        "Deepfakes/c23/519_515": "youtube/c23/519",
        "Face2Face/c23/982_004": "youtube/c23/982",
    },
    "celebdf": {
        "Celeb-synthesis/id0_id1_0000": "Celeb-real/id0_0000",
        "Celeb-synthesis/id10_id1_0003": "Celeb-real/id10_0003",
        "Celeb-synthesis/id7_id8_0000": "Celeb-real/id7_0000",
    },
    "facecrops": {"00/f": "00/r"},
    "deepfakebench": {},
    "csv": {"clips/two": "clips/one"},
    "folders": {},
}
