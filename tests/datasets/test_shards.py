"""Array jobs and WebDataset archives."""

from __future__ import annotations

import json
import random
import re
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import ITEM, PNG, extraction, full_disk, item, tree

from deepscan.datasets.store.archive import StoreError, decode_crop
from deepscan.datasets.store.journal import Entry
from deepscan.datasets.store.manifest import (
    Failure,
    ManifestError,
    ManifestRow,
    read_failures,
    read_manifest,
    write_failures,
    write_manifest,
)
from deepscan.datasets.store.shards import Share, merge_manifests, write_shards
from deepscan.datasets.store.store import read_store, write_store
from deepscan.errors import ConfigError, OutputError

# The rule by which WebDataset tells the samples of an archive: key and field of a name.
KEY = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")


def filled(folder, count=12):
    """A store of so many videos, of all splits and different lengths, and its rows."""
    rows = []
    for number in range(count):
        split = ("train", "train", "val", None)[number % 4]
        video = item(f"part/v {number}", split=split, label=number % 2, group=f"g{number}")
        found = extraction((1 + number % 5,) * (1 + number % 2), number)
        path = write_store(folder, video, f"{number:064x}", PNG, found)
        rows.append(Entry.stored(folder, video, None, read_store(path)).row)
    return rows


def samples(path):
    """The samples of an archive as WebDataset reads it: as a stream, up to the first mark of the end."""
    found = []
    with tarfile.open(path, "r|") as archive:
        for member in archive:
            key, field = KEY.match(member.name).groups()
            if not found or found[-1][0] != key:
                found.append((key, {}))
            assert field not in found[-1][1]
            found[-1][1][field] = archive.extractfile(member).read()
    return found


# Shares


@given(st.lists(st.text(st.characters(codec=None)), unique=True, max_size=30), st.integers(1, 9))
def test_every_video_is_of_one_job(names, count):
    shares = [Share(index, count) for index in range(1, count + 1)]
    for name in names:
        assert sum(share.takes(replace(ITEM, video_id=name)) for share in shares) == 1


def test_jobs_have_about_equal_work_and_never_change():
    items = [item(f"v{number}") for number in range(4000)]
    counts = [sum(map(Share(index, 4).takes, items)) for index in range(1, 5)]
    assert max(counts) - min(counts) < 200
    first = [i.video_id for i in items[:24] if Share(1, 4).takes(i)]
    assert first == FIRST_OF_FOUR  # another division would lose and repeat work between the jobs of a running array
    assert all(map(Share().takes, items))


FIRST_OF_FOUR = ["v5", "v7", "v11", "v14", "v16", "v21"]


def test_share_of_a_text():
    assert Share.parse("2/8") == Share(2, 8)
    assert Share.parse(" 1/1 ") == Share()
    assert (Share(2, 8).suffix, Share().suffix) == ("-2-of-8", "")
    for text in ("", "0/4", "5/4", "1/0", "1", "-1/4", "a/b", "1/4/2", "1.0/4", "01/4", "٣/٤"):
        with pytest.raises(ConfigError, match="must be I/N"):
            Share.parse(text)


# Merging


def split_up(folder, rows, failures, count):
    for index in range(1, count + 1):
        suffix = Share(index, count).suffix
        write_manifest(folder / f"manifest{suffix}.csv", rows[index - 1 :: count])
        write_failures(folder / f"failures{suffix}.csv", failures[index - 1 :: count])


def rows_of(names, **changes):
    kept = {"store": "store/x.tar", "n_tracks": 1}
    return [replace(ManifestRow.of(item(name, group=name), "ok", **kept), **changes) for name in names]


def test_merged_parts_are_the_whole(tmp_path):
    rows = rows_of([f"v{number}" for number in range(10)])
    failures = [Failure("dfdc", f"w{number}", "p", "unreadable", "m") for number in range(3)]
    write_manifest(tmp_path / "a" / "manifest.csv", rows)
    write_failures(tmp_path / "a" / "failures.csv", failures)
    split_up(tmp_path / "b", rows, failures, 4)
    merged = merge_manifests(tmp_path / "b")
    for name in ("manifest.csv", "failures.csv"):
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
    assert merged == read_manifest(tmp_path / "a" / "manifest.csv")
    assert read_failures(tmp_path / "b" / "failures.csv") == failures
    before = tree(tmp_path / "b")
    merge_manifests(tmp_path / "b")  # the merged one is no part of itself
    assert tree(tmp_path / "b") == before


def test_what_cannot_be_merged(tmp_path):
    with pytest.raises(ManifestError, match="nothing to merge"):
        merge_manifests(tmp_path)
    rows = rows_of(["a", "b", "c"])
    split_up(tmp_path, rows, [], 3)
    (tmp_path / "manifest-2-of-3.csv").unlink()
    with pytest.raises(ManifestError, match=r"1 have not finished: 2\. Run them with --shard 2/3"):
        merge_manifests(tmp_path)
    write_manifest(tmp_path / "manifest-2-of-3.csv", rows_of(["a"], label=0))
    with pytest.raises(ManifestError, match="'a' is in two rows that disagree: label 1 and 0"):
        merge_manifests(tmp_path)
    write_manifest(tmp_path / "manifest-2-of-3.csv", rows_of(["d"], group="a", split="test"))
    with pytest.raises(ConfigError, match=r"a is in train \(a\) and test \(d\)") as caught:
        merge_manifests(tmp_path)
    assert caught.value.reason == "split_leak"
    write_manifest(tmp_path / "manifest-2-of-3.csv", rows_of(["b"]))
    write_manifest(tmp_path / "manifest-1-of-2.csv", [])
    with pytest.raises(ManifestError, match="of 2 and some of 3 jobs"):
        merge_manifests(tmp_path)
    assert not (tmp_path / "manifest.csv").exists()
    (tmp_path / "manifest-1-of-2.csv").unlink()
    assert [row.video_id for row in merge_manifests(tmp_path)] == ["a", "b", "c"]


# WebDataset


def test_every_track_is_in_one_sample_with_its_label(tmp_path):
    rows = filled(tmp_path)
    shards = write_shards(tmp_path, rows, 2)
    assert [shard.name for shard in shards] == [
        f"{split}-{number:06d}.tar" for split in ("all", "train", "val") for number in (0, 1)
    ]
    by_name = {row.video_id: row for row in rows}
    seen = []
    for shard in shards:
        found = samples(tmp_path / "shards" / shard.name)
        crops = 0
        for key, fields in found:
            content = json.loads(fields.pop("json"))
            row = by_name[content["video"]["video_id"]]
            assert (row.split or "all", row.label, row.group) == (
                shard.split,
                content["video"]["label"],
                content["video"]["group"],
            )
            track = read_store(tmp_path / row.store).tracks[content["number"] - 1]
            decoded = [decode_crop(tmp_path, fields[name], 32) for name in sorted(fields)]
            assert np.array_equal(np.stack(decoded), track.crops())
            crops += len(decoded)
            seen.append(key)
        assert (len(found), crops) == (shard.tracks, shard.crops)
        assert shard.bytes == (tmp_path / "shards" / shard.name).stat().st_size
    assert len(seen) == len(set(seen)) == sum(row.n_tracks for row in rows)
    index = json.loads((tmp_path / "shards" / "shards.json").read_text(encoding="utf-8"))
    assert index["schema"] == "deepscan.shards/1"
    assert [entry["videos"] for entry in index["shards"]] == [shard.videos for shard in shards]
    assert sum(shard.videos for shard in shards) == len(rows)


def test_the_same_rows_give_the_same_archives(tmp_path):
    rows = filled(tmp_path)
    write_shards(tmp_path, rows, 3)
    first = tree(tmp_path)
    skipped = ManifestRow.of(item("nobody"), "skipped", "no_face")
    write_shards(tmp_path, [skipped, *random.Random(1).sample(rows, len(rows))], 3)
    assert tree(tmp_path) == first


def test_archives_are_of_equal_size(tmp_path):
    """One video larger than all others together has an archive for itself, wherever its name puts it."""
    rows = []
    for number, length in enumerate((1, 1, 1, 24, *(1,) * 9)):
        path = write_store(tmp_path, item(f"v{number}"), f"{number:064x}", PNG, extraction((length,), number))
        rows.append(Entry.stored(tmp_path, item(f"v{number}"), None, read_store(path)).row)
    first, second = write_shards(tmp_path, rows, 2)
    assert (first.videos, first.crops, second.videos, second.crops) == (1, 24, 12, 12)


def test_nothing_of_an_earlier_set_stays(tmp_path):
    rows = [replace(row, split="train") for row in filled(tmp_path, 5)]
    assert len(write_shards(tmp_path, rows, 99)) == 5
    (tmp_path / "shards" / "mine.tar").write_bytes(b"")
    write_shards(tmp_path, [replace(row, split="test") for row in rows], 2)
    names = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert names == ["mine.tar", "shards.json", "test-000000.tar", "test-000001.tar"]
    assert write_shards(tmp_path, [], 2) == []


def test_what_cannot_be_put_into_shards(tmp_path):
    rows = filled(tmp_path, 3)
    with pytest.raises(ConfigError, match="at least one"):
        write_shards(tmp_path, rows, 0)
    write_shards(tmp_path, rows, 1)
    for changes in ({"label": 1}, {"group": "g9"}, {"method": "real"}, {"dataset": "mine"}):
        with pytest.raises(ManifestError, match=f"its file gives {next(iter(changes))}"):
            write_shards(tmp_path, [replace(rows[0], **changes)], 1)
    assert not (tmp_path / "shards" / "shards.json").exists()  # the set is not whole
    path = tmp_path / rows[0].store
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="has changed since it was written"):
        write_shards(tmp_path, rows, 1)
    path.write_bytes(data[:-1])
    with pytest.raises(StoreError, match="it ends inside"):
        write_shards(tmp_path, rows, 1)
    path.unlink()
    with pytest.raises(StoreError, match="no such file"):
        write_shards(tmp_path, rows, 1)


def test_a_full_disk(tmp_path, monkeypatch):
    rows = filled(tmp_path, 4)
    before = tree(tmp_path)
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OutputError, match=r"000000\.tar cannot be written: the disk is full"):
        write_shards(tmp_path, rows, 2)
    assert tree(tmp_path) == before
