"""Array jobs and the joining of their tables."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stored import ITEM, item, tree

from deepscan.datasets.array_jobs import Share, merge_manifests
from deepscan.datasets.store.manifest import (
    Failure,
    ManifestError,
    ManifestRow,
    read_failures,
    read_manifest,
    write_failures,
    write_manifest,
)
from deepscan.errors import ConfigError


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
