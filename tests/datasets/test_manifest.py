"""The two tables: manifest and failures."""

from __future__ import annotations

import csv
import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import full_disk, item, tree

from deepscan.datasets.store.manifest import (
    COLUMNS,
    Failure,
    ManifestError,
    ManifestRow,
    read_failures,
    read_manifest,
    write_failures,
    write_manifest,
)
from deepscan.errors import OutputError

texts = st.text(st.characters(codec=None), max_size=10)
reused_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@st.composite
def row_lists(draw):
    rows = []
    for name in draw(st.lists(texts, unique=True, max_size=6)):
        status = draw(st.sampled_from(["ok", "skipped", "failed"]))
        ok = status == "ok"
        rows.append(
            ManifestRow(
                name,
                draw(texts),
                draw(st.sampled_from([0, 1])),
                draw(texts),
                draw(texts),
                draw(texts),
                draw(st.sampled_from(["train", "val", "test", None])),
                "store/ab/x.tar" if ok else None,
                draw(st.integers(0, 10**9)),
                draw(st.integers(1, 99)) if ok else 0,
                status,
                None if ok else draw(texts.filter(bool)),
                draw(st.dictionaries(texts.filter(bool), texts.filter(bool), max_size=2)),
            )
        )
    return rows


def row(name="clip", status="ok", **changes):
    kept = {"store": "store/ab/x.tar", "n_tracks": 2} if status == "ok" else {"reason": "no_face"}
    return replace(ManifestRow.of(item(name), status, n_frames=32, **kept), **changes)


# Tables


@reused_folder
@given(row_lists(), st.randoms(use_true_random=False))
def test_any_rows_round_trip_in_one_order(tmp_path, rows, rng: random.Random):
    write_manifest(tmp_path / "a.csv", rows)
    assert read_manifest(tmp_path / "a.csv") == sorted(rows, key=lambda r: r.identity)
    write_manifest(tmp_path / "b.csv", rng.sample([*rows, *rows], 2 * len(rows)))
    data = (tmp_path / "a.csv").read_bytes()
    assert (tmp_path / "b.csv").read_bytes() == data
    assert len(data.decode("utf-8").splitlines()) == len(rows) + 1


def test_a_manifest_as_others_read_it(tmp_path):
    odd = row("=SUM(A1) 50%, “Zoë”", "skipped", path=os.fsdecode(b"a\xe9\\b"), split=None)
    write_manifest(tmp_path / "m.csv", [odd, row("b")])
    with (tmp_path / "m.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "video_id": "=SUM(A1) 50%, “Zoë”",
        "path": "a\\udce9\\\\b",
        "label": "1",
        "dataset": "dfdc",
        "method": "fake",
        "group": "part_0/original",
        "split": "",
        "store": "",
        "n_frames": "32",
        "n_tracks": "0",
        "status": "skipped",
        "reason": "no_face",
    }
    assert (second["store"], second["n_tracks"], second["status"], second["reason"]) == (
        "store/ab/x.tar",
        "2",
        "ok",
        "",
    )
    assert tuple(first) == COLUMNS


def test_further_columns_follow_the_manifests_own(tmp_path):
    told = replace(item("a"), origin="web", columns={"sex": "female", "store": "elsewhere", "note": ""})
    rows = [ManifestRow.of(told, "skipped", "no_face"), row("b")]
    write_manifest(tmp_path / "manifest.csv", rows)
    lines = (tmp_path / "manifest.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == ",".join([*COLUMNS, "sex", "source"])
    assert [line.rsplit(",", 2)[1:] for line in lines[1:]] == [["female", "web"], ["", ""]]
    assert read_manifest(tmp_path / "manifest.csv") == rows


def test_two_rows_that_disagree(tmp_path):
    write_manifest(tmp_path / "m.csv", [row()])
    with pytest.raises(ManifestError, match=r"dfdc 'clip'.*label 1 and 0, group") as caught:
        write_manifest(tmp_path / "m.csv", [row(), row(label=0, group="g")])
    assert caught.value.reason == "manifest_conflict"
    assert read_manifest(tmp_path / "m.csv") == [row()]
    write_manifest(tmp_path / "m.csv", [row(), row(dataset="another")])  # not the same video


@pytest.mark.parametrize(
    "changes",
    [
        {"label": 2},
        {"split": "training"},
        {"status": "maybe"},
        {"n_frames": -1},
        {"store": None},
        {"n_tracks": 0},
        {"reason": "no_face"},
        {"store": "../../etc/passwd"},
        {"store": "/etc/passwd"},
        {"status": "failed"},
        {"status": "failed", "store": None, "n_tracks": 0},
        {"status": "skipped", "store": None, "reason": "no_face"},
    ],
)
def test_rows_that_cannot_be(changes):
    with pytest.raises(ValueError, match=r"Invalid|row|store"):
        replace(row(), **changes)


GOOD = ",".join(COLUMNS) + "\nclip,p,1,d,m,g,train,store/x.tar,3,1,ok,\n"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "video_id,path\n",
        GOOD.replace("reason", "why"),
        GOOD + "short,row\n",
        GOOD.replace("clip,p,1", "clip,p,one"),
        GOOD.replace("train", "dev"),
        GOOD.replace("store/x.tar", "../x.tar"),
        GOOD.replace(",3,", ",9999999999999,"),
        GOOD + '"open,p,1\n',
        GOOD + '"a"b,p,1,d,m,g,train,store/x.tar,3,1,ok,\n',
        b"\xff\xfe\0",
        GOOD.encode()[:-20],
    ],
)
def test_damaged_manifests(tmp_path, content):
    path = tmp_path / "m.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ManifestError, match="is damaged or no file of deepscan preprocess") as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)


def test_manifests_that_can_be_read(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())  # saved by a spreadsheet
    assert [r.video_id for r in read_manifest(tmp_path / "m.csv")] == ["clip"]
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "missing.csv")


@reused_folder
@given(st.lists(st.builds(Failure, texts, texts, texts, texts, texts), max_size=5))
def test_failures_round_trip(tmp_path, failures):
    write_failures(tmp_path / "f.csv", [*failures, *failures])
    assert read_failures(tmp_path / "f.csv") == sorted(set(failures))


@pytest.mark.parametrize("write", [write_manifest, write_failures])
def test_a_full_disk_keeps_the_old_table(tmp_path, monkeypatch, write):
    write(tmp_path / "t.csv", [])
    before = tree(tmp_path)
    monkeypatch.setattr("os.fsync", full_disk)
    rows = {write_manifest: [row()], write_failures: [Failure("d", "v", "p", "unreadable", "m")]}[write]
    with pytest.raises(OutputError, match=r"t\.csv cannot be written: the disk is full"):
        write(tmp_path / "t.csv", rows)
    assert tree(tmp_path) == before
