"""The journal: what is not done again, and what survives a kill."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from stored import BOXES_SHA, ITEM, JPEG, PNG, REUSING, SHA, extraction, full_disk, item, tree

from deepscan.config import MediaLimits
from deepscan.datasets.store.journal import Journal, JournalEntry, content_sha256, input_stamp, usable_boxes
from deepscan.datasets.store.manifest import Failure, write_manifest
from deepscan.datasets.store.store import find_store, read_store, write_store
from deepscan.errors import MediaError, OutputError

posix = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")


# Inputs


def test_what_is_hashed(tmp_path):
    names = [tmp_path / os.fsdecode(name) for name in (b"b.jpg", b"a \xe9\xff.jpg")]
    for number, path in enumerate(names):
        path.write_bytes(bytes([number]) * 10)
    plain = replace(ITEM, path=names[1])
    assert content_sha256(plain) == hashlib.sha256(b"\1" * 10).hexdigest()
    frames = replace(ITEM, path=tmp_path, frames=tuple(names))
    both = content_sha256(frames)
    assert both != content_sha256(replace(frames, frames=tuple(names[::-1])))  # order is content
    names[0].write_bytes(b"\5" * 10)
    assert content_sha256(frames) != both


def test_members_of_tars_are_hashed_in_place(tmp_path):
    path = tmp_path / "faces.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(3):
            info = tarfile.TarInfo(f"{'long/' * 40}{number}.jpg")
            info.size = 1500
            archive.addfile(info, io.BytesIO(bytes([number]) * 1500))
    for number in range(3):
        member = replace(ITEM, path=path, member=f"{'long/' * 40}{number}.jpg")
        assert content_sha256(member) == hashlib.sha256(bytes([number]) * 1500).hexdigest()
        assert input_stamp(member).endswith(member.member)
    with pytest.raises(MediaError, match="there is no 'missing'"):
        content_sha256(replace(ITEM, path=path, member="missing"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "not_found"), ("folder", "not_a_file"), ("empty", "empty_file"), ("big", "too_large")],
)
def test_inputs_that_cannot_be_hashed(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(bytes(2000))
    for one in (replace(ITEM, path=tmp_path / name), replace(ITEM, frames=(tmp_path / name,))):
        with pytest.raises(MediaError) as caught:
            content_sha256(one, MediaLimits(max_bytes=1000))
        assert caught.value.reason == reason


@posix
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MediaError, match="it is a pipe"):
        content_sha256(replace(ITEM, path=tmp_path / "pipe"))


def test_a_disk_that_fails_while_hashing(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(bytes(100))
    monkeypatch.setattr(
        "deepscan.datasets.store.journal.file_sha256", lambda _path: (_ for _ in ()).throw(OSError(5, "I/O"))
    )
    with pytest.raises(MediaError, match="I/O"):
        content_sha256(replace(ITEM, path=tmp_path / "x"))


# The journal


@pytest.fixture
def clip(tmp_path):
    """A video in a corpus; the tests below never decode it."""
    path = tmp_path / "corpus" / os.fsdecode(b"cl\xe9 p.mp4")
    path.parent.mkdir()
    path.write_bytes(b"pixels")
    return replace(ITEM, video_id=path.stem, path=path)


def process(journal, video, settings=PNG, original=None):
    """What a run does with one video that the journal does not know; how it ended."""
    if journal.recall(video, settings, original=original) is not None:
        return "recalled"
    boxes = usable_boxes(original, settings)
    stamp, sha256 = input_stamp(video, boxes), content_sha256(video)
    of = {"boxes_sha256": boxes.sha256 if boxes else None}
    stored = find_store(journal.folder, video, sha256, settings, **of)
    outcome = "found" if stored else "decoded"
    if stored is None:
        write_store(journal.folder, video, sha256, settings, extraction((2,), seed=int(sha256[:6], 16)), **of)
        stored = find_store(journal.folder, video, sha256, settings, **of)
    journal.append(JournalEntry.stored(journal.folder, video, stamp, stored))
    return outcome


def test_what_is_done_again(tmp_path, clip):
    out = tmp_path / "out"

    def run(video=clip, settings=PNG):
        with Journal(out) as journal:
            return process(journal, video, settings), journal.recall(video, settings).row

    outcome, first = run()
    assert outcome == "decoded"
    assert (first.status, first.n_frames, first.n_tracks, first.split) == ("ok", 32, 1, "train")
    assert run() == ("recalled", first)
    moved = replace(clip, path=clip.path.parent / "." / clip.path.name, split="val")
    assert run(moved) == ("recalled", replace(first, split="val"))
    for changes in ({"label": 0, "method": "real"}, {"group": "g"}, {}):
        corrected = replace(clip, **changes)
        assert run(corrected)[0] == "found"
        assert run(corrected)[0] == "recalled"
        assert read_store(out / run(corrected)[1].store).video.label == corrected.label
    os.utime(clip.path, ns=(1, 1))
    assert run()[0] == "found"  # touched
    assert run(settings=JPEG)[0] == "decoded"
    assert run()[0] == "found"  # the old settings' file is still there
    stored = out / run()[1].store
    stored.write_bytes(stored.read_bytes()[:-1])
    assert run()[0] == "decoded"  # damaged
    stored.unlink()
    assert run()[0] == "decoded"
    clip.path.write_bytes(b"others")
    assert run()[0] == "decoded"  # other content
    clip.path.unlink()
    with Journal(out) as journal:
        assert journal.recall(clip, PNG) is None
        assert len(journal) == 1  # all these lines are of one video


def test_recalling_reads_no_input(tmp_path, clip, monkeypatch):
    with Journal(tmp_path / "out") as journal:
        process(journal, clip)
    with Journal(tmp_path / "out") as journal:
        monkeypatch.setattr(Path, "open", full_disk)
        assert journal.recall(clip, PNG).row.status == "ok"


@pytest.mark.parametrize(
    ("status", "reason", "sha256", "final"),
    [
        ("skipped", "no_face", SHA, True),
        ("failed", "unreadable", SHA, True),
        ("failed", "unreadable", None, False),  # no permission, or a disk that was away
        ("failed", "too_large", SHA, False),  # the limits may have changed
        ("failed", "internal", SHA, False),
    ],
)
def test_which_failures_are_final(tmp_path, clip, status, reason, sha256, final):
    message = f"{clip.path.name}: two\nlines"
    entry = JournalEntry.without(
        clip, status, reason, message, stamp=input_stamp(clip), sha256=sha256, settings=PNG, n_frames=7
    )
    with Journal(tmp_path / "out") as journal:
        journal.append(entry)
    relabelled = replace(clip, label=0, method="real")
    with Journal(tmp_path / "out") as journal:
        assert (journal.recall(clip, PNG) == entry) is final
        assert journal.recall(clip, JPEG) is None
        if final:
            assert journal.recall(relabelled, PNG).row.label == 0  # there is no file that says otherwise
        os.utime(clip.path, ns=(1, 1))
        assert journal.recall(clip, PNG) is None
    failure = Failure("dfdc", clip.video_id, clip.path.as_posix(), reason, f"{clip.path.name}: two lines")
    assert entry.failure == (failure if status == "failed" else None)


def test_a_missing_input_is_looked_for_again(tmp_path):
    gone = replace(ITEM, path=tmp_path / "gone.mp4")
    assert input_stamp(gone) is None
    with Journal(tmp_path) as journal:
        journal.append(
            JournalEntry.without(
                gone, "failed", "not_found", "gone", stamp=input_stamp(gone), sha256=None, settings=PNG
            )
        )
        assert journal.recall(gone, PNG) is None


def test_frames_have_a_stamp(tmp_path):
    frames = tuple(tmp_path / f"{n}.png" for n in range(3))
    for path in frames:
        path.write_bytes(b"x")
        os.utime(path, ns=(5, 5))
    video = replace(ITEM, path=tmp_path, frames=frames)
    stamp = input_stamp(video)
    assert stamp == input_stamp(video)
    os.utime(frames[1], ns=(6, 6))
    assert input_stamp(video) != stamp
    assert input_stamp(replace(video, frames=frames[:2])) != stamp


def test_a_fake_is_done_again_when_its_original_has_changed(tmp_path, clip):
    out = tmp_path / "out"
    real = replace(clip, video_id="real", path=clip.path.with_name("real.mp4"), label=0, method="real")
    real.path.write_bytes(b"scene")

    def run(settings=REUSING):
        with Journal(out) as journal:
            outcomes = [process(journal, real, settings)]
            original = journal.recall(real, settings)
            outcomes.append(process(journal, clip, settings, original))
            stored = read_store(out / journal.recall(clip, settings, original=original).row.store)
            return (*outcomes, stored.video.boxes_sha256 == original.sha256)

    assert run(PNG) == ("decoded", "decoded", False)
    assert run() == ("recalled", "decoded", True)  # reals are not done again
    assert run() == ("recalled", "recalled", True)
    assert run(PNG) == ("recalled", "found", False)
    assert run() == ("recalled", "found", True)
    os.utime(real.path, ns=(1, 1))
    assert run() == ("found", "found", True)  # touched
    real.path.write_bytes(b"other")
    assert run() == ("decoded", "decoded", True)
    os.utime(clip.path, ns=(1, 1))
    assert run() == ("recalled", "found", True)


def test_an_original_without_a_file_is_as_good_as_none(tmp_path, clip):
    nobody = JournalEntry.without(item("real"), "skipped", "no_face", "", stamp="1:1", sha256=SHA, settings=REUSING)
    lost = JournalEntry.without(item("real"), "failed", "worker_died", "", stamp=None, sha256=None, settings=REUSING)
    with Journal(tmp_path / "out") as journal:
        assert process(journal, clip, PNG) == "decoded"
        for original in (None, nobody, lost):
            assert usable_boxes(original, REUSING) is None
            assert process(journal, clip, REUSING, original) == "recalled"
        entry = journal.recall(clip, PNG)
        assert usable_boxes(entry, REUSING) is entry
        assert usable_boxes(entry, PNG) is None
        assert journal.recall(clip, REUSING, original=entry) is None  # there are other boxes now
    assert input_stamp(clip, replace(entry, stamp=None)) is None  # it was gone when it was looked at
    assert input_stamp(clip, entry) != input_stamp(clip) != input_stamp(clip, replace(entry, stamp="2:2"))


@pytest.mark.parametrize("boxes_sha256", [None, BOXES_SHA])
def test_a_fake_in_which_nobody_is_found_is_recalled_with_its_original(tmp_path, clip, boxes_sha256):
    with Journal(tmp_path / "out") as journal:
        process(journal, replace(clip, video_id="real"))
        real = journal.recall(replace(clip, video_id="real"), PNG)
        original = replace(real, sha256=boxes_sha256)
        stamp = input_stamp(clip, usable_boxes(original, REUSING))
        entry = JournalEntry.without(
            clip, "skipped", "too_dark", "", stamp=stamp, sha256=SHA, settings=REUSING, boxes_sha256=boxes_sha256
        )
        journal.append(entry)
        assert journal.recall(clip, REUSING, original=original) == entry
        assert (journal.recall(clip, REUSING) == entry) is (boxes_sha256 is None)
        assert (journal.recall(clip, PNG) == entry) is (boxes_sha256 is None)


def test_a_line_that_was_cut_off(tmp_path, clip):
    with Journal(tmp_path / "out") as journal:
        process(journal, clip)
    path = tmp_path / "out" / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with Journal(tmp_path / "out") as journal:
        assert path.read_bytes() == b""
        assert process(journal, clip) == "found"
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b"\xff\n", b"[" * 9999 + b"\n"])
def test_a_damaged_line_is_passed_over(tmp_path, clip, line, caplog):
    with Journal(tmp_path / "out") as journal:
        process(journal, clip)
    path = tmp_path / "out" / "journal.jsonl"
    path.write_bytes(line + path.read_bytes())
    with Journal(tmp_path / "out") as journal:
        assert process(journal, clip) == "recalled"
    assert "1 damaged lines passed over" in caplog.text


def test_jobs_know_what_the_others_did(tmp_path, clip):
    with Journal(tmp_path, "-1-of-2") as first:
        process(first, clip)
        with Journal(tmp_path, "-2-of-2") as second:
            assert process(second, clip) == "recalled"
        with (tmp_path / "journal-1-of-2.jsonl").open("ab") as file:
            file.write(b'{"half')  # the other job is writing
        with Journal(tmp_path) as third:
            assert process(third, clip) == "recalled"
        assert (tmp_path / "journal-1-of-2.jsonl").read_bytes().endswith(b"half")  # it is not ours to mend


def test_ones_own_journal_counts_more(tmp_path, clip):
    with Journal(tmp_path / "a") as journal:
        process(journal, clip, JPEG)
    with Journal(tmp_path / "b") as journal:
        process(journal, clip, PNG)
    for ours, others in (("", "-1-of-2"), ("-1-of-2", "")):
        (tmp_path / f"b/journal{ours}.jsonl").write_bytes((tmp_path / "b/journal.jsonl").read_bytes())
        (tmp_path / f"b/journal{others}.jsonl").write_bytes((tmp_path / "a/journal.jsonl").read_bytes())
        with Journal(tmp_path / "b", ours) as journal:
            assert journal.recall(clip, PNG) is not None
            assert journal.recall(clip, JPEG) is None


def test_where_no_journal_can_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path / "file" / "out")


# Kills


@contextmanager
def killing(where, monkeypatch, after):
    """SIGKILL at the call number `after` of the function `where`; half of what it writes is written."""
    module, _, name = where.rpartition(".")
    calls = []
    real = os.write

    def kill(*args):
        calls.append(args)
        if len(calls) > after:
            if name == "write":
                real(args[0], args[1][: len(args[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args)

    holder = __import__(module, fromlist=[name])
    original = getattr(holder, name)
    with monkeypatch.context() as patched:
        patched.setattr(holder, name, kill)
        yield


@posix
@pytest.mark.parametrize(
    ("where", "after", "expected"),
    [
        ("deepscan.datasets.store.store.encode_crop", 0, ["decoded"] * 4),  # there are two crops a video
        ("deepscan.datasets.store.store.encode_crop", 5, ["recalled"] * 2 + ["decoded"] * 2),
        ("os.fsync", 1, ["recalled"] + ["decoded"] * 3),
        ("os.fsync", 3, ["recalled"] * 3 + ["decoded"]),
        ("os.write", 0, ["found"] + ["decoded"] * 3),  # half a line of the journal
        ("os.write", 2, ["recalled"] * 2 + ["found", "decoded"]),
        ("os.fsync", 4, ["recalled"] * 4),  # the manifest
    ],
)
def test_killed_and_run_again(tmp_path, monkeypatch, where, after, expected):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    videos = []
    for number in range(4):
        (corpus / f"v{number}.mp4").write_bytes(bytes([number]) * 9)
        videos.append(replace(item(f"v{number}"), path=corpus / f"v{number}.mp4"))

    def run(folder):
        with Journal(folder) as journal:
            outcomes = [process(journal, video) for video in videos]
            write_manifest(folder / "manifest.csv", [journal.recall(video, PNG).row for video in videos])
        return outcomes

    whole = tmp_path / "whole"
    assert run(whole) == ["decoded"] * 4
    assert run(whole) == ["recalled"] * 4

    cut = tmp_path / "cut"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # other threads: the child needs none
        child = os.fork()
    if child == 0:
        try:
            with killing(where, monkeypatch, after):
                run(cut)
        finally:
            os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert tree(cut) != tree(whole)

    assert run(cut) == expected
    assert tree(cut) == tree(whole)
    assert run(cut) == ["recalled"] * 4


@posix
def test_two_runs_do_not_write_into_one_folder(tmp_path):
    """Another process is refused while the journal is open, another job of the array is not."""
    ask = (
        "import sys, pathlib; from deepscan.datasets.store.journal import Journal; "
        "Journal(pathlib.Path(sys.argv[1]), sys.argv[2])"
    )

    def other(suffix=""):
        return subprocess.run(
            [sys.executable, "-c", ask, tmp_path, suffix], capture_output=True, text=True, check=False
        )

    with Journal(tmp_path):
        assert "another run is writing to it" in other().stderr
        assert other("-2-of-2").returncode == 0
    assert other().returncode == 0
