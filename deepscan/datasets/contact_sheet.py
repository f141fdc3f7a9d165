"""The page to look at before training: ``report.html`` of an output folder, made by ``deepscan preprocess --report``.

It shows crops, first those most likely to be bad, what the labels differ in besides the manipulation, and what was
lost on the way. Counts are of the whole manifest. Crops and distributions are of a sample of :data:`SAMPLE_VIDEOS`
videos, so that the largest corpus takes seconds; which videos these are is a hash of their names and a seed, so that
the same store gives the same bytes.

The page is one file that loads nothing and runs nothing, with the style of the report
(:mod:`deepscan.report.html`). Names in it come from strangers and are written as in ``manifest.csv``.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from deepscan.datasets.dataset_stats import (
    LABEL_NAMES,
    Distribution,
    by_reason,
    count_rows,
    distribution,
    label_warnings,
    loss_warnings,
    percent,
)
from deepscan.datasets.store.archive import StoreError, damaged, escape_text, replacing
from deepscan.datasets.store.manifest import Failure, ManifestRow
from deepscan.datasets.store.store import StoredVideo, StoreSettings, read_store
from deepscan.report.html.figures import histogram
from deepscan.report.html.pictures import data_uri
from deepscan.report.html.render import render_page

log = logging.getLogger(__name__)

REPORT_NAME = "report.html"
SAMPLE_VIDEOS = 2000

_SUSPECTS = 20
_EXAMPLES = 20
_MOST_LINES = 100
_LONGEST_TEXT = 300
_CROP_SIDE_PX = 112


@dataclass(frozen=True, slots=True)
class _Crop:
    """One crop in its file: the track from 1, its place in the track, and what is known of it."""

    track: int
    index: int
    time_s: float
    size_px: float
    confidence: float
    brightness: float


@dataclass(frozen=True, slots=True)
class _Video:
    """What is kept of a video of the sample.

    Attributes:
        settings: it was extracted with, as for a video of its own boxes.
        reused: whether it was cut at the boxes of its original.
        measured: one value for each of :data:`_MEASURES`; None where it has none.
        drawn, worst: some of its crops at random, and the worst by each of :data:`_SUSPICIONS`.
    """

    row: ManifestRow
    settings: StoreSettings
    reused: bool
    n_crops: int
    measured: tuple[float | None, ...]
    drawn: tuple[_Crop, ...]
    worst: tuple[_Crop, ...]


@dataclass(frozen=True, slots=True)
class _Measure:
    """Something of a video that should not tell real from fake."""

    title: str
    unit: str
    digits: int
    note: str
    of: Callable[[StoredVideo, Sequence[_Crop]], float | None]
    counted: bool = False
    caveat: str = ""

    def text(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:,.{self.digits}f}" + (f"\u00a0{self.unit}" if self.unit else "")


@dataclass(frozen=True, slots=True)
class _Suspicion:
    """What bad crops have in common: the lowest values of ``field`` are shown."""

    title: str
    note: str
    field: str


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


_MEASURES = (
    _Measure(
        "Face size", "px", 0, "shorter side of the box, mean over the crops", lambda _, c: _mean(x.size_px for x in c)
    ),
    _Measure("Detector confidence", "", 4, "mean over the crops", lambda _, c: _mean(x.confidence for x in c)),
    _Measure("Brightness", "", 0, "luma, 0 to 255, mean over the crops", lambda _, c: _mean(x.brightness for x in c)),
    _Measure(
        "Detail",
        "KB",
        1,
        "mean size of a crop's file: small when blurred or strongly compressed",
        lambda s, _: _mean(m.size / 1000 for t in s.tracks for m in t.members),
        caveat="Some of this may be the manipulation itself.",
    ),
    _Measure("People per video", "", 0, "tracks; a cut starts new ones", lambda s, _: s.video.n_tracks, counted=True),
    _Measure(
        "Frames with a face",
        "%",
        0,
        "of the frames that were looked at",
        lambda s, _: 100 * _sane(s.video.frames_with_face) / max(1.0, _sane(s.video.frames_sampled)),
    ),
    _Measure("Frame size", "px", 0, "shorter side", lambda s, _: min(s.video.width_px, s.video.height_px)),
    _Measure("Duration", "s", 1, "images have none", lambda s, _: s.video.duration_s),
)
_SUSPICIONS = (
    _Suspicion("Lowest detector confidence", "often no face at all: patterns, hands, ears, pictures", "confidence"),
    _Suspicion("Smallest faces", "enlarged more than they can bear", "size_px"),
    _Suspicion("Darkest crops", "little but sensor noise to learn from", "brightness"),
)


def write_contact_sheet(
    folder: Path, rows: Sequence[ManifestRow], failures: Sequence[Failure], *, seed: int = 0, per_label: int = 48
) -> Path:
    """Write ``report.html``: counts, warnings, crops, distributions and failures of a preprocessed corpus.

    A file of the store that is missing or damaged is a line on the page and a warning in the log.

    Args:
        folder: of the output; the rows' ``store`` is relative to it.
        rows, failures: of its tables, in any order.
        seed: another seed shows other videos.
        per_label: crops shown at random of each label.

    Raises:
        OutputError: the page cannot be written; an older one is then as it was.
    """
    rows = sorted(rows, key=lambda row: row.identity)
    store = _Store(folder)
    usable = [row for row in rows if row.status == "ok"]
    sample = _sample(usable, seed)
    videos = _look(store, sample, seed, per_label)
    suspects = [(each, _suspects(store, videos, column)) for column, each in enumerate(_SUSPICIONS)]
    drawn = {name: _drawn(store, videos, label, per_label) for label, name in LABEL_NAMES.items()}
    store.warn()
    figures = _figures(videos)
    page = {
        "counts": count_rows(rows),
        "n_crops": _crop_count(usable, videos),
        "n_sampled": len(sample),
        "n_reused": sum(video.reused for video in videos),
        "n_looked": Counter(LABEL_NAMES[video.row.label] for video in videos),
        "seed": seed,
        "warnings": list(_warnings(rows, sample, videos, figures, len(store.damaged))),
        "settings": sorted({_settings_text(video.settings) for video in videos}),
        "suspects": suspects,
        "drawn": drawn,
        "figures": [(measure, values, _drawing(measure, values)) for measure, values in figures],
        "skipped": by_reason((row.reason or "", row.video_id, "") for row in rows if row.status == "skipped"),
        "failures": by_reason((f.reason, f.video_id or f.path, f.message) for f in sorted(set(failures))),
        "damaged": list(store.damaged.values()),
        "most_examples": _EXAMPLES,
        "most_lines": _MOST_LINES,
        "percent": percent,
        "short": _short,
    }
    template = files("deepscan.datasets").joinpath("contact_sheet.html.j2").read_text(encoding="utf-8")
    path = folder / REPORT_NAME
    with replacing(path) as file:
        file.write(render_page(template, **page).encode())
    return path


# Reading


class _Store:
    """Reads files and crops, and remembers which of them cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: dict[tuple[str, str], tuple[str, str, str]] = {}
        self._errors: list[StoreError] = []

    def read(self, row: ManifestRow) -> StoredVideo | None:
        """What the file of a row holds; None if it cannot be read."""
        if row.identity in self.damaged:
            return None
        path = self._path(row)
        try:
            stored = read_store(path)
            written = (stored.video.dataset, stored.video.video_id, stored.video.label)
            if written != (escape_text(row.dataset), escape_text(row.video_id), row.label):
                raise damaged(path, "its video or label is not that of the manifest")
        except StoreError as error:
            self._note(row, error)
            return None
        return stored

    def picture(self, row: ManifestRow, crop: _Crop) -> str | None:
        """A crop as the data URI of a small JPEG; None if it cannot be read."""
        stored = self.read(row)
        if stored is None:
            return None
        try:
            return data_uri(stored.tracks[crop.track - 1].crops([crop.index])[0], _CROP_SIDE_PX)
        except (StoreError, IndexError) as error:
            changed = damaged(self._path(row), "it has changed while it was looked at")
            self._note(row, error if isinstance(error, StoreError) else changed)
            return None

    def warn(self) -> None:
        """Log what could not be read."""
        for error in self._errors[:_EXAMPLES]:
            log.warning("%s", error)
        if len(self._errors) > _EXAMPLES:
            log.warning("%d more files of the store cannot be read", len(self._errors) - _EXAMPLES)

    def _path(self, row: ManifestRow) -> Path:
        return self.folder / (row.store or "")

    def _note(self, row: ManifestRow, error: StoreError) -> None:
        # Without its path: where the folder lies is nobody's business who is sent the page.
        self.damaged[row.identity] = (row.store or "", row.video_id, error.cause)
        self._errors.append(error)


def _digest(row: ManifestRow, seed: int) -> int:
    text = f"{seed}\0{row.dataset}\0{row.video_id}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())


def _sample(rows: Sequence[ManifestRow], seed: int) -> list[ManifestRow]:
    """At most :data:`SAMPLE_VIDEOS` rows in random order, half of each label as far as there are so many."""
    of = {label: [row for row in rows if row.label == label] for label in LABEL_NAMES}
    most = {label: max(SAMPLE_VIDEOS // 2, SAMPLE_VIDEOS - len(of[1 - label])) for label in LABEL_NAMES}
    return [
        row for label in LABEL_NAMES for row in sorted(of[label], key=lambda row: _digest(row, seed))[: most[label]]
    ]


def _look(store: _Store, sample: Sequence[ManifestRow], seed: int, per_label: int) -> list[_Video]:
    """What the files of the sample hold, in a few numbers each; those that cannot be read are left out."""
    # Of each video enough crops to fill the page, and as many again where some turn out to be damaged.
    n_drawn = {label: math.ceil(2 * per_label / max(1, n)) for label, n in Counter(r.label for r in sample).items()}
    videos = []
    for row in sample:
        stored = store.read(row)
        if stored is None:
            continue
        crops = [
            _Crop(number, index, *map(_sane, (s.time_s, s.face.size_px, s.face.confidence, s.brightness)))
            for number, track in enumerate(stored.tracks, 1)
            for index, s in enumerate(track.track.sightings)
        ]
        drawn = random.Random(_digest(row, seed)).sample(crops, min(len(crops), n_drawn[row.label]))
        worst = tuple(min(crops, key=lambda crop: getattr(crop, each.field)) for each in _SUSPICIONS)
        values = [measure.of(stored, crops) for measure in _MEASURES]
        measured = tuple(None if value is None else _sane(value) for value in values)
        settings, reused = stored.settings.for_boxes(None), stored.video.boxes == "original"
        videos.append(_Video(row, settings, reused, len(crops), measured, tuple(drawn), worst))
    return videos


def _sane(value: float) -> float:
    """Within what can be real: a file may say anything, and no number in it may spoil the page."""
    return float(min(max(value, 0.0), 1e6))


def _suspects(store: _Store, videos: Sequence[_Video], column: int) -> list[dict[str, Any]]:
    """The worst crops by one suspicion, at most one of a video: a single bad clip would fill the page."""
    field = _SUSPICIONS[column].field
    ordered = sorted(videos, key=lambda video: (getattr(video.worst[column], field), video.row.identity))
    return _shown(store, ((video.row, video.worst[column]) for video in ordered), _SUSPECTS)


def _drawn(store: _Store, videos: Sequence[_Video], label: int, count: int) -> list[dict[str, Any]]:
    """Crops at random: one of each video, then a second one of each, until there are enough."""
    each = [[(video.row, crop) for crop in video.drawn] for video in videos if video.row.label == label]
    rounds = chain.from_iterable(zip_longest(*each))
    return _shown(store, (pair for pair in rounds if pair is not None), count)


def _shown(store: _Store, crops: Iterator[tuple[ManifestRow, _Crop]], count: int) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []
    while len(shown) < count and (pair := next(crops, None)):
        if picture := store.picture(*pair):
            shown.append({"row": pair[0], "crop": pair[1], "label": LABEL_NAMES[pair[0].label], "picture": picture})
    return shown


# What is said of it


def _crop_count(usable: Sequence[ManifestRow], videos: Sequence[_Video]) -> int:
    """Crops of all usable videos: estimated, to two digits, where not all were looked at."""
    total = 0.0
    for label, n in Counter(row.label for row in usable).items():
        n_crops = [video.n_crops for video in videos if video.row.label == label]
        total += n * sum(n_crops) / len(n_crops) if n_crops else 0
    return round(total if len(videos) == len(usable) else float(f"{total:.2g}"))


def _figures(videos: Sequence[_Video]) -> list[tuple[_Measure, Distribution | None]]:
    """The distribution of every measure by label, each video counted once."""
    figures = []
    for column, measure in enumerate(_MEASURES):
        groups: dict[str, list[float]] = {name: [] for name in LABEL_NAMES.values()}
        for video in videos:
            if (value := video.measured[column]) is not None:
                groups[LABEL_NAMES[video.row.label]].append(value)
        figures.append((measure, distribution(groups, integers=measure.counted)))
    return figures


def _warnings(
    rows: Sequence[ManifestRow],
    sample: Sequence[ManifestRow],
    videos: Sequence[_Video],
    figures: Sequence[tuple[_Measure, Distribution | None]],
    n_damaged: int,
) -> Iterator[tuple[str, str]]:
    """What a person should know before training: what is the case, and what it means."""
    yield from label_warnings(rows)
    yield from loss_warnings(rows)
    if n_damaged:
        damage = f"{n_damaged:,} of {len(sample):,} files looked at are missing or damaged."
        yield damage, "They are listed below; run the preprocessing again to have them made anew."
    if len({video.settings for video in videos}) > 1:
        yield "Videos were extracted with different settings.", "Run the preprocessing again, for all with the same."
    for measure, values in figures:
        if values and values.differs:
            medians = " and ".join(measure.text(each.median) for each in values.histograms)
            summary = f"{measure.title} differs between real and fake: medians {medians}, KS {values.ks:.2f}."
            yield summary, f"A detector can learn it instead of the manipulation. {measure.caveat}".strip()


def _settings_text(settings: StoreSettings) -> str:
    crop, face = settings.crop, settings.face
    aligned = "upright" if crop.align == "none" else f"aligned by the {crop.align}"
    kept = "PNG" if settings.image == "png" else f"JPEG of quality {settings.jpeg_quality}"
    return (
        f"{settings.frames:,} frames a video; faces from {face.min_face_px} px and confidence "
        f"{face.min_confidence:g}; crops of {crop.size_px} px, {aligned}, margin {crop.margin:g}, as {kept}"
    )


def _drawing(measure: _Measure, values: Distribution | None) -> str:
    if values is None:
        return ""
    medians = (
        f"{h.group.capitalize()}: median {measure.text(h.median)} of {h.count:,} videos." for h in values.histograms
    )
    label = f"Histogram of {measure.title.lower()}. {' '.join(medians)}"
    return histogram([(h.group, h.shares) for h in values.histograms], values.ticks, label=label)


def _short(text: str) -> str:
    """A text as in ``manifest.csv``, without its middle if it is very long."""
    text = escape_text(text)
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]}\u2026{text[-half:]}"
