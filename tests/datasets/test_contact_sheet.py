"""The page of a preprocessed corpus: what it shows, what it warns of, and that nothing in a corpus can harm it."""

from __future__ import annotations

import base64
import random
import re
import unicodedata
from dataclasses import replace

import cv2
import numpy as np
import pytest
import readpage
from stored import BOXES_SHA, JPEG, PNG, REUSING, SHA, SIDE, full_disk, item, tree

from deepscan.datasets import contact_sheet
from deepscan.datasets.contact_sheet import write_contact_sheet
from deepscan.datasets.store.manifest import Failure, ManifestRow
from deepscan.datasets.store.store import StoreSettings, write_store
from deepscan.errors import OutputError
from deepscan.extract.people import Extraction, Person
from deepscan.types import Face, MediaInfo, Sighting, Track


class Page(readpage.Page):
    """The sections of a page, the pictures below each heading and their captions."""

    def __init__(self, data: bytes) -> None:
        self.sections, self.grids, self.captions = {}, {}, []
        self._section = ""
        super().__init__(data)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "figcaption":
            self.captions.append("")
        if tag == "h2":
            self._section = attributes.get("id", self._section)
        super().handle_starttag(tag, attrs)
        if tag not in readpage.INLINE | {"path"}:
            self.handle_data(" ")
        if tag == "img":
            self.grids.setdefault(self.headings[-1][1].strip(), []).append(attributes)

    def handle_data(self, data):
        super().handle_data(data)
        if self.open and self.open[-1] in ("style", "title"):
            return
        if "figcaption" in self.open:
            self.captions[-1] += data
        self.sections[self._section] = self.sections.get(self._section, "") + data

    def section(self, name):
        return " ".join(self.sections[name].split())


def decode(image):
    """The picture behind an <img>, RGB."""
    head, data = image["src"].split(",", 1)
    assert head == "data:image/jpeg;base64"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
    return picture[..., ::-1]


def people_found(
    n=3,
    *,
    colour=None,
    size_px=100.0,
    confidence=0.99,
    brightness=120.0,
    side=SIDE,
    people=1,
    only_second=False,
    **media,
):
    """People seen in `n` frames each, all alike, or all but the second at their best; crops are shades of a colour."""
    crops = np.empty((people * n, side, side, 3), np.uint8)
    for index in range(people * n):
        crops[index] = shade(60 if colour is None else colour, index)
    sightings = []
    for index in range(n):
        best = only_second and index != 1
        seen = (200.0, 1.0, 200.0) if best else (size_px, confidence, brightness)
        face = Face((0.0, 0.0, seen[0], 1.3 * seen[0]), seen[1], np.zeros((5, 2), np.float32))
        sightings.append(Sighting(index, index / 4, face, seen[2]))
    media = {"width_px": 320, "height_px": 240, "duration_s": 10.0, **media}
    return Extraction(
        MediaInfo(None, "video", n_frames=77, **media),
        tuple(Person(Track(k + 1, tuple(sightings)), crops[k * n : (k + 1) * n]) for k in range(people)),
        32,
        30,
        n * people,
        99.5,
        120.25,
        {},
    )


def shade(colour, index):
    """The colour of the crop at `index`, counted through all people."""
    return (np.asarray(colour, int) + 40 * index) % 256


def stored(folder, name, label, *, settings=PNG, split="train", boxes_sha256=None, **facts):
    """The row of a video whose file is in the store."""
    method = "real" if label == 0 else "fake"
    extraction = people_found(**facts)
    clip = item(name, label=label, method=method, split=split)
    path = write_store(folder, clip, SHA, settings, extraction, boxes_sha256=boxes_sha256)
    n_tracks = len(extraction.people)
    return ManifestRow.of(clip, "ok", store=path.relative_to(folder).as_posix(), n_frames=32, n_tracks=n_tracks)


def corpus(folder, n_real=4, n_fake=4, **facts):
    named = [(f"r{n}", 0) for n in range(n_real)] + [(f"f{n}", 1) for n in range(n_fake)]
    return [stored(folder, f"part/{name}", label, **facts) for name, label in named]


def lost(name, status="skipped", reason="no_face", label=0):
    clip = item(name, label=label, method="real" if label == 0 else "fake")
    return ManifestRow.of(clip, status, reason, n_frames=32)


def page(folder, rows, failures=(), **options):
    path = write_contact_sheet(folder, rows, failures, **options)
    assert path == folder / "report.html"
    return Page(path.read_bytes())


# What is on it


def test_counts_and_tables(tmp_path):
    rows = [
        *corpus(tmp_path, 3, 2, n=4, people=2),
        stored(tmp_path, "v", 1, split="val"),
        lost("s"),
        lost("f", "failed", "unreadable", label=1),
    ]
    shown = page(tmp_path, rows)
    tiles = "Videos 8 Usable 6 75.0 % No usable face 1 12.5 % Failed 1 12.5 % People 11 tracks Crops 43 "
    assert tiles + "Usable real 3 50.0 % Usable fake 3 50.0 %" in shown.text
    counts = shown.section("counts")
    assert "train 3 2 40.0 % val 0 1 100.0 %" in counts
    assert "dfdc fake fake train 3 2 (66.7 %) 0 1 4" in counts
    assert "dfdc fake fake val 1 1 (100.0 %) 0 0 1" in counts
    assert "dfdc real real train 4 3 (75.0 %) 1 0 6" in counts
    assert "All 8 6 (75.0 %) 1 1 11" in counts
    assert "There is no usable real video in val." in shown.section("warnings")
    assert "32 frames a video; faces from 40 px and confidence 0.9; crops of 32 px, upright" in shown.text


def test_every_crop_is_of_the_video_it_is_said_to_be_of(tmp_path):
    colours = {f"v{n}": tuple(random.Random(n).choices(range(256), k=3)) for n in range(6)}
    rows = [stored(tmp_path, f"part/{name}", n % 2, colour=c, people=2) for n, (name, c) in enumerate(colours.items())]
    shown = page(tmp_path, rows)
    grids = shown.grids
    assert {title: len(images) for title, images in grids.items()} == {
        "Lowest detector confidence": 6,
        "Smallest faces": 6,
        "Darkest crops": 6,
        "Real": 3 * 2 * 3,  # videos of two people in three crops each
        "Fake": 3 * 2 * 3,
    }
    for title, images in grids.items():
        for image in images:
            match = re.fullmatch(r"Crop of part/(v\d), track ([12]) at (0\.\d\d) s", image["alt"])
            name, track, time_s = match.groups()
            expected = shade(colours[name], 3 * (int(track) - 1) + round(4 * float(time_s)))
            assert np.abs(decode(image).mean((0, 1)) - expected).max() < 4
            if title in ("Real", "Fake"):
                assert int(name[1]) % 2 == (title == "Fake")
    for title in ("Real", "Fake"):
        assert len({image["alt"] for image in grids[title]}) == 18


def test_a_crop_tells_where_it_is_from(tmp_path):
    rows = [stored(tmp_path, "part/clip", 1, n=1, size_px=83.6, confidence=0.98765, people=2)]
    rows[0] = replace(rows[0], method="Face2Face")
    shown = page(tmp_path, rows, per_label=1)
    titles = [a["title"] for a in shown.all("figure") if "title" in a]
    assert titles[0] == (
        "dfdc part/clip: fake, Face2Face; track 1 of 2 at 0.00 s; face 84 px, confidence 0.9877, brightness 120"
    )
    captions = [" ".join(caption.split()) for caption in shown.captions]
    assert captions[0] == "clip fake, Face2Face track 1 · 0.00 s 84 px · 0.988"
    assert "clip fake, Face2Face track 1 · 0.00 s 84 px · 0.988 brightness 120" in captions


def test_the_worst_come_first_and_once_a_video(tmp_path):
    rows = corpus(tmp_path, 15, 15)
    rows.append(stored(tmp_path, "unsure", 1, confidence=0.91, only_second=True))
    rows.append(stored(tmp_path, "small", 0, size_px=41.0, only_second=True))
    rows.append(stored(tmp_path, "dark", 1, brightness=17.0, only_second=True))
    grids = page(tmp_path, rows, per_label=0).grids
    for title, name in {
        "Lowest detector confidence": "unsure",
        "Smallest faces": "small",
        "Darkest crops": "dark",
    }.items():
        names = [image["alt"].split(",")[0] for image in grids[title]]
        assert grids[title][0]["alt"] == f"Crop of {name}, track 1 at 0.25 s"
        assert len(set(names)) == len(names) == 20
    assert "Real" not in grids


def test_large_crops_are_scaled_down(tmp_path):
    settings = JPEG.model_copy(update={"crop": JPEG.crop.model_copy(update={"size_px": 256})})
    rows = corpus(tmp_path, 1, 1, settings=settings, side=256)
    for images in page(tmp_path, rows).grids.values():
        assert {decode(image).shape for image in images} == {(112, 112, 3)}


def test_skipped_and_failed_with_their_first_examples(tmp_path):
    rows = [lost(f"s{n:02d}") for n in range(25)] + [lost("t", reason="too_dark")]
    failures = [Failure("dfdc", f"f{n:02d}", f"/in/f{n}.mp4", "unreadable", f"it is cut off ({n})") for n in range(21)]
    failures.append(Failure("dfdc", "", "/in/metadata.json", "broken_metadata", "no JSON"))
    shown = page(tmp_path, rows, [*failures, failures[0]])
    section = shown.section("lost")
    assert "no_face 25, of which the first 20 s00 s01 s02" in section
    assert "s19 too_dark 1 t" in section
    assert "unreadable 21, of which the first 20 Video or file What happened f00 it is cut off (0) f01" in section
    assert "f20" not in section
    assert "broken_metadata 1 Video or file What happened /in/metadata.json no JSON" in section


def test_the_distributions(tmp_path):
    rows = [*corpus(tmp_path, 2, 2, size_px=80.0), stored(tmp_path, "image", 0, size_px=90.0, duration_s=None)]
    section = page(tmp_path, rows).section("distributions")
    assert "Face size, px shorter side of the box, mean over the crops" in section
    assert "real: median 80 px (3) fake: median 80 px (2) KS 0.33" in section
    assert "Duration, s images have none 50 % 100 % 9.95 10.00 real: median 10.0 s (2) fake: median" in section


# What it warns of


def test_a_quantity_that_tells_real_from_fake(tmp_path):
    rows = [stored(tmp_path, f"r{n}", 0, n=1, size_px=150.0 + n % 7, brightness=100.0 + n % 9) for n in range(30)]
    rows += [stored(tmp_path, f"f{n}", 1, n=1, size_px=90.0 + n % 7, brightness=100.0 + n % 9) for n in range(30)]
    rows.append(stored(tmp_path, "v", 1, n=1, split="val"))
    rows.append(stored(tmp_path, "w", 0, n=1, split="val"))
    shown = page(tmp_path, rows)
    section = shown.section("warnings")
    assert "Face size differs between real and fake: medians 153 px and 93 px, KS" in section
    assert "A detector can learn it instead of the manipulation." in section
    assert section.count("differs") == 1
    assert shown.section("distributions").count("\u2013 differs") == 1


def test_files_of_different_settings(tmp_path):
    rows = [*corpus(tmp_path, 2, 2), stored(tmp_path, "other", 0, settings=JPEG)]
    shown = page(tmp_path, rows)
    assert "Videos were extracted with different settings." in shown.section("warnings")
    assert "as PNG" in shown.text
    assert "as JPEG of quality 95" in shown.text


def test_fakes_cut_at_the_boxes_of_their_originals_are_of_the_same_settings(tmp_path):
    rows = [stored(tmp_path, "r", 0, settings=REUSING)]
    rows.append(stored(tmp_path, "f", 1, settings=REUSING, boxes_sha256=BOXES_SHA))
    shown = page(tmp_path, rows)
    assert "different settings" not in shown.text
    assert shown.text.count("Settings:") == 1
    assert "1 of the 1 fakes looked at are cut at the faces of their originals" in shown.text
    assert "cut at the faces of their originals" not in page(tmp_path, rows[:1]).text


def test_nothing_to_warn_of(tmp_path):
    rows = [*corpus(tmp_path, 2, 2), stored(tmp_path, "v", 0, split="val"), stored(tmp_path, "w", 1, split="val")]
    shown = page(tmp_path, rows)
    assert "warnings" not in shown.sections
    assert "give no reason to warn" in shown.text


# Files that cannot be read


def test_files_that_are_missing_damaged_or_of_another_video(tmp_path, caplog):
    rows = corpus(tmp_path, 4, 4)
    files = [tmp_path / row.store for row in rows]
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-600])
    rows[2] = replace(rows[2], label=1)
    rows[3] = replace(rows[3], store=rows[4].store)
    data = files[5].read_bytes()
    start = data.index(b"\x89PNG")
    files[5].write_bytes(data[: start + 60] + b"\x00\x01" + data[start + 62 :])
    shown = page(tmp_path, rows)
    assert "5 of 8 files looked at are missing or damaged." in shown.section("warnings")
    section = shown.section("lost")
    assert f"part/r0 {rows[0].store} there is no such file" in section
    assert f"part/r1 {rows[1].store} it ends inside of" in section
    assert f"part/r2 {rows[2].store} its video or label is not that of the manifest" in section
    assert f"part/r3 {rows[3].store} its video or label is not that of the manifest" in section
    assert re.search(rf"part/f1 {re.escape(rows[5].store)} \S+ has changed since it was written", section)
    alts = [image["alt"] for images in shown.grids.values() for image in images]
    assert {alt.split(",")[0] for alt in alts} == {f"Crop of part/f{n}" for n in (0, 2, 3)}
    assert str(tmp_path) not in shown.source
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == 5
    assert any(text.startswith(f"{files[0]} cannot be read: there is no such file.") for text in warned)


def test_a_store_that_is_gone(tmp_path, caplog):
    rows = [ManifestRow.of(item(f"v{n}"), "ok", store=f"store/{n}.tar", n_tracks=1) for n in range(30)]
    shown = page(tmp_path, rows)
    assert "Missing or damaged of 30 looked at: 30, of which the first 20" in shown.text
    assert shown.grids == {}
    assert "No values." in shown.section("distributions")
    assert [r.getMessage() for r in caplog.records][20:] == ["10 more files of the store cannot be read"]


# Small, lopsided and large corpora


def test_an_empty_manifest(tmp_path):
    shown = page(tmp_path, [])
    assert "There is nothing to train on. No video has a usable face." in shown.section("warnings")
    assert "Videos 0 Usable 0 0.0 %" in shown.text
    assert shown.grids == {}


@pytest.mark.parametrize(("label", "name", "other"), [(0, "real", "Fake"), (1, "fake", "Real")])
def test_only_one_label(tmp_path, label, name, other):
    shown = page(tmp_path, [stored(tmp_path, f"v{n}", label) for n in range(3)])
    assert f"All usable videos are {name}. A detector needs both labels" in shown.section("warnings")
    assert other not in shown.grids
    assert f"{other} None." in shown.section("drawn")
    assert "KS 0" not in shown.text


def test_a_large_corpus_is_sampled_half_of_each_label(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "SAMPLE_VIDEOS", 8)
    rows = corpus(tmp_path, 6, 20, n=2)
    shown = page(tmp_path, rows, seed=5)
    assert "show 8 of 26 usable videos (4 real, 4 fake), drawn at random with seed 5; counts are of all" in shown.text
    assert "Crops ≈ 52 estimated" in shown.text
    assert "20 76.9 %" in shown.text
    names = {image["alt"].split(",")[0] for images in shown.grids.values() for image in images}
    assert len(names) == 8
    few = page(tmp_path, rows[:1] + rows[6:], seed=5)
    assert "show 8 of 21 usable videos (1 real, 7 fake)" in few.text
    (tmp_path / rows[0].store).unlink()  # of what is not looked at nothing is read
    (tmp_path / rows[25].store).unlink()
    monkeypatch.setattr(contact_sheet, "SAMPLE_VIDEOS", 0)
    assert "missing" not in page(tmp_path, rows).section("warnings")


def test_crops_a_label(tmp_path):
    rows = corpus(tmp_path, 4, 4, n=5)
    grids = page(tmp_path, rows, per_label=6).grids
    assert len(grids["Real"]) == len(grids["Fake"]) == 6
    assert len({image["alt"].split(",")[0] for image in grids["Real"][:4]}) == 4


def test_the_same_store_gives_the_same_bytes_wherever_it_lies(tmp_path):
    pages = []
    for name, seed in (("a", 0), ("b", 0), ("b", 1)):
        folder = tmp_path / name
        rows = [*corpus(folder, 5, 5), *(lost(f"s{n}") for n in range(9)), lost("t", reason="too_dark")]
        failures = [Failure("dfdc", f"f{n}", "/in", "unreadable", "cut off") for n in range(3)]
        if name == "b":
            random.Random(1).shuffle(rows)
            failures.reverse()
        write_contact_sheet(folder, rows, failures, seed=seed, per_label=3)
        pages.append((folder / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert Page(pages[1]).grids["Real"] != Page(pages[2]).grids["Real"]
    assert Page(pages[1]).grids["Smallest faces"] == Page(pages[2]).grids["Smallest faces"]


# Names from strangers


HOSTILE = [
    "<script>alert(1)</script>",
    "a\"><img src=x onerror='alert(1)'>",
    "&lt;b&gt; {{ 7 * 7 }} {% raw %}",
    "caf\udce9\udcff\ud800.mp4",
    "line\nend\x00\x1b[31m\x7f\x85\u2028",
    "\u202egpj.exe\u2066 \u200f",
    "</title></style></table></html>",
    "x" * 100_000,
    "",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_stay_text(tmp_path, name):
    harmless = page(tmp_path, rows_named(tmp_path / "a", "name"), [Failure(*["name"] * 5)])
    shown = page(tmp_path, rows_named(tmp_path, name), [Failure(*[name] * 5)])
    assert [tag for tag, _ in shown.tags] == [tag for tag, _ in harmless.tags]
    assert [sorted(attributes) for _, attributes in shown.tags] == [sorted(a) for _, a in harmless.tags]
    assert not [c for c in shown.source if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")]
    assert not re.search("[\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]", shown.source)
    assert len(shown.source) < len(harmless.source) + 50_000


def rows_named(folder, name):
    """A row of each status, with this name wherever a row has one; the store lies two folders up from "a"."""
    folder = folder.parent if folder.name == "a" else folder
    clip = item("clip", method="fake")
    clip = replace(clip, video_id=name, dataset=name, method=name, group=name)
    path = write_store(folder, clip, SHA, PNG, people_found(1))
    ok = ManifestRow.of(clip, "ok", store=path.relative_to(folder).as_posix(), n_frames=32, n_tracks=1)
    skipped = ManifestRow.of(replace(clip, video_id=f"{name}2"), "skipped", name or "reason", n_frames=32)
    gone = replace(ok, video_id=f"{name}3", store="store/00/gone.tar")
    return [ok, skipped, gone]


def test_names_are_written_as_in_the_manifest(tmp_path):
    name = "<b>caf\udce9\\ & \u202e\"'"
    shown = page(tmp_path, rows_named(tmp_path, name))
    written = "<b>caf\\udce9\\\\ & \\u202e\"'"
    assert f"Crop of {written}, track 1 at 0.00 s" in {i["alt"] for g in shown.grids.values() for i in g}
    assert f"{written}2" in shown.section("lost")
    assert f"{written} {written}" in shown.section("counts")


def test_numbers_beyond_all_measure(tmp_path):
    rows = [
        *corpus(tmp_path, 2, 2),
        stored(tmp_path, "huge", 0, size_px=1e308, brightness=1e300, confidence=-1e300, duration_s=1e300),
        stored(tmp_path, "none", 1, size_px=-1e308, brightness=-1.0, width_px=-5, height_px=10**30, duration_s=0.0),
    ]
    shown = page(tmp_path, rows)
    assert len(shown.grids["Smallest faces"]) == 6
    assert not re.search(r"\b(nan|inf)\b|e\+", shown.text)


# The page itself


@pytest.fixture
def whole(tmp_path):
    rows = [*corpus(tmp_path, 4, 9), lost("s"), lost("f", "failed", "unreadable"), replace(lost("g"), split=None)]
    rows.append(ManifestRow.of(item("gone"), "ok", store="store/00/gone.tar", n_tracks=1))
    return page(tmp_path, rows, [Failure("dfdc", "f", "/in/f.mp4", "unreadable", "cut off")])


def test_it_keeps_the_rules_of_every_page(whole):
    readpage.check(whole)
    assert not whole.script
    assert all(attributes["alt"].strip() for attributes in whole.all("img"))


def test_a_full_disk_leaves_the_older_page(tmp_path, monkeypatch):
    rows = corpus(tmp_path, 1, 1)
    write_contact_sheet(tmp_path, rows, [])
    before = tree(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full_disk)
        with pytest.raises(OutputError, match=r"report\.html cannot be written: the disk is full"):
            write_contact_sheet(tmp_path, rows[:1], [])
    assert tree(tmp_path) == before


def test_the_page_of_the_default_settings_is_small(tmp_path):
    side = StoreSettings().crop.size_px
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
    rows = [stored(tmp_path, f"v{n}", n % 2, settings=StoreSettings(), side=side, n=4, colour=noise) for n in range(24)]
    shown = page(tmp_path, rows)
    assert len(shown.all("img")) == 60 + 96
    assert len(shown.source) < 4_000_000
