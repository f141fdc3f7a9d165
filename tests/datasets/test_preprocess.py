"""From a corpus to its store, manifest and failures, in one process."""

from __future__ import annotations

import csv
import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from inprocess import InProcess
from minicorpora import QUICK, dfdc, face_tars, ffpp, place, run
from rich.console import Console
from stored import tree

from deepscan.commands.preprocess import print_summary
from deepscan.datasets.array_jobs import Share, merge_manifests
from deepscan.datasets.preprocess import Task, process
from deepscan.datasets.readers import CorpusItem, read_corpus
from deepscan.datasets.store.manifest import read_failures, read_manifest
from deepscan.datasets.store.store import read_store
from deepscan.errors import OutputError


@pytest.fixture
def dfdc_root(tmp_path, face_clip, no_face_clip):
    return dfdc(tmp_path / "dfdc", face_clip, no_face_clip)


def table(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def facts(rows):
    return {row.video_id: (row.label, row.method, row.group, row.status, row.n_tracks) for row in rows}


def test_a_table_of_somebody_is_not_overwritten(dfdc_root, tmp_path):
    """Such as the list of a corpus whose own folder was given for the store."""
    (tmp_path / "out").mkdir()
    for name in ("manifest.csv", "failures.csv"):
        path = tmp_path / "out" / name
        path.write_text("path,label\na.mp4,real\n")
        with pytest.raises(OutputError, match=name):
            run(dfdc_root, tmp_path / "out")
        assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
        assert path.read_text() == "path,label\na.mp4,real\n"
        path.unlink()


def test_dfdc(dfdc_root, tmp_path):
    out = tmp_path / "out"
    summary, engine = run(dfdc_root, out)
    rows = read_manifest(out / "manifest.csv")
    one, two = "dfdc_train_part_0", "dfdc_train_part_1"
    assert facts(rows) == {
        f"{one}/orig": (0, "real", "orig", "ok", 1),
        f"{one}/swap one": (1, "fake", "orig", "ok", 1),
        f"{two}/orig": (0, "real", "orig", "ok", 1),
        f"{two}/empty é": (0, "real", "empty é", "skipped", 0),
    }
    assert [row.reason for row in rows if row.status == "skipped"] == ["no_face"]
    assert sorted(engine.done) == sorted(facts(rows))
    assert sorted(f.reason for f in read_failures(out / "failures.csv")) == ["missing_file", "no_entry"]
    assert (summary.n_recalled, summary.n_failed, summary.n_open) == (0, 0, 0)
    stored = read_store(out / rows[1].store)
    assert stored.settings.crop.size_px == 64
    assert stored.tracks[0].crops().shape == (3, 64, 64, 3)
    assert summary.n_crops == 9  # three videos, three frames each


def test_faceforensics(tmp_path, face_clip):
    out = tmp_path / "out"
    run(ffpp(tmp_path / "ffpp", face_clip), out)
    rows = {row.method: (row.label, row.status) for row in read_manifest(out / "manifest.csv")}
    assert rows == {"real": (0, "ok"), "Deepfakes": (1, "ok"), "NeuralTextures": (1, "ok")}
    assert len({row.group for row in read_manifest(out / "manifest.csv")}) == 1


def test_tars_of_faces_that_fill_the_picture(tmp_path, portrait):
    """A face without surroundings is found all the same, and its crop is the face."""
    tight = cv2.resize(portrait[62:172, 181:268], (224, 224), interpolation=cv2.INTER_AREA)
    image = cv2.imencode(".png", tight[..., ::-1])[1].tobytes()
    out = tmp_path / "out"
    summary, _ = run(face_tars(tmp_path / "faces", image), out)
    rows = {row.video_id: row for row in summary.rows}
    assert {name: (row.label, row.group, row.split, row.status) for name, row in rows.items()} == {
        "00/a": (0, "a", "train", "ok"),
        "00/b": (1, "a", "train", "ok"),
        "00/broken": (1, "c", "val", "failed"),
    }
    (failure,) = read_failures(out / "failures.csv")
    assert (failure.video_id, failure.reason) == ("00/broken", "unreadable")
    (track,) = read_store(out / rows["00/a"].store).tracks
    _, y1, _, y2 = track.track.sightings[0].face.box
    assert y1 < 0  # not cut off at the edge of the picture
    assert y2 > 224
    assert track.crops()[0].mean() == pytest.approx(tight.mean(), rel=0.2)


def test_a_folder_of_frames(tmp_path, portrait):
    frames = []
    for number in range(7):
        path = tmp_path / f"{number}.png"
        shifted = np.roll(portrait, 4 * number, axis=1)
        cv2.imwrite(str(path), cv2.resize(shifted, (256, 256))[..., ::-1])
        frames.append(path)
    frames[3].write_bytes(frames[3].read_bytes()[:500])  # one that cannot be read costs only itself
    item = CorpusItem("v", tmp_path, 1, "bench", "fake", "g", "train", None, tuple(frames))
    entry = process(Task(item, tmp_path / "out", QUICK.model_copy(update={"frames": 7})))
    assert entry.row.status == "ok"
    times = [sighting.time_s for sighting in read_store(tmp_path / "out" / entry.row.store).tracks[0].track.sightings]
    assert times == [0, 1, 2, 4, 5, 6]


def test_a_second_run_does_nothing(dfdc_root, tmp_path):
    out = tmp_path / "out"
    run(dfdc_root, out)
    before = tree(out)
    summary, engine = run(dfdc_root, out)
    assert engine.done == []
    assert summary.n_recalled == 4
    assert summary.n_crops == 9
    assert tree(out) == before


def test_other_settings_do_the_work_again(dfdc_root, tmp_path):
    out = tmp_path / "out"
    run(dfdc_root, out)
    _, engine = run(dfdc_root, out, store=QUICK.model_copy(update={"frames": 2}))
    assert len(engine.done) == 4
    assert {row.n_frames for row in read_manifest(out / "manifest.csv")} == {2}


def test_what_no_worker_finished_is_a_failure_and_is_tried_again(dfdc_root, tmp_path):
    out = tmp_path / "out"
    lose = {"dfdc_train_part_0/orig": "worker_died", "dfdc_train_part_1/orig": "timeout"}
    summary, _ = run(dfdc_root, out, InProcess(lose=lose))
    assert summary.n_failed == 2
    failed = {f.video_id: (f.reason, f.message) for f in read_failures(out / "failures.csv") if f.video_id}
    assert {name: reason for name, (reason, _) in failed.items()} == lose
    assert failed["dfdc_train_part_1/orig"][1] == "orig.mp4: timeout while it was looked at"
    summary, engine = run(dfdc_root, out)
    assert sorted(engine.done) == sorted(lose)
    assert summary.n_failed == 0
    assert {row.status for row in summary.rows} == {"ok", "skipped"}


def test_interrupted(dfdc_root, tmp_path):
    """What was done until Ctrl-C is in the tables and is not done again; the end is as without it."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    summary, _ = run(dfdc_root, out, InProcess(interrupt_after=2))
    assert (len(summary.rows), summary.n_open) == (2, 2)
    assert len(read_manifest(out / "manifest.csv")) == 2
    _, engine = run(dfdc_root, out)
    assert len(engine.done) == 2
    run(dfdc_root, whole)
    journals = ("journal.jsonl",)
    left, right = ({k: v for k, v in tree(folder).items() if k not in journals} for folder in (out, whole))
    assert left == right


def test_a_full_disk_ends_the_run_and_harms_nothing(dfdc_root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(dfdc_root, out, InProcess(interrupt_after=1))
    before = tree(out)

    def full(*_args, **_options):
        raise OutputError("x cannot be written", "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("deepscan.datasets.preprocess.write_store", full)
        with pytest.raises(OutputError, match="disk is full"):
            run(dfdc_root, out)
    after = tree(out)
    assert after.pop("journal.jsonl").startswith(before.pop("journal.jsonl"))
    assert after == before
    summary, _ = run(dfdc_root, out)
    assert summary.n_recalled >= 1
    assert summary.n_open == 0


def test_corpora_share_a_folder(dfdc_root, tmp_path, face_clip):
    out = tmp_path / "out"
    run(dfdc_root, out)
    run(ffpp(tmp_path / "ffpp", face_clip), out)
    rows = read_manifest(out / "manifest.csv")
    assert {row.dataset for row in rows} == {"dfdc", "faceforensics"}
    assert len(rows) == 8
    assert len(read_failures(out / "failures.csv")) == 2
    # Videos that are gone from their corpus go from the manifest too.
    (dfdc_root / "dfdc_train_part_0" / "swap one.mp4").unlink()
    run(dfdc_root, out)
    assert len(read_manifest(out / "manifest.csv")) == 7


def test_array_jobs_and_their_merge(dfdc_root, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    done = []
    for index in (1, 2, 3):
        _, engine = run(dfdc_root, out, share=Share(index, 3))
        done += engine.done
    merge_manifests(out)
    run(dfdc_root, whole)
    assert len(done) == len(set(done)) == 4
    for name in ("manifest.csv", "failures.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_hostile_files_are_rows(tmp_path, face_clip):
    """Every file has a row, whatever is in it; the others are done."""
    root = tmp_path / "corpus"
    place(face_clip, root / "real" / "good.mp4", root / "fake" / "good.mp4", root / "fake" / "cut.mp4")
    whole = face_clip.read_bytes()
    (root / "fake" / "cut.mp4").write_bytes(whole[: len(whole) // 3])
    (root / "real" / "text.mp4").write_text("This is no video.")
    (root / "real" / "void.mp4").write_bytes(b"")
    (root / "real" / 'line\nbreak, quote".mp4').write_bytes(b"\0" * 1000)
    summary, _ = run(root, tmp_path / "out")
    status = {row.video_id: (row.status, row.reason) for row in summary.rows}
    assert status.pop("fake/cut")[0] == "failed"
    assert status == {
        "real/good": ("ok", None),
        "fake/good": ("ok", None),
        "real/text": ("failed", "unreadable"),
        "real/void": ("failed", "empty_file"),
        'real/line\nbreak, quote"': ("failed", "unreadable"),
    }
    assert len(table(tmp_path / "out" / "failures.csv")) == 4
    assert all(failure.message.count("\n") == 0 for failure in summary.failures)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
def test_a_metadata_path_that_leads_out_is_not_read(tmp_path, face_clip):
    root = tmp_path / "corpus"
    place(face_clip, root / "in.mp4", tmp_path / "secret.mp4")
    (root / "list.csv").write_text("path,label\nin.mp4,real\n../secret.mp4,fake\n/etc/passwd,fake\n")
    summary, engine = run(root / "list.csv", tmp_path / "out")
    assert engine.done == ["in"]
    assert [failure.reason for failure in summary.failures] == ["outside_root", "outside_root"]


def test_the_summary_tells_what_a_person_asks(dfdc_root, tmp_path, capsys):
    summary, _ = run(dfdc_root, tmp_path / "out")
    print_summary(summary, tmp_path / "out", Share(), Console(width=200, highlight=False))
    cells = {line.split("│")[0].strip(): line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines()}
    assert cells["Videos"] == "4: 3 ok, 1 skipped"
    assert cells["Face crops"] == "9"
    assert cells["Labels"] == "2 real (67%), 1 fake (33%)"
    assert cells["People a video"] == "1: 3"
    assert cells["Skipped"] == "no_face 1"
    assert cells["Metadata"] == "missing_file 1, no_entry 1"


def test_a_video_whose_content_is_unchanged_is_not_decoded(dfdc_root, tmp_path, monkeypatch):
    """A lost journal costs hashing, not decoding."""
    out = tmp_path / "out"
    run(dfdc_root, out)
    (out / "journal.jsonl").unlink()
    monkeypatch.setattr("deepscan.datasets.preprocess.PeopleSearch", lambda *_a, **_k: pytest.fail("was decoded"))
    item = next(item for item in read_corpus(dfdc_root).items if item.label)
    entry = process(Task(replace(item, split="train"), out, QUICK))
    assert entry.row.status == "ok"
