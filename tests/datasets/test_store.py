"""One video's file: what goes in comes out, in the same bytes everywhere, and nothing else is let in."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import (
    BOXES_SHA,
    ITEM,
    JPEG,
    PNG,
    REUSING,
    SHA,
    SIDE,
    extraction,
    full_disk,
    item,
    rewrite,
    same_tracks,
    tree,
    with_json,
)

from deepscan.datasets.store.archive import StoreError, escape_text, unescape_text
from deepscan.datasets.store.store import find_store, read_store, recipe, store_key, store_path, write_store
from deepscan.errors import OutputError

any_text = st.text(st.characters(codec=None, exclude_characters="\0"), max_size=12)
reused_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture
def written(tmp_path):
    return write_store(tmp_path, ITEM, SHA, PNG, extraction())


# What goes in comes out


@reused_folder
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.integers(0, 99),
    any_text.filter(bool),
    any_text,
    st.sampled_from([0, 1]),
)
def test_round_trip(tmp_path, lengths, seed, name, group, label):
    two_people = extraction(lengths, seed)
    video = item("x", label=label, group=group)
    video = replace(video, video_id=name)
    path = write_store(tmp_path, video, SHA, PNG, two_people)
    assert path.relative_to(tmp_path).as_posix().isascii()
    stored = read_store(path)
    assert (stored.video_id, stored.settings, stored.video.label) == (name, PNG, label)
    assert unescape_text(stored.video.group) == group
    assert stored.key == store_key(video, SHA, PNG)
    assert (stored.video.kind, stored.video.width_px, stored.video.height_px) == ("video", 320, 240)
    assert (stored.video.duration_s, stored.video.n_frames, stored.video.frames_sampled) == (10 / 3, 77, 32)
    for track, person in zip(stored.tracks, two_people.people, strict=True):
        assert same_tracks(track.track, person.track)
        assert np.array_equal(track.crops(), person.crops)


def test_how_sure_it_is_that_somebody_is_a_person_is_kept(tmp_path):
    two_people = extraction([2, 2])
    second = two_people.people[1]
    unsure = replace(second, track=replace(second.track, sureness="unsure"))
    stored = read_store(
        write_store(tmp_path, ITEM, SHA, PNG, replace(two_people, people=(two_people.people[0], unsure)))
    )
    assert [person.track.sureness for person in stored.tracks] == ["sure", "unsure"]


def test_jpeg_keeps_colours_apart(tmp_path):
    """Red and blue of equal brightness in single columns: what halved colours would mix to purple."""
    two_people = extraction((1,))
    two_people.people[0].crops[:] = (200, 0, 60)
    two_people.people[0].crops[:, :, ::2] = (0, 60, 255)
    decoded = read_store(write_store(tmp_path, ITEM, SHA, JPEG, two_people)).tracks[0].crops()
    assert np.abs(decoded.astype(int) - two_people.people[0].crops).max() < 30
    assert decoded.dtype == np.uint8


def test_some_crops_and_other_processes(written):
    track = pickle.loads(pickle.dumps(read_store(written))).tracks[0]  # noqa: S301 - our own
    everything = track.crops()
    assert np.array_equal(track.crops([2, 0, 2]), everything[[2, 0, 2]])
    assert track.crops([]).shape == (0, SIDE, SIDE, 3)
    assert len(track) == 3


def test_too_many_crops_at_once(written):
    track = read_store(written).tracks[0]
    with pytest.raises(StoreError, match="indices"):
        track.crops([0] * (1 << 21))


@pytest.mark.parametrize("image", [PNG, JPEG])
def test_the_same_bytes_everywhere(tmp_path, image):
    first = write_store(tmp_path / "a", ITEM, SHA, image, extraction())
    moved = replace(ITEM, path=Path("/mnt/other.mp4"), split=None)
    timed = replace(extraction(), timing_s={"decode": 99.0})
    old = os.umask(0o077)
    try:
        second = write_store(tmp_path / "b c", moved, SHA, image, timed)
    finally:
        os.umask(old)
    assert tree(tmp_path / "a") == tree(tmp_path / "b c")
    assert first.stat().st_mode == second.stat().st_mode


def test_an_ordinary_tar(written):
    with tarfile.open(written) as plain:
        members = plain.getmembers()
    names = [m.name.split("/", 1)[1] for m in members]
    assert names == [
        *(f"t00001.{i:06d}.png" for i in range(3)),
        "t00001.json",
        *(f"t00002.{i:06d}.png" for i in range(2)),
        "t00002.json",
    ]
    assert names == sorted(names)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}
    if shutil.which("tar"):
        listed = subprocess.run(["tar", "-tf", written], capture_output=True, text=True, check=True)
        assert (listed.stdout.split(), listed.stderr) == ([m.name for m in members], "")


# Addresses


def test_what_the_address_depends_on():
    key = store_key(ITEM, SHA, PNG)
    for same in (replace(ITEM, path=Path("x.mp4")), replace(ITEM, split="val"), replace(ITEM, label=0, group="g")):
        assert store_key(same, SHA, PNG) == key
    others = [
        store_key(ITEM, "cd" * 32, PNG),
        store_key(replace(ITEM, video_id="part_1/clip"), SHA, PNG),
        store_key(replace(ITEM, dataset="mine"), SHA, PNG),
        store_key(ITEM, SHA, JPEG),
        *(
            store_key(ITEM, SHA, PNG.model_copy(update=change))
            for change in (
                {"frames": 33},
                {"jpeg_quality": 96},
                {"face": PNG.face.model_copy(update={"min_face_px": 41})},
                {"track": PNG.track.model_copy(update={"max_gap_frames": 4})},
                {"crop": PNG.crop.model_copy(update={"margin": 0.0})},
            )
        ),
    ]
    assert len({key, *others}) == 1 + len(others)


def test_a_new_schema_or_revision_is_another_address(monkeypatch):
    key = store_key(ITEM, SHA, PNG)
    monkeypatch.setattr("deepscan.datasets.store.store.REVISION", -1)
    assert store_key(ITEM, SHA, PNG) != key


def test_the_originals_content_is_in_the_address_of_its_fakes():
    plain = store_key(ITEM, SHA, PNG)
    assert store_key(ITEM, SHA, REUSING) == plain  # without an original nothing is different
    reusing = store_key(ITEM, SHA, REUSING, boxes_sha256=BOXES_SHA)
    changed = store_key(ITEM, SHA, REUSING, boxes_sha256="ef" * 32)
    assert len({plain, reusing, changed}) == 3
    assert len({recipe(PNG), recipe(REUSING)}) == 2
    assert recipe(REUSING.for_boxes(None)) == recipe(PNG)
    assert REUSING.for_boxes(BOXES_SHA) == REUSING
    with pytest.raises(ValueError, match="boxes='own'"):
        store_key(ITEM, SHA, PNG, boxes_sha256=BOXES_SHA)


def test_ones_own_boxes_go_without_saying():
    """Switching the reuse of boxes on does not redo the reals."""
    settings = PNG.model_dump(mode="json", exclude={"boxes": True, "face": {"batch_frames"}})
    facts = {"schema": "deepscan.store/1", "revision": 4, "settings": settings}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    assert recipe(PNG) == hashlib.sha256(text.encode()).hexdigest()


def test_names_that_are_no_file_names(tmp_path):
    names = ["a/clip", "b/clip", "b/CLIP", "Zoë 50%/naïve clip", "\udce9\udcff", "..", "x" * 400, "con", 'a"b,c\nd']
    paths = [write_store(tmp_path, replace(ITEM, video_id=name), SHA, PNG, extraction((1,))) for name in names]
    assert len({str(path).lower() for path in paths}) == len(names)  # also where case does not count
    assert all(path.parent.parent == tmp_path / "store" for path in paths)
    assert [read_store(path).video_id for path in paths] == names


@given(st.text(st.characters(codec=None)))
def test_escaped_text(text):
    escaped = escape_text(text)
    assert unescape_text(escaped) == text
    assert len(escaped.splitlines()) <= 1
    escaped.encode()
    if not escaped.count("\\"):
        assert escaped == text


def test_escaped_text_is_readable():
    assert escape_text("50% Zoë =1+1 “x”.mp4") == "50% Zoë =1+1 “x”.mp4"
    assert escape_text(os.fsdecode(b"caf\xe9\\\n")) == "caf\\udce9\\\\\\u000a"


# Finding again


def test_found_again_without_encoding(tmp_path, written, monkeypatch):
    monkeypatch.setattr("deepscan.datasets.store.store.encode_crop", full_disk)
    before = written.stat().st_mtime_ns, written.stat().st_ino
    stored = find_store(tmp_path, replace(ITEM, split="test", path=Path("y.mp4")), SHA, PNG)
    assert stored.path == written
    assert (written.stat().st_mtime_ns, written.stat().st_ino) == before
    assert find_store(tmp_path, ITEM, "cd" * 32, PNG) is None
    assert find_store(tmp_path, ITEM, SHA, JPEG) is None


def test_a_corrected_label_keeps_the_crops(tmp_path, written, monkeypatch):
    corrected = replace(ITEM, label=0, method="real", group="Zoë \udce9")
    fresh = write_store(tmp_path / "fresh", corrected, SHA, PNG, extraction())
    monkeypatch.setattr("deepscan.datasets.store.store.encode_crop", full_disk)
    stored = find_store(tmp_path, corrected, SHA, PNG)
    assert (stored.video.label, stored.video.method, unescape_text(stored.video.group)) == (0, "real", "Zoë \udce9")
    assert written.read_bytes() == fresh.read_bytes()


def test_a_damaged_or_foreign_file_is_made_anew(tmp_path, written, caplog):
    other = replace(ITEM, video_id="part_1/clip")
    path = store_path(tmp_path, other, SHA, PNG)
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(written, path)
    assert find_store(tmp_path, other, SHA, PNG) is None
    written.write_bytes(written.read_bytes()[:-1])
    assert find_store(tmp_path, ITEM, SHA, PNG) is None
    assert caplog.text.count("it is made anew") == 2
    write_store(tmp_path, ITEM, SHA, PNG, extraction())
    assert find_store(tmp_path, ITEM, SHA, PNG) is not None


# Boxes of an original


def test_a_video_with_boxes_of_its_own_is_the_same_whatever_is_asked_of_fakes(tmp_path, written):
    other = write_store(tmp_path / "other", ITEM, SHA, REUSING, extraction())
    assert other.read_bytes() == written.read_bytes()
    assert find_store(tmp_path, ITEM, SHA, REUSING).path == written


@pytest.mark.parametrize(("fit", "boxes"), [(True, "original"), (False, "own")])
def test_a_fake_that_was_to_be_cut_like_its_original(tmp_path, written, fit, boxes):
    path = write_store(tmp_path, ITEM, SHA, REUSING, extraction(seed=1), boxes_sha256=BOXES_SHA, boxes_fit=fit)
    assert path == store_path(tmp_path, ITEM, SHA, REUSING, boxes_sha256=BOXES_SHA) != written
    stored = find_store(tmp_path, ITEM, SHA, REUSING, boxes_sha256=BOXES_SHA)
    assert (stored.path, stored.settings) == (path, REUSING)
    assert (stored.video.boxes, stored.video.boxes_sha256, stored.video.sha256) == (boxes, BOXES_SHA, SHA)
    assert find_store(tmp_path, ITEM, SHA, REUSING, boxes_sha256="ef" * 32) is None
    assert find_store(tmp_path, ITEM, SHA, PNG).path == written
    corrected = find_store(tmp_path, replace(ITEM, method="FaceSwap"), SHA, REUSING, boxes_sha256=BOXES_SHA)
    assert corrected.video == stored.video.model_copy(update={"method": "FaceSwap"})


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("video", "boxes_sha256", "ef" * 32), ("video", "boxes_sha256", None), ("settings", "boxes", "own")],
)
def test_a_file_that_does_not_stand_by_its_original(tmp_path, part, name, value):
    path = write_store(tmp_path, ITEM, SHA, REUSING, extraction(), boxes_sha256=BOXES_SHA)
    rewrite(path, with_json(lambda sample: sample[part].update({name: value})))
    with pytest.raises(StoreError, match="its key does not belong"):
        read_store(path)


# Faults while writing


def test_nobody_to_store(tmp_path):
    with pytest.raises(ValueError, match="Nobody"):
        write_store(tmp_path, ITEM, SHA, PNG, extraction(()))
    assert list(tmp_path.iterdir()) == []


def test_crops_of_another_size(tmp_path):
    with pytest.raises(ValueError, match="Invalid crops"):
        write_store(tmp_path, ITEM, SHA, PNG, extraction(side=SIDE * 2))
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("where", ["deepscan.datasets.store.store.encode_crop", "os.fsync", "pathlib.Path.replace"])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, written, monkeypatch, where):
    before = tree(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(where, full_disk)
        for video in (ITEM, item("another")):
            with pytest.raises(OutputError, match=r"the disk is full\. Make room and run the same command again"):
                write_store(tmp_path, video, SHA, PNG, extraction(seed=1))
        assert tree(tmp_path) == before
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk)
        with pytest.raises(OutputError, match="the disk is full"):
            find_store(tmp_path, replace(ITEM, label=0, method="real"), SHA, PNG)
        assert tree(tmp_path) == before


def test_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        write_store(tmp_path, ITEM, SHA, PNG, extraction())


def test_what_a_killed_run_left_is_removed(tmp_path, written):
    left = written.parent / f".{written.name[:40]}.abc123.tmp"
    other = written.parent / f".{'0' * 32}-another.abc123.tmp"  # may be in flight in another job
    for path in (left, other):
        path.write_bytes(b"half")
    write_store(tmp_path, ITEM, SHA, PNG, extraction())
    assert not left.exists()
    assert other.exists()


_FILL = """
import sys
from pathlib import Path
from stored import PNG, SHA, extraction, item
from deepscan.errors import OutputError
from deepscan.datasets.store.store import write_store, read_store
folder, written = Path(sys.argv[1]), []
try:
    for number in range(1000):
        written.append(write_store(folder, item(f"v{number}"), SHA, PNG, extraction((8,), number)))
except OutputError as error:
    assert written, "not even one fits"
    assert sorted(p for p in folder.rglob("*") if p.is_file()) == sorted(written), "something is left"
    for path in written:
        read_store(path).tracks[0].crops()
    sys.exit(f"full: {error}")
"""


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs a disk of its own, which only Linux gives")
def test_a_disk_that_fills_up(tmp_path):
    mount = f"mount -t tmpfs -o size=256k none '{tmp_path}'"
    apart = next(
        (
            command
            for command in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"])
            if not subprocess.run([*command, "sh", "-c", mount], capture_output=True, check=False).returncode
        ),
        None,
    )
    if apart is None:
        pytest.skip("this user may not mount a small disk")
    script = f"{mount} && exec '{sys.executable}' -c \"$0\" '{tmp_path}'"
    path = os.pathsep.join(sys.path)
    ran = subprocess.run(
        [*apart, "sh", "-c", script, _FILL],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("full: "), ran.stderr
    assert "the disk is full. Make room" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_what_only_decides_memory_is_not_in_the_address():
    more = JPEG.model_copy(update={"face": JPEG.face.model_copy(update={"batch_frames": 7})})
    other = JPEG.model_copy(update={"face": JPEG.face.model_copy(update={"detector_min_px": 31})})
    assert store_key(ITEM, SHA, more) == store_key(ITEM, SHA, JPEG)
    assert store_key(ITEM, SHA, other) != store_key(ITEM, SHA, JPEG)
