"""Converted networks on disk: where, whole or not at all, and never the reason for a failure."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import pytest

from deepscan.runtimes import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPSCAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def read(path):
    entry = cache.read_entry(path)
    return None if entry is None else (entry[0], bytes(entry[1]))


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/deepscan"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/deepscan"),
        ("linux", {"XDG_CACHE_HOME": "xdg", "DEEPSCAN_CACHE": "own"}, "own"),
        ("darwin", {"XDG_CACHE_HOME": "xdg"}, "home/Library/Caches/deepscan"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/deepscan/Cache"),
        ("win32", {}, "home/AppData/Local/deepscan/Cache"),
    ],
)
def test_the_folder_is_the_systems_place_for_caches(monkeypatch, platform, variables, expected):
    for name in ("DEEPSCAN_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: Path("home"))
    assert cache.cache_folder() == Path(expected)


def test_a_network_comes_back_as_it_was_written(folder):
    path = cache.entry_path("timm:vit/14 \n", "key")
    assert path.parent == folder / "networks"
    assert path.name.startswith("timm_vit_14_-")
    assert read(path) is None
    cache.write_entry(path, b"<net/>\n\n", b"\x00weights\n")
    assert read(path) == (b"<net/>\n\n", b"\x00weights\n")
    cache.write_entry(path, b"<net2/>", b"")
    assert read(path) == (b"<net2/>", b"")
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing is left of the writing


def test_every_key_has_its_own_file():
    assert len({cache.entry_path("a", "1"), cache.entry_path("a", "2"), cache.entry_path("b", "1")}) == 3


@pytest.mark.parametrize("position", [0, 25, 90, -1])
def test_a_changed_byte_is_seen(caplog, position):
    path = cache.entry_path("net", "key")
    cache.write_entry(path, b"<net/>", b"weights")
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with caplog.at_level(logging.INFO, "deepscan"):
        assert read(path) is None
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n", b"deepscan.network/1 \n", b"deepscan.network/1 ff x\n", b"{}" * 99])
def test_a_file_that_is_no_network(content):
    path = cache.entry_path("net", "key")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert read(path) is None


@pytest.mark.parametrize("keep", [10, 100, -1])
def test_half_a_file(keep):
    path = cache.entry_path("net", "key")
    cache.write_entry(path, b"<net/>", b"weights" * 20)
    path.write_bytes(path.read_bytes()[:keep])
    assert read(path) is None


def test_a_folder_that_cannot_be_made_costs_nothing_but_the_copy(folder, caplog):
    folder.write_text("a file in its place")
    path = cache.entry_path("net", "key")
    with caplog.at_level(logging.INFO, "deepscan"):
        cache.write_entry(path, b"<net/>", b"weights")
        cache.write_note(path, "why")
    assert [r.levelno for r in caplog.records if "is not kept" in r.getMessage()] == [logging.INFO]
    assert read(path) is None
    assert cache.read_note(path) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_folder_that_is_read_only(folder, caplog):
    path = cache.entry_path("net", "key")
    cache.write_entry(path, b"<net/>", b"weights")
    path.parent.chmod(0o555)
    try:
        with caplog.at_level(logging.INFO, "deepscan"):
            cache.write_entry(cache.entry_path("other", "key"), b"<net/>", b"weights")
        assert "is not kept" in caplog.text
        assert read(path) == (b"<net/>", b"weights")
    finally:
        path.parent.chmod(0o755)


def test_notes_go_when_the_network_comes():
    path = cache.entry_path("net", "key")
    cache.write_note(path, "no such operation")
    assert cache.read_note(path) == "no such operation"
    cache.write_entry(path, b"<net/>", b"")
    assert cache.read_note(path) is None
