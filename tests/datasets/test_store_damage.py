"""Files of the store that are damaged, or were made to do harm: refused in words, and nothing else happens."""

from __future__ import annotations

import io
import tarfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import ITEM, JPEG, PNG, SHA, SIDE, extraction, rewrite, with_json

from deepscan.datasets.store import archive
from deepscan.datasets.store.archive import StoreError, list_members
from deepscan.datasets.store.store import read_store, write_store

reused_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)


@pytest.fixture
def written(tmp_path):
    return write_store(tmp_path, ITEM, SHA, PNG, extraction())


def test_cut_short_anywhere(written):
    data = written.read_bytes()
    for length in [*range(0, len(data), 311), *range(len(data) - 1600, len(data), 64), len(data) - 1]:
        written.write_bytes(data[:length])
        with pytest.raises(StoreError, match=r"is damaged or no file of the store.*run the preprocessing again"):
            read_store(written)
    written.write_bytes(data)
    read_store(written)


@pytest.mark.parametrize("more", [b"x", bytes(512), bytes(9216)])
def test_bytes_after_the_end(written, more):
    written.write_bytes(written.read_bytes() + more)
    with pytest.raises(StoreError, match="does not end where"):
        read_store(written)


@reused_folder
@given(st.data())
def test_changed_bytes_are_noticed_or_harmless(tmp_path, data):
    """No byte of a crop can change unseen, and whatever changes, nothing but a StoreError comes of it."""
    path = write_store(tmp_path, ITEM, SHA, JPEG, extraction((1, 1)))
    before = [track.crops() for track in read_store(path).tracks]
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= data.draw(st.integers(1, 255))
    in_crop = any(m.offset <= position < m.offset + m.size for m in list_members(path) if m.name.endswith(".jpg"))
    path.write_bytes(content)
    try:
        crops = [track.crops() for track in read_store(path).tracks]
    except StoreError:
        return
    assert not in_crop
    assert all(np.array_equal(a, b) for a, b in zip(crops, before, strict=True))


def entry(name, kind=tarfile.REGTYPE, data=b"x", **more):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data) if kind == tarfile.REGTYPE else 0
    for key, value in more.items():
        setattr(info, key, value)
    return info, data if kind == tarfile.REGTYPE else b""


@pytest.mark.parametrize(
    "hostile",
    [
        [entry("a.json", tarfile.SYMTYPE, linkname="/etc/passwd")],
        [entry("a.json", tarfile.LNKTYPE, linkname="/etc/passwd")],
        [entry("a", tarfile.DIRTYPE)],
        [entry("a", tarfile.FIFOTYPE)],
        [entry("../../a.json")],
        [entry("/etc/a.json")],
        [entry("\u00e9" * 200 + ".json")],  # an extended header
        [entry("a.json", data=b"[" * 100_000)],
        [entry("a.json", data=b"null")],
        [entry("a.json", data=b"\xff\xfe")],
        [entry("a.txt")],
        [],
    ],
    ids=lambda entries: entries[0][0].name[:12] + str(entries[0][0].type) if entries else "empty",
)
def test_other_tars_are_refused(tmp_path, hostile):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive_:
        for info, data in hostile:
            archive_.addfile(info, io.BytesIO(data))
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + bytes(-len(data) % 512 + 1024))  # without the padding, which is refused for itself
    with pytest.raises(StoreError):
        read_store(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"x", b"L"]
)
def test_only_plain_files_are_members(written, kind):
    info = tarfile.TarInfo(list_members(written)[0].name)
    info.size = list_members(written)[0].size
    head = bytearray(info.tobuf())
    head[156:157] = kind
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    data = written.read_bytes()
    written.write_bytes(bytes(head) + data[512:])
    with pytest.raises(StoreError, match="is no plain file"):
        read_store(written)


@pytest.mark.parametrize(("name", "largest"), [("a.json", 1 << 24), ("a.png", 1 << 23)])
def test_members_too_large_to_be_ours(tmp_path, name, largest):
    info = tarfile.TarInfo(name)
    for size, why in ((largest, "not those that|JSON|whole tracks"), (largest + 1, "is no plain file of at most")):
        info.size = size
        with (tmp_path / "x").open("wb") as file:
            file.write(info.tobuf())
            file.truncate(512 + size + -size % 512 + 1024)
        with pytest.raises(StoreError, match=why):
            read_store(tmp_path / "x")


def test_a_size_beyond_the_file_reads_nothing(tmp_path):
    info = tarfile.TarInfo("a.json")
    for size in (1 << 24, 1 << 40):
        info.size = size
        (tmp_path / "x").write_bytes(info.tobuf() + bytes(1024))
        with pytest.raises(StoreError):
            read_store(tmp_path / "x")


@pytest.mark.parametrize("content", [b"", b"\0" * 1024, b"\x1f\x8b" + bytes(2000), b"not a tar " * 200])
def test_no_tars_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(StoreError):
        read_store(tmp_path / "x")


def test_nothing_there(tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(StoreError, match="no such file"):
            read_store(path)


def drop(index):
    return lambda pairs: pairs[:index] + pairs[index + 1 :]


def put(*keys, value):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return with_json(edit)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (drop(0), "not those that its JSON lists"),
        (drop(3), "not those that its JSON lists|not of the same video"),
        (drop(6), "1 whole tracks of 2"),
        (lambda pairs: pairs[:4], "1 whole tracks of 2"),
        (lambda pairs: pairs[4:], "not of the same video"),
        (lambda pairs: [*pairs[4:], *pairs[:4]], "not of the same video"),
        (lambda pairs: [pairs[1], pairs[0], *pairs[2:]], "not those that its JSON lists"),
        (lambda pairs: [*pairs, ("stray.png", b"")], "2 whole tracks"),
        (put("schema", value="deepscan.store/2"), "schema: Input should be"),
        (put("video", "label", value=2), "label"),
        (put("video", "sha256", value="cd" * 32), "key does not belong"),
        (put("settings", "frames", value=31), "key does not belong"),
        (put("settings", "crop", "size_px", value=1 << 20), "size_px"),
        (put("sightings", 0, "time_s", value=float("nan")), "time_s"),
        (put("sightings", 0, "landmarks", value=[[1, 2]]), "landmarks"),
        (put("sightings", value=[]), "sightings"),
        (put("extra", value=1), "extra"),
        (with_json(lambda content: content.update(number=content["number"] + 1)), "not of the same video"),
    ],
)
def test_members_that_do_not_fit_together(written, change, why):
    rewrite(written, change)
    with pytest.raises(StoreError, match=why) as caught:
        read_store(written)
    assert "\n" not in str(caught.value)


def test_a_rewrite_alone_is_fine(written):
    before = written.read_bytes()
    rewrite(written, list)
    assert written.read_bytes() == before


def fake_png(width, height):
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + head + zlib.crc32(head).to_bytes(4, "big")


def fake_jpeg(width, height):
    return b"\xff\xd8\xff\xc0\0\x11\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes(20)


@pytest.mark.parametrize(
    "crop",
    [
        fake_png(30_000, 30_000),
        fake_png(SIDE, SIDE),
        fake_png(SIDE, 2 * SIDE),
        fake_jpeg(65_000, 65_000),
        fake_jpeg(SIDE, SIDE),
        b"",
        b"BM" + bytes(100),
        b"\xff\xd8" + b"\xff\xe0\0\0" * 50,
    ],
)
def test_crops_that_are_none(written, crop, monkeypatch):
    """With a right checksum, so that only the picture itself is wrong."""
    opened = []
    decode = archive.cv2.imdecode
    monkeypatch.setattr(archive.cv2, "imdecode", lambda data, flags: opened.append(len(data)) or decode(data, flags))

    def change(pairs):
        first, *others = pairs
        edit = with_json(lambda content: content["sightings"][0].update(crc32=zlib.crc32(crop)))
        return [(first[0], crop), *edit(others)]

    rewrite(written, change)
    track = read_store(written).tracks[0]
    with pytest.raises(StoreError, match=f"no picture of {SIDE} x {SIDE} pixels"):
        track.crops()
    right_size = crop in (fake_png(SIDE, SIDE), fake_jpeg(SIDE, SIDE))
    assert bool(opened) == right_size  # the others are refused by their header
    assert track.crops([1, 2]).shape[0] == 2
